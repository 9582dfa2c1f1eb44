"""Writes the report of a run into storage: gather, render three formats, commit."""

from collections.abc import Callable

from raytrain.config.run_layout import RunLayout
from raytrain.report.gather import gather
from raytrain.report.html import render_html
from raytrain.report.markdown import render_markdown
from raytrain.report.model import ReportData
from raytrain_core.storage import Store
from raytrain_core.storage.commit import commit


def render_json(data: ReportData) -> str:
    """Renders the report as JSON, as described by `docs/reference/report.schema.json`."""
    return data.model_dump_json(indent=1) + "\n"


def write(store: Store, layout: RunLayout, *, guard: Callable[[], None] | None = None) -> str:
    """Writes `report/{index.html,report.md,report.json}` and returns the page's URI.

    An older report is replaced. `guard` is called before the commit and may raise. Raises
    StorageError if there is no such run.
    """
    data = gather(store, layout)
    files = {
        "index.html": render_html(data).encode(),
        "report.md": render_markdown(data).encode(),
        "report.json": render_json(data).encode(),
    }
    body = {"kind": "report", "format": data.format, "phase": data.phase}
    manifest = commit(store, layout.report, files, body, guard=guard)
    return f"{store.uri}/{manifest.key('index.html')}"
