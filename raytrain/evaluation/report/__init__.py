"""The report: what a run left in storage, as one self-contained HTML page, Markdown and JSON."""

from raytrain.evaluation.report.gather import gather
from raytrain.evaluation.report.html import render_html
from raytrain.evaluation.report.markdown import render_markdown
from raytrain.evaluation.report.model import ReportData
from raytrain.evaluation.report.write import render_json, write

__all__ = ["ReportData", "gather", "render_html", "render_json", "render_markdown", "write"]
