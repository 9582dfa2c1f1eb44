"""Serves an application over HTTP: what every one of them shares, and a server on this machine.

By default a server listens on 127.0.0.1 only, and then accepts only requests whose Host header
names this machine, so that no other website can reach it through a host name of its own (DNS
rebinding).
"""

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from raytrain.serving.errors import RequestError
from raytrain_core.errors import ClusterError, UserError

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
DRAIN_SECONDS = 60
"""How long a server that was told to stop waits for requests that it has accepted."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_log = logging.getLogger(__name__)


def hosts_for(host: str) -> tuple[str, ...] | None:
    """Returns the host names accepted where a server listens on `host`; None accepts any."""
    return LOCAL_HOSTS if host in LOCAL_HOSTS else None


class Guard:
    """Checks the Host header and adds headers to every response."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...] | None, *, keep_alive: bool = True) -> None:
        self._app, self._hosts = app, hosts
        self._headers = _HEADERS if keep_alive else {**_HEADERS, "Connection": "close"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        if scope["type"] == "http" and not self._accepts(Headers(scope=scope).get("host", "")):
            refusal = RequestError(421, "wrong_host", "this host is not served here")
            await error_response(refusal)(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _accepts(self, host: str) -> bool:
        if self._hosts is None:
            return True
        try:
            return urlsplit(f"//{host}").hostname in self._hosts
        except ValueError:  # such as "[": no host name at all
            return False


def error_response(error: RequestError) -> JSONResponse:
    """Returns a refusal as a response."""
    return JSONResponse(error.as_json(), status_code=error.status, headers=error.headers)


async def _on_request_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestError)
    return error_response(error)


async def _on_user_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, UserError)
    return error_response(RequestError(503, "unavailable", error.message, hint=error.hint))


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    kind = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(error.status_code, "invalid_request")
    message = f"{request.method} {request.url.path}: {str(error.detail).lower()}"
    refusal = RequestError(error.status_code, kind, message, headers=dict(error.headers or {}))
    return error_response(refusal)


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    _log.error("%s %s: an error that was not expected", request.method, request.url.path, exc_info=error)
    message = f"an error that was not expected: {type(error).__name__}"
    return error_response(RequestError(500, "bug", message, hint="The server's log has the details."))


EXCEPTION_HANDLERS: dict[Any, Any] = {
    RequestError: _on_request_error,
    UserError: _on_user_error,
    HTTPException: _on_http_error,
    Exception: _on_bug,
}
"""How errors become JSON."""


class _Server(uvicorn.Server):
    """Ends normally after SIGTERM, and with KeyboardInterrupt after Ctrl-C."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Lets both signals drain the server; a second one ends it at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {sig: signal.signal(sig, self.handle_exit) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sig, handler in handlers.items():
                signal.signal(sig, handler)
        if signal.SIGINT in self._captured_signals:
            raise KeyboardInterrupt


def serve_forever(app: ASGIApp, *, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serves until interrupted, then answers what was accepted; calls `on_ready` with the address.

    Raises ClusterError where the port cannot be opened.
    """
    listening = _listen(host, port)
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    server = _Server(config)
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"

    async def forever() -> None:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if server.started:
            on_ready(address)
        await serving

    with listening:
        asyncio.run(forever())


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ClusterError(
            f"cannot listen on {host}:{port}: {error.strerror or error}", hint="Choose another --port."
        ) from None


def policy_of(page: str) -> str:
    """Returns a page's content security policy for the header.

    It is sent as a header too, because only a header can forbid framing.
    """
    policy = page.partition('http-equiv="Content-Security-Policy" content="')[2].partition('"')[0]
    return f"{policy.replace('&#39;', chr(39))}; frame-ancestors 'none'"
