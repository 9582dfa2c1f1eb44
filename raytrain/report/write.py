"""Writes the report of a run into storage: gather, render three formats, commit."""

from collections.abc import Callable
from pathlib import Path

from raytrain.config.run_layout import RunLayout
from raytrain.report.gather import gather
from raytrain.report.html import render_html
from raytrain.report.markdown import render_markdown
from raytrain.report.model import ReportData, ReviewResult
from raytrain.report.review import choose_rows, render_review
from raytrain.report.review_choices import read_choices
from raytrain.report.stored import read_run
from raytrain_core.errors import UsageError
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


def review_page(store: Store, layout: RunLayout, *, rows: int, seed: int) -> str:
    """Returns a page on which people choose between the answers before and after training.

    Raises UsageError if the run has no row that was answered differently.
    """
    return render_review(choose_rows(read_run(store, layout), layout.name, wanted=rows, seed=seed))


def add_choices(store: Store, layout: RunLayout, path: Path) -> ReviewResult:
    """Reads the exported choices in `path` and keeps them with the run, for its reports.

    The same review again replaces the older one. Raises DataError if they do not fit the run.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"{path} cannot be read: {reason}") from None
    result = read_choices(text, read_run(store, layout), layout.name, where=str(path))
    store.put(f"{layout.reviews}/{result.digest}.json", text.encode())
    return result
