"""The page and the JSON interface over HTTP, for one machine.

Nothing here is meant for the open internet: it listens on 127.0.0.1 unless told otherwise, and
answers only requests for the host that it was started as, so that no page elsewhere can reach it
through a name of its own.
"""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from raytrain.report.html import render_page
from raytrain.serving.playground import Asking
from raytrain_core.errors import ClusterError, UserError

LARGEST_REQUEST = 1 << 20  # bytes
_LOCAL = ("127.0.0.1", "localhost", "::1")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def application(asking: Asking, *, run: str, hosts: tuple[str, ...] | None = _LOCAL) -> web.Application:
    """GET / is the page, GET /api/tasks what can be asked, POST /api/answer asks.

    `hosts` are the names that a request may give in its Host header, None for any.
    """

    @web.middleware
    async def guard(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        try:
            if hosts is not None and urlsplit(f"//{request.host}").hostname not in hosts:
                raise web.HTTPMisdirectedRequest(text="this host is not served here")
            response: web.StreamResponse = await handler(request)
        except web.HTTPException as error:
            response = _json({"error": error.text or error.reason}, status=error.status)
        except UserError as error:
            response = _json({"error": error.message, "hint": error.hint}, status=400)
        response.headers.update(_HEADERS)
        return response

    async def index(request: web.Request) -> web.Response:
        text, policy = _page(run)
        return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": policy})

    async def tasks(request: web.Request) -> web.Response:
        return _json({"run": run, "tasks": asking.tasks(), "models": asking.which()})

    async def answer(request: web.Request) -> web.Response:
        if request.content_type != "application/json":  # what a form of another page cannot send
            raise web.HTTPUnsupportedMediaType(text="send JSON, as application/json")
        task, text, template, which = _asked(await _body(request), asking)
        found = await asyncio.to_thread(asking.ask, task, text, template=template, which=which)
        return _json({**found, "replies": {name: asdict(reply) for name, reply in found["replies"].items()}})

    app = web.Application(middlewares=[guard], client_max_size=LARGEST_REQUEST)
    app.add_routes([web.get("/", index), web.get("/api/tasks", tasks), web.post("/api/answer", answer)])
    return app


def serve(asking: Asking, *, run: str, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve until interrupted; `on_ready` gets the address.

    ClusterError where the port cannot be had.
    """

    async def forever() -> None:
        runner = web.AppRunner(application(asking, run=run, hosts=_LOCAL if host in _LOCAL else None))
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            try:
                await site.start()
            except OSError as error:
                raise ClusterError(
                    f"{host}:{port} cannot be listened on: {error.strerror or error}", hint="give another --port"
                ) from None
            at = runner.addresses[0][1]
            on_ready(f"http://{f'[{host}]' if ':' in host else host}:{at}/")
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    asyncio.run(forever())


def _page(run: str) -> tuple[str, str]:
    """The page and its security policy, which a header says too: framing can only be forbidden there."""
    text = render_page("serve.html.j2", scripts=("theme.js", "serve.js"), connect="'self'", run=run)
    policy = text.partition('http-equiv="Content-Security-Policy" content="')[2].partition('"')[0]
    return text, f"{policy.replace('&#39;', chr(39))}; frame-ancestors 'none'"


def _json(body: Any, *, status: int = 200) -> web.Response:
    return web.json_response(body, status=status)


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        raise web.HTTPBadRequest(text="the body is no JSON") from None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="the body is no JSON object")
    return body


def _asked(body: dict[str, Any], asking: Asking) -> tuple[str, str, int | None, list[Any]]:
    """Task, text, wording and models of a request; 400 with what is wrong with it."""
    known = {"task", "text", "template", "models"}
    if unknown := sorted(set(body) - known):
        raise web.HTTPBadRequest(text=f"unknown field {unknown[0]!r}; there are {', '.join(sorted(known))}")
    task, text, template = body.get("task"), body.get("text"), body.get("template")
    if not isinstance(task, str) or not isinstance(text, str):
        raise web.HTTPBadRequest(text="task and text must be strings")
    if template is not None and (not isinstance(template, int) or isinstance(template, bool)):
        raise web.HTTPBadRequest(text="template must be a number, counted from 0")
    there = asking.which()
    models = body.get("models", there)
    if not isinstance(models, list) or not models or any(model not in there for model in models):
        raise web.HTTPBadRequest(text=f"models must be some of {', '.join(there)}")
    return task, text, template, list(dict.fromkeys(models))
