"""The application that serves a run's models over HTTP: JSON endpoints, and a page to try them.

It is the same object wherever it runs: alone (`raytrain serve`) or as a deployment of Ray Serve
(`ray_serve`). How models are reached is the service's matter.
"""

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from raytrain.report.html import render_page
from raytrain.serving.bodies import BatchBody, CompletionBody, GenerateBody, PlaygroundBody, parse
from raytrain.serving.errors import RequestError, invalid
from raytrain.serving.http import EXCEPTION_HANDLERS, LOCAL_HOSTS, Guard, policy_of
from raytrain.serving.metrics import Metrics
from raytrain.serving.service import Answer, Service
from raytrain.serving.token import check_token

MAX_REQUEST_BYTES = 1 << 20
Endpoint = Callable[[Request], Awaitable[Response]]


def application(
    service: Service,
    *,
    token: str | None = None,
    hosts: tuple[str, ...] | None = LOCAL_HOSTS,
    page: bool = True,
    keep_alive: bool = True,
) -> Starlette:
    """Builds the web application.

    With a `token`, every request but those for health has to show it; there is no page then, since
    a browser has no token to show. `hosts` are the names accepted in the Host header; None accepts
    any. Without `keep_alive` each connection ends with its response, so that the next request goes
    to whatever a load balancer then points to.
    """
    api = _Api(service)
    endpoints: list[tuple[str, str, Endpoint]] = [
        ("POST", "/v1/completions", api.completions),
        ("GET", "/v1/models", api.models),
        ("POST", "/generate", api.generate),
        ("POST", "/generate/batch", api.batch),
        ("GET", "/metrics", api.metrics),
        ("GET", "/api/tasks", api.tasks),
        ("POST", "/api/generate", api.compare),
    ]
    if page and token is None:
        endpoints.append(("GET", "/", api.page))
    routes = [Route(path, api.counted(path, endpoint, token), methods=[verb]) for verb, path, endpoint in endpoints]
    routes += [Route("/healthz", api.healthz), Route("/readyz", api.readyz)]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await service.close()

    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, hosts, keep_alive=keep_alive)],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )


