"""The report as a page in the run's folder that fills up while the run goes on."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from raytrain.config.run_layout import RunLayout
from raytrain.telemetry.attempts import Attempt
from raytrain.telemetry.background import Background
from raytrain_core.storage import Store

SECONDS = 60.0
"""Least time between two pages: making one reads all scores of the run."""
EVERY = 30.0
"""How often the page looks for news of itself, in seconds."""


class LiveReport:
    """Writes `report.html`, the report so far, whenever scores have arrived (`poke`).

    It is made in a thread of its own, at most every `seconds`, and put in one request, so that a
    reader never sees half a page. Errors are logged, never raised. A superseded attempt stops
    writing. `on_written` is called with the page's URI.
    """

    def __init__(
        self,
        store: Store,
        layout: RunLayout,
        attempt: Attempt,
        *,
        on_written: Callable[[str], None],
        seconds: float = SECONDS,
    ) -> None:
        self._store, self._layout, self._attempt, self._on_written = store, layout, attempt, on_written
        self._ended = False
        self._background = Background("live report", self._write, seconds)

    def poke(self) -> None:
        """Requests a new page; returns at once."""
        self._background.poke()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True  # the run's end is not delayed by one page more
        self._background.close()

    def _write(self) -> None:
        if self._ended or self._attempt.superseded():
            return
        from raytrain.report import gather, render_html

        page = render_html(gather(self._store, self._layout), every=EVERY)
        self._store.put(self._layout.live_report, page.encode())
        self._on_written(f"{self._store.uri}/{self._layout.live_report}")
