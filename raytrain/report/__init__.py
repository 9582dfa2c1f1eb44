"""The report of a run, as one self-contained HTML page, Markdown and JSON."""

from raytrain.report.gather import gather
from raytrain.report.html import render_html
from raytrain.report.markdown import render_markdown
from raytrain.report.model import ReportData
from raytrain.report.write import add_choices, render_json, review_page, write

__all__ = [
    "ReportData",
    "add_choices",
    "gather",
    "render_html",
    "render_json",
    "render_markdown",
    "review_page",
    "write",
]
