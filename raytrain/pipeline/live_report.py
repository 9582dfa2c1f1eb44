"""The report as a page in the run's folder that fills up while the run goes on."""

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Self

from raytrain.config.run_layout import RunLayout
from raytrain.telemetry.attempts import Attempt
from raytrain.telemetry.background import Background
from raytrain_core.storage import RereadStore, Store

_log = logging.getLogger(__name__)

SECONDS = 60.0
"""Least time between two pages."""
EVERY = 30.0
"""How often the page looks for news of itself, in seconds."""


class LiveReport:
    """Writes `report.html`, the report so far, whenever scores have arrived (`poke`).

    It is made in a thread of its own, at most every `seconds`, from what is new in storage and what
    was read before. It is put in one request, so that a reader never sees half a page. Errors are
    logged, never raised. A superseded attempt stops writing. `on_written` is called with the page's
    URI.
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
        self._store, self._layout, self._attempt = RereadStore(store), layout, attempt
        self._on_written = on_written
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
        self._on_written(_put_page(self._store, self._layout))


def write_last_page(store: Store, layout: RunLayout, attempt: Attempt) -> None:
    """Lets the page of an attempt that fails or is interrupted say so, if there is a page.

    Errors are logged: they must not hide why the attempt ends.
    """
    try:
        if store.stat(layout.live_report) is not None and not attempt.superseded():
            _put_page(store, layout)
    except Exception as error:
        _log.warning("the run's page still shows it as it was before its end: %s", error)


def _put_page(store: Store, layout: RunLayout) -> str:
    from raytrain.report import gather, render_html

    page = render_html(gather(store, layout), every=EVERY)
    store.put(layout.live_report, page.encode())
    return f"{store.uri}/{layout.live_report}"
