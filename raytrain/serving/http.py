"""Serves pages over HTTP from this machine.

It is not meant for the open internet. By default it listens on 127.0.0.1 only, and then accepts
only requests whose Host header names this machine, so that no other website can reach it through
a host name of its own (DNS rebinding).
"""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from raytrain_core.errors import ClusterError, UserError

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def hosts_for(host: str) -> tuple[str, ...] | None:
    """Returns the host names accepted where a server listens on `host`; None accepts any."""
    return LOCAL_HOSTS if host in LOCAL_HOSTS else None


def guard(hosts: tuple[str, ...] | None) -> Any:
    """Returns a middleware: checks the Host header, adds headers, turns errors into JSON."""

    @web.middleware
    async def check(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        try:
            if hosts is not None and urlsplit(f"//{request.host}").hostname not in hosts:
                raise web.HTTPMisdirectedRequest(text="this host is not served here")
            response: web.StreamResponse = await handler(request)
        except web.HTTPException as error:
            response = json_response({"error": error.text or error.reason}, status=error.status)
        except UserError as error:
            response = json_response({"error": error.message, "hint": error.hint}, status=400)
        response.headers.update(_HEADERS)
        return response

    return check


def serve_forever(app: web.Application, *, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serves until interrupted; calls `on_ready` with the address.

    Raises ClusterError where the port cannot be opened.
    """

    async def forever() -> None:
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            try:
                await site.start()
            except OSError as error:
                raise ClusterError(
                    f"cannot listen on {host}:{port}: {error.strerror or error}", hint="Choose another --port."
                ) from None
            bound_port = runner.addresses[0][1]
            on_ready(f"http://{f'[{host}]' if ':' in host else host}:{bound_port}/")
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    asyncio.run(forever())


def policy_of(page: str) -> str:
    """Returns a page's content security policy for the header.

    It is sent as a header too, because only a header can forbid framing.
    """
    policy = page.partition('http-equiv="Content-Security-Policy" content="')[2].partition('"')[0]
    return f"{policy.replace('&#39;', chr(39))}; frame-ancestors 'none'"


def json_response(body: Any, *, status: int = 200) -> web.Response:
    """Returns `body` as a JSON response."""
    return web.json_response(body, status=status)
