"""Checks what a job would do without running it: read-only, no Ray, no torch."""

from raytrain.check.checker import check
from raytrain.check.report import CheckReport, TaskCheck

__all__ = ["CheckReport", "TaskCheck", "check"]
