"""The playground of one run: its tasks, templates and models. Knows nothing of HTTP."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raytrain_core.errors import UsageError

if TYPE_CHECKING:
    from raytrain.serving.models import RunModels, Which

MAX_TEXT_CHARS = 100_000


@dataclass(frozen=True, slots=True)
class TimedGeneration:
    """What one model generated, and how long it took."""

    text: str
    tokens: int
    cut_off: bool
    prompt_tokens: int
    seconds: float


class Playground:
    """The models of one run; serves one request at a time."""

    def __init__(self, models: "RunModels") -> None:
        self._models = models
        self._lock = threading.Lock()

    def load(self, which: "Sequence[Which]") -> None:
        """Loads the models now, so that the first request does not wait for them."""
        for one in which:
            self._models.generator(one)

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
        return ["before", "after"] if self._models.is_tuned() else ["before"]

    def generate(
        self, task: str, text: str, *, template: int | None, which: "Sequence[Which]", refuse_long: bool = False
    ) -> dict[str, Any]:
        """Returns the prompt, what of it was cut, and what each model generates for it.

        Raises UsageError for an invalid request; with `refuse_long`, for a text that is too long.
        """
        from raytrain.serving.predict import find_task
        from raytrain.serving.prompts import make_prompts

        if not text.strip():
            raise UsageError("no text given")
        if len(text) > MAX_TEXT_CHARS:
            raise UsageError(f"the text is longer than {MAX_TEXT_CHARS:,} characters")
        [prompt] = make_prompts(
            self._models.tokenizer,
            find_task(self._models.tasks, task),
            template,
            [text],
            limit=self._models.limits.max_input_tokens,
            refuse_long=refuse_long,
        )
        return {
            "task": task,
            "prompt": prompt.text,
            "prompt_tokens": prompt.tokens,
            "read_tokens": prompt.read,
            "notice": prompt.notice,
            "generations": {one: self._generate(one, prompt.text) for one in which},
        }

    def _generate(self, which: "Which", prompt: str) -> TimedGeneration:
        with self._lock:
            began = time.perf_counter()
            [generation] = self._models.generator(which).generate([prompt])
        seconds = round(time.perf_counter() - began, 3)
        return TimedGeneration(
            generation.text, generation.tokens, generation.cut_off, generation.prompt_tokens, seconds
        )
