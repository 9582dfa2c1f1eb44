"""A real HTTP server in a thread."""

import contextlib
import threading
from collections.abc import Iterator

from starlette.types import ASGIApp

from raytrain.serving.http import serve_forever


@contextlib.contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """Serves an application on a free port of this machine; yields its address."""
    ready, address = threading.Event(), []

    def on_ready(at: str) -> None:
        address.append(at)
        ready.set()

    options = {"host": "127.0.0.1", "port": 0, "on_ready": on_ready}
    threading.Thread(target=serve_forever, args=(app,), kwargs=options, daemon=True).start()
    assert ready.wait(60)
    yield address[0]
