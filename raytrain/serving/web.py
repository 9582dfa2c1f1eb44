"""The playground's page and JSON interface over HTTP, for one machine."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from raytrain.report.html import render_page
from raytrain.serving.http import LOCAL_HOSTS, guard, hosts_for, json_response, policy_of, serve_forever
from raytrain.serving.playground import Playground

MAX_REQUEST_BYTES = 1 << 20


def application(playground: Playground, *, run: str, hosts: tuple[str, ...] | None = LOCAL_HOSTS) -> web.Application:
    """Builds the web application: GET /, GET /api/tasks, POST /api/generate.

    `hosts` are the host names accepted in the Host header; None accepts any.
    """

    async def index(request: web.Request) -> web.Response:
        text, policy = _page(run)
        return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": policy})

    async def tasks(request: web.Request) -> web.Response:
        return json_response({"run": run, "tasks": playground.tasks(), "models": playground.available_models()})

    async def generate(request: web.Request) -> web.Response:
        if request.content_type != "application/json":  # a form on another website cannot send this type
            raise web.HTTPUnsupportedMediaType(text="send JSON with Content-Type: application/json")
        body = await _body(request)
        task, text, template, which = _parse(body, playground)
        refuse_long = bool(body.get("refuse_long"))
        result = await asyncio.to_thread(
            playground.generate, task, text, template=template, which=which, refuse_long=refuse_long
        )
        generations = {name: asdict(generation) for name, generation in result["generations"].items()}
        return json_response({**result, "generations": generations})

    app = web.Application(middlewares=[guard(hosts)], client_max_size=MAX_REQUEST_BYTES)
    app.add_routes([web.get("/", index), web.get("/api/tasks", tasks), web.post("/api/generate", generate)])
    return app


def serve(playground: Playground, *, run: str, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serves until interrupted; calls `on_ready` with the address.

    Raises ClusterError where the port cannot be opened.
    """
    serve_forever(application(playground, run=run, hosts=hosts_for(host)), host=host, port=port, on_ready=on_ready)


def _page(run: str) -> tuple[str, str]:
    """Returns the page and its content security policy.

    The policy is sent as a header too, because only a header can forbid framing.
    """
    text = render_page("serve.html.j2", scripts=("theme.js", "serve.js"), connect="'self'", run=run)
    return text, policy_of(text)


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        raise web.HTTPBadRequest(text="the request body is not JSON") from None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="the request body is not a JSON object")
    return body


def _parse(body: dict[str, Any], playground: Playground) -> tuple[str, str, int | None, list[Any]]:
    """Returns task, text, template and models of a request; raises 400 that names what is wrong."""
    fields = {"task", "text", "template", "models", "refuse_long"}
    if unknown := sorted(set(body) - fields):
        raise web.HTTPBadRequest(text=f"unknown field {unknown[0]!r}; the fields are {', '.join(sorted(fields))}")
    task, text, template = body.get("task"), body.get("text"), body.get("template")
    if not isinstance(task, str) or not isinstance(text, str):
        raise web.HTTPBadRequest(text="task and text must be strings")
    if template is not None and (not isinstance(template, int) or isinstance(template, bool)):
        raise web.HTTPBadRequest(text="template must be an integer, counted from 0")
    if not isinstance(body.get("refuse_long", False), bool):
        raise web.HTTPBadRequest(text="refuse_long must be true or false")
    available = playground.available_models()
    models = body.get("models", available)
    if not isinstance(models, list) or not models or any(model not in available for model in models):
        raise web.HTTPBadRequest(text=f"models must be a non-empty list of: {', '.join(available)}")
    return task, text, template, list(dict.fromkeys(models))