class _Api:
    def __init__(self, service: Service) -> None:
        self._service, self._metrics = service, Metrics(service.queue)

    def counted(self, path: str, endpoint: Endpoint, token: str | None) -> Endpoint:
        """The endpoint, with the token checked, and each response counted."""

        async def answer(request: Request) -> Response:
            began, status = time.perf_counter(), 500
            try:
                if token is not None:
                    check_token(request.headers.get("authorization"), token)
                response = await endpoint(request)
                status = response.status_code
            except RequestError as error:
                status = error.status
                raise
            finally:
                self._metrics.requests.labels(path, status).inc()
                self._metrics.seconds.labels(path).observe(time.perf_counter() - began)
            return response

        return answer

    async def completions(self, request: Request) -> Response:
        """POST /v1/completions, as OpenAI's clients send it."""
        body = parse(await _json(request), CompletionBody)
        one = isinstance(body.prompt, str)
        texts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
        if not texts:
            raise invalid("prompt: the list is empty", "prompt")
        fields = ["prompt"] if one else [f"prompt[{i}]" for i in range(len(texts))]
        answers = await self._answers(body, texts, fields, body.max_tokens, "max_tokens")
        prompt_tokens, generated = sum(a.read_tokens for a in answers), sum(a.tokens for a in answers)
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": generated}
        return JSONResponse(
            {
                "id": f"cmpl-{uuid.uuid4().hex}",
                "object": "text_completion",
                "created": int(time.time()),
                "model": body.model or self._service.run,
                "choices": [_choice(index, answer) for index, answer in enumerate(answers)],
                "usage": usage | {"total_tokens": prompt_tokens + generated},
            }
        )

    async def generate(self, request: Request) -> Response:
        """POST /generate: one text."""
        body = parse(await _json(request), GenerateBody)
        [answer] = await self._answers(body, [body.text], ["text"], body.max_new_tokens, "max_new_tokens")
        return JSONResponse({"model": body.model or self._service.run, **asdict(answer)})

    async def batch(self, request: Request) -> Response:
        """POST /generate/batch: several texts, all of them answered or none."""
        body = parse(await _json(request), BatchBody)
        fields = [f"texts[{i}]" for i in range(len(body.texts))]
        answers = await self._answers(body, body.texts, fields, body.max_new_tokens, "max_new_tokens")
        return JSONResponse(
            {"model": body.model or self._service.run, "generations": [asdict(answer) for answer in answers]}
        )

    async def compare(self, request: Request) -> Response:
        """POST /api/generate: the page's request, answered by several models."""
        body = parse(await _json(request), PlaygroundBody)
        available = self._service.available_models()
        chosen = list(dict.fromkeys(body.models or available))
        if wrong := [one for one in chosen if one not in available]:
            raise invalid(f"models: there is no model {wrong[0]!r} yet", "models", hint=f"Now: {', '.join(available)}.")
        [prompt] = self._service.prompts(
            [body.text], ["text"], task=body.task, template=body.template, truncate=body.truncate
        )
        found: dict[str, Any] = {}
        for which in chosen:
            [answer] = await self._service.answer([prompt], which=which, new_tokens=self._service.max_new_tokens)
            found[which] = asdict(answer)
        return JSONResponse(
            {
                "task": body.task,
                "prompt": prompt.text,
                "prompt_tokens": prompt.tokens,
                "read_tokens": prompt.read,
                "notice": prompt.notice,
                "generations": found,
            }
        )

    async def tasks(self, request: Request) -> Response:
        """GET /api/tasks."""
        return JSONResponse(
            {
                "run": self._service.run,
                "tasks": self._service.tasks(),
                "models": self._service.available_models(),
                "max_input_tokens": self._service.max_input_tokens,
                "max_new_tokens": self._service.max_new_tokens,
                "decoding": "greedy",
                "notice": self._service.notice,
            }
        )

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        names = {"after": self._service.run, "before": "before"}
        listed = [names[which] for which in reversed(self._service.available_models())]
        data = [{"id": name, "object": "model", "owned_by": "raytrain"} for name in listed]
        return JSONResponse({"object": "list", "data": data, "notice": self._service.notice})

    async def metrics(self, request: Request) -> Response:
        """GET /metrics."""
        return Response(self._metrics.text(), media_type=self._metrics.content_type)

    async def healthz(self, request: Request) -> Response:
        """GET /healthz: the process answers; says how many prompts are not answered yet."""
        return JSONResponse({"status": "ok", "waiting": self._service.queue.inside})

    async def readyz(self, request: Request) -> Response:
        """GET /readyz: the model answers."""
        ready = await self._service.answers()
        return JSONResponse({"status": "ready" if ready else "not ready"}, status_code=200 if ready else 503)

    async def page(self, request: Request) -> Response:
        """GET /: the page to try the models in a browser."""
        text = render_page("serve.html.j2", scripts=("theme.js", "serve.js"), connect="'self'", run=self._service.run)
        return HTMLResponse(text, headers={"Content-Security-Policy": policy_of(text)})

    async def _answers(
        self,
        body: GenerateBody | BatchBody | CompletionBody,
        texts: Sequence[str],
        fields: Sequence[str],
        asked: int | None,
        field: str,
    ) -> list[Answer]:
        service = self._service
        which = service.model(body.model)
        new_tokens = service.new_tokens(asked, field)
        prompts = service.prompts(texts, fields, task=body.task, template=body.template, truncate=body.truncate)
        answers = await service.answer(prompts, which=which, new_tokens=new_tokens)
        self._metrics.prompts.inc(len(answers))
        self._metrics.prompt_tokens.inc(sum(a.read_tokens for a in answers))
        self._metrics.generated_tokens.inc(sum(a.tokens for a in answers))
        self._metrics.truncated.inc(sum(a.notice is not None for a in answers))
        return answers


def _choice(index: int, answer: Answer) -> dict[str, Any]:
    reason = "length" if answer.cut_off else "stop"
    choice = {"index": index, "text": answer.text, "logprobs": None, "finish_reason": reason}
    return choice | {"notice": answer.notice} if answer.notice else choice


async def _json(request: Request) -> bytes:
    """The body of a request; a form on another website cannot send this type."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError(415, "invalid_request", "send JSON with Content-Type: application/json", "Content-Type")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_REQUEST_BYTES:
            message = f"the request body is larger than {MAX_REQUEST_BYTES:,} bytes"
            raise RequestError(413, "too_large", message, hint="Send it in several requests.")
    return bytes(content)
