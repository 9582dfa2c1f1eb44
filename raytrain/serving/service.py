"""Answers of the models of one run: prompts, limits, queue, texts. Knows nothing of HTTP."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raytrain.serving.backend import Backends
from raytrain.serving.bodies import MAX_TEXT_CHARS
from raytrain.serving.errors import RequestError, invalid, unavailable
from raytrain.serving.predict import find_task
from raytrain.serving.prompts import Prompt, make_prompts, whole_prompts
from raytrain.serving.queue import Queue
from raytrain_core.errors import UsageError

if TYPE_CHECKING:
    from raytrain.serving.models import RunModels, Which

RECENT_SECONDS = 30.0
"""A generation that succeeded this recently shows that the model answers."""
PROBE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """How much a service takes on; lengths beyond those of the run's job have no effect."""

    max_queued: int = 256
    """Most prompts that are accepted and not answered yet."""
    max_batch: int = 128
    """Most prompts in one request."""
    max_input_tokens: int | None = None
    max_new_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model generated for one prompt."""

    text: str
    tokens: int
    """Generated tokens, without the end-of-sequence token."""
    cut_off: bool
    """Whether generation stopped at the limit of new tokens."""
    prompt_tokens: int
    """Tokens of the prompt with the complete text."""
    read_tokens: int
    """Tokens of it that the model read."""
    notice: str | None
    """What of the text was left out, in words."""
    seconds: float


class Service:
    """The models of the run `run`, behind one queue."""

    def __init__(
        self, models: "RunModels", backends: Backends, *, run: str, limits: ServiceLimits | None = None
    ) -> None:
        self.run, self.limits = run, limits or ServiceLimits()
        self._models, self._backends = models, backends
        self.queue = Queue(self.limits.max_queued)
        self._answered = float("-inf")
        own = models.limits
        self.max_input_tokens = min(self.limits.max_input_tokens or own.max_input_tokens, own.max_input_tokens)
        self.max_new_tokens = min(self.limits.max_new_tokens or own.max_new_tokens, own.max_new_tokens)

    @property
    def notice(self) -> str | None:
        """What every answer differs in from those that the run's scores were measured with."""
        if self._models.limits.beams == 1:
            return None
        scored = self._models.limits.decoding
        return f"answers are decoded greedily, but the run was scored with {scored}: expect other texts and scores"

    def tasks(self) -> list[dict[str, Any]]:
        """Returns every task with its templates; `{input}` marks the place of the text."""
        from data_prep.text.templates import templates_of

        return [
            {
                "name": task.name,
                "type": task.type,
                "probe": task.probe,
                "templates": [template.render("{input}") for template in templates_of(task)],
            }
            for task in self._models.tasks
        ]

    def available_models(self) -> "list[Which]":
        """Returns the models that the run has now."""
        return self._backends.available()

    def model(self, name: str | None) -> "Which":
        """Returns the model that a request names; raises RequestError if there is none."""
        named: dict[str | None, Which] = {None: "after", self.run: "after", "after": "after", "before": "before"}
        available = self.available_models()
        if name not in named:
            raise RequestError(
                404,
                "not_found",
                f"there is no model {name!r} here",
                "model",
                hint=f"There are {self.run}{' and before' if 'before' in available else ''}.",
            )
        if named[name] not in available:
            if named[name] == "before":
                raise RequestError(404, "not_found", "the model before training is not served here", "model")
            raise unavailable(
                f"run {self.run} has no tuned model yet",
                hint='Wait until the run has finished, or ask its base model: "model": "before".',
            )
        return named[name]

    def prompts(
        self,
        texts: Sequence[str],
        fields: Sequence[str],
        *,
        task: str | None,
        template: int | None,
        truncate: bool,
    ) -> list[Prompt]:
        """Returns what the model reads for each text; raises RequestError where one is wrong.

        `fields` are the names of the texts in the request.
        """
        most = min(self.limits.max_batch, self.limits.max_queued)
        if len(texts) > most:
            name = fields[0].partition("[")[0]
            message = f"{name}: {len(texts)} prompts are too many for one request; {most} are the most"
            raise invalid(message, name, hint="Send them in several requests.")
        for text, field in zip(texts, fields, strict=True):
            _check_text(text, field)
        try:
            prompts = self._make(texts, task, template)
        except UsageError as error:
            field = "template" if "template" in error.message else "task"
            raise invalid(error.message, field, hint=error.hint) from None
        for prompt, field in zip(prompts, fields, strict=True):
            if prompt.notice and not truncate:
                raise invalid(
                    f"{field}: the prompt has {prompt.tokens:,} tokens, but the model reads at most "
                    f"{self.max_input_tokens:,}",
                    field,
                    hint='Shorten the text, or allow that its end is left out: "truncate": true.',
                )
        return prompts

    def new_tokens(self, asked: int | None, field: str) -> int:
        """Returns the limit of an answer; raises RequestError for more than there may be."""
        if asked is not None and asked > self.max_new_tokens:
            raise invalid(f"{field}: an answer has at most {self.max_new_tokens} tokens here, not {asked}", field)
        return asked or self.max_new_tokens

    async def answer(self, prompts: Sequence[Prompt], *, which: "Which", new_tokens: int) -> list[Answer]:
        """Generates for all prompts, or raises RequestError: a full queue takes all or none."""
        with self.queue.admitted(len(prompts)):
            backend = await self._backends.backend(which)
            sources = self._models.tokenizer.encode_batch([p.text for p in prompts], self.max_input_tokens)
            began = time.perf_counter()
            tasks = [asyncio.ensure_future(backend.generate(source, new_tokens)) for source in sources]
            try:
                generated = await asyncio.gather(*tasks)
            finally:
                for task in tasks:  # after an error, or if whoever asked has gone, the rest is not needed
                    task.cancel()
            self._answered = time.monotonic()
        seconds = round(time.perf_counter() - began, 3)
        return [self._read(p, ids, seconds) for p, ids in zip(prompts, generated, strict=True)]

    async def answers(self) -> bool:
        """Returns whether the model answers: it just has, or does when asked for one token now."""
        if time.monotonic() - self._answered <= RECENT_SECONDS:
            return True
        which: Which = "after" if "after" in self.available_models() else "before"
        [source] = self._models.tokenizer.encode_batch(["ready"], self.max_input_tokens)
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await (await self._backends.backend(which)).generate(source, 1)
        except (TimeoutError, RequestError):
            return False
        self._answered = time.monotonic()
        return True

    async def close(self) -> None:
        """Ends once everything that was accepted has been answered."""
        while self.queue.inside:
            await asyncio.sleep(0.01)
        await self._backends.close()

    def _make(self, texts: Sequence[str], task: str | None, template: int | None) -> list[Prompt]:
        tokenizer, limit = self._models.tokenizer, self.max_input_tokens
        if task is not None:
            return make_prompts(tokenizer, find_task(self._models.tasks, task), template, texts, limit=limit)
        if template is not None:
            raise UsageError("template without a task", hint='Name the task too, for example "task": "...".')
        return whole_prompts(tokenizer, texts, limit=limit)

    def _read(self, prompt: Prompt, ids: list[int], seconds: float) -> Answer:
        from data_prep.text.tokenizer import EOS

        tokenizer, cut_off = self._models.tokenizer, EOS not in ids
        kept = ids if cut_off else ids[: ids.index(EOS)]
        text = tokenizer.decode([i for i in kept if i < tokenizer.size])
        return Answer(text, len(kept), cut_off, prompt.tokens, prompt.read, prompt.notice, seconds)


def _check_text(text: str, field: str) -> None:
    if not text.strip():
        raise invalid(f"{field}: the text is empty", field)
    if len(text) > MAX_TEXT_CHARS:
        message = f"{field}: the text has {len(text):,} characters; {MAX_TEXT_CHARS:,} are the most"
        raise invalid(message, field, hint="Shorten the text.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        message = f"{field}: character {error.start} is half of a surrogate pair (U+{code:04X}), which is no text"
        raise invalid(message, field) from None
