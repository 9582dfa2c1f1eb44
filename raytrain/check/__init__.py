"""What a job would do, without doing it: read-only, no Ray, no torch, nothing written."""

from raytrain.check.checker import check
from raytrain.check.report import CheckReport, TaskCheck

__all__ = ["CheckReport", "TaskCheck", "check"]
