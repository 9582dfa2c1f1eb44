"""What a document would do, without doing it: read-only, no Ray, no torch, nothing written."""

from raytrain.check.checking import check
from raytrain.check.report import CheckReport, TaskReport

__all__ = ["CheckReport", "TaskReport", "check"]
