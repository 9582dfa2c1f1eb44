"""The report of a run, as one self-contained HTML page, Markdown and JSON."""

from raytrain.report.gather import gather
from raytrain.report.html import render_html
from raytrain.report.markdown import render_markdown
from raytrain.report.model import ReportData
from raytrain.report.write import render_json, write

__all__ = ["ReportData", "gather", "render_html", "render_json", "render_markdown", "write"]
