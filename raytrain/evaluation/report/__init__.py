"""The report: what a run left in storage, as one self-contained HTML page, Markdown and JSON."""

from raytrain.evaluation.report.gather import gather
from raytrain.evaluation.report.model import ReportData

__all__ = ["ReportData", "gather"]
