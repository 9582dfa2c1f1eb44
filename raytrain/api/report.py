"""The report of a run as an object that a notebook shows."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytrain_core.errors import UsageError
from raytrain_core.extras import missing_extra

if TYPE_CHECKING:
    from raytrain.config.run_layout import RunLayout
    from raytrain_core.storage import Store

_HEIGHT = 720  # pixels


@dataclass(frozen=True, slots=True)
class Report:
    """The report of a run: `print` shows its text, a notebook its page."""

    uri: str
    """The page in storage."""
    page: str
    """The page as HTML, complete in itself."""
    markdown: str
    data: dict[str, Any]
    """The content of report.json."""

    def save(self, path: str | Path) -> Path:
        """Writes the page to a file; UsageError if it cannot be written."""
        file = Path(path)
        try:
            file.write_text(self.page, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{file} cannot be written: {error.strerror}") from None
        return file

    def _repr_html_(self) -> str:
        """The page in a frame of its own, whose scripts and styles cannot reach the notebook."""
        return (
            f'<iframe srcdoc="{html.escape(self.page)}" sandbox="allow-scripts" title="report" '
            f'style="width: 100%; height: {_HEIGHT}px; border: 0"></iframe>'
        )

    def __str__(self) -> str:
        return self.markdown

    def __repr__(self) -> str:
        return f"Report({self.uri!r})"


def write_report(store: Store, layout: RunLayout) -> Report:
    """Writes the report again and reads it; without the extra `train`, reads the stored one."""
    try:
        from raytrain import report
    except ModuleNotFoundError as error:
        if missing_extra(error) is None:
            raise
        from raytrain.runs.stored_report import require_report

        uri = require_report(store, layout)
    else:
        uri = report.write(store, layout)
    page, text, data = (store.get(f"{layout.report}/{name}") for name in ("index.html", "report.md", "report.json"))
    return Report(uri, page.decode(), text.decode(), json.loads(data))
