"""An HTTP proxy that makes a Kubernetes API server refuse, reset and forget, as if overloaded."""

import asyncio
import json
import random
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp
from aiohttp import web

_REASONS = {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}
_TOO_OLD = {
    "kind": "Status",
    "apiVersion": "v1",
    "code": 410,
    "reason": "Expired",
    "message": "too old resource version",
}


class ApiProxy:
    """The faults of the proxy; `refuse` and `share` may be set from any thread at any time."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.refuse: int | None = None
        """Answer every request with this status."""
        self.share = 0.0
        """Share of requests that fail with 429, 500, 503 or a reset, drawn with a fixed seed."""
        self.too_old = 0
        """Number of following watches that fail because their resource version is too old."""
        self.broken = 0
        """Number of requests that failed because of the proxy."""
        self._random = random.Random(17)
        self._watches: set[asyncio.Transport] = set()
        self._loop = asyncio.new_event_loop()

    def heal(self) -> None:
        self.refuse, self.share, self.too_old = None, 0.0, 0

    def drop_watches(self) -> None:
        """Resets every open watch."""
        self._loop.call_soon_threadsafe(self._drop)

    def _drop(self) -> None:
        for transport in self._watches:
            transport.abort()

    def _fate(self, watch: bool) -> int | str | None:
        if self.refuse is not None:
            return self.refuse
        if self._random.random() < self.share:
            fates: list[int | str] = [429, 500, 503, "reset"]
            return self._random.choice(fates)
        if watch and self.too_old:
            self.too_old -= 1
            return "too-old"
        return None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        watch = request.query.get("watch") in ("true", "1")
        fate = self._fate(watch)
        if fate is not None:
            self.broken += 1
        if isinstance(fate, int):
            body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": fate, "reason": _REASONS[fate]}
            return web.json_response(body | {"message": "as told"}, status=fate, headers={"Retry-After": "1"})
        if fate == "reset":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if fate == "too-old":
            return web.Response(text=json.dumps({"type": "ERROR", "object": _TOO_OLD}) + "\n")
        return await self._forward(request, watch)

    async def _forward(self, request: web.Request, watch: bool) -> web.StreamResponse:
        headers = {
            k: v for k, v in request.headers.items() if k.lower() not in ("host", "connection", "accept-encoding")
        }
        where = self._server + request.raw_path
        async with self._session.request(
            request.method, where, headers=headers, data=await request.read() or None
        ) as answer:
            reply = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.headers["Content-Type"]})
            transport = request.transport
            if watch and transport is not None:
                self._watches.add(transport)
            try:
                with suppress(aiohttp.ClientConnectionResetError):  # the client is gone
                    await reply.prepare(request)
                    async for chunk in answer.content.iter_any():
                        await reply.write(chunk)
                    await reply.write_eof()
            finally:
                self._watches.discard(transport)
            return reply

    async def _serve(self, server: str, started: threading.Event, stopped: asyncio.Event) -> None:
        self._server = server
        blind = ssl.create_default_context()
        blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
        connector = aiohttp.TCPConnector(ssl=blind, limit=0)
        async with aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None)
        ) as self._session:
            application = web.Application()
            application.router.add_route("*", "/{path:.*}", self._answer)
            runner = web.AppRunner(application, handle_signals=False, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            self.endpoint = f"http://127.0.0.1:{port}"
            started.set()
            await stopped.wait()
            await runner.cleanup()


@contextmanager
def api_proxy(kubeconfig: Path, folder: Path) -> Iterator[tuple[ApiProxy, Path]]:
    """Runs a proxy to the server of a kubeconfig; yields it and a kubeconfig that uses it."""
    proxy, started, stopped = ApiProxy(), threading.Event(), asyncio.Event()
    content = json.loads(kubeconfig.read_text())
    cluster = content["clusters"][0]["cluster"]
    running = proxy._serve(cluster["server"], started, stopped)
    thread = threading.Thread(target=proxy._loop.run_until_complete, args=(running,), daemon=True)
    thread.start()
    assert started.wait(10)
    through = folder / "through-the-proxy.kubeconfig"
    content["clusters"][0]["cluster"] = {"server": proxy.endpoint}
    through.write_text(json.dumps(content))
    try:
        yield proxy, through
    finally:
        proxy._loop.call_soon_threadsafe(stopped.set)
        thread.join(10)
        proxy._loop.close()
