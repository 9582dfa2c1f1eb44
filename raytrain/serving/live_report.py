"""The report of a run over HTTP while the run goes on: the same page, filling up."""

import asyncio
import time
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from raytrain.config.run_layout import RunLayout
from raytrain.report import gather, render_html
from raytrain.serving.http import EXCEPTION_HANDLERS, LOCAL_HOSTS, Guard, hosts_for, policy_of, serve_forever
from raytrain_core.storage import RereadStore, Store


class LiveReport:
    """Makes the report anew at most once in `every` seconds, reading what is new in storage."""

    def __init__(self, store: Store, layout: RunLayout, *, every: float) -> None:
        self._store, self._layout, self._every = RereadStore(store), layout, every
        self._made, self._page = float("-inf"), ""
        self._one_at_a_time = asyncio.Lock()

    async def page(self) -> str:
        """Returns the page; raises StorageError where the store cannot be read."""
        async with self._one_at_a_time:
            if time.monotonic() - self._made >= self._every:
                self._page = await asyncio.to_thread(self._make)
                self._made = time.monotonic()
            return self._page

    def _make(self) -> str:
        return render_html(gather(self._store, self._layout), every=self._every)


def application(report: LiveReport, *, hosts: tuple[str, ...] | None = LOCAL_HOSTS) -> Starlette:
    """Builds the web application: GET / is the report."""

    async def index(request: Request) -> Response:
        text = await report.page()
        return HTMLResponse(text, headers={"Content-Security-Policy": policy_of(text)})

    return Starlette(
        routes=[Route("/", index)], middleware=[Middleware(Guard, hosts)], exception_handlers=EXCEPTION_HANDLERS
    )


def serve_report(
    store: Store, layout: RunLayout, *, host: str, port: int, every: float, on_ready: Callable[[str], None]
) -> None:
    """Serves until interrupted; calls `on_ready` with the address.

    Raises ClusterError where the port cannot be opened.
    """
    report = LiveReport(store, layout, every=every)
    serve_forever(application(report, hosts=hosts_for(host)), host=host, port=port, on_ready=on_ready)
