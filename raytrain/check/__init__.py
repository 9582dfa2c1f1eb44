"""What a job would do, without doing it: read-only, no Ray, no torch, nothing written."""

from raytrain.check.checker import check
from raytrain.check.result import CheckReport, TaskReport

__all__ = ["CheckReport", "TaskReport", "check"]
