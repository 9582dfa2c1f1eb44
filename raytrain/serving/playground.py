"""What can be asked of a run, and asking it; knows nothing of the web."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raytrain_core.errors import UsageError

if TYPE_CHECKING:
    from raytrain.serving.models import RunModels, Which

LONGEST_TEXT = 100_000  # characters


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of one model."""

    text: str
    tokens: int
    cut_off: bool
    prompt_tokens: int
    seconds: float


class Asking:
    """The models of one run, asked one request at a time."""

    def __init__(self, models: "RunModels") -> None:
        self._models = models
        self._lock = threading.Lock()

    def load(self, which: "Sequence[Which]") -> None:
        """Load models now, so that the first request does not wait for them."""
        for one in which:
            self._models.decoder(one)

    def tasks(self) -> list[dict[str, Any]]:
        """Every task with its wordings, `{input}` where the text goes."""
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

    def which(self) -> "list[Which]":
        """The models that there are."""
        return ["before", "after"] if self._models.tuned() else ["before"]

    def ask(self, task: str, text: str, *, template: int | None, which: "Sequence[Which]") -> dict[str, Any]:
        """The prompt as the models read it, and each model's reply; UsageError for what cannot be asked."""
        from raytrain.serving.predict import named, render

        if not text.strip():
            raise UsageError("there is no text to answer")
        if len(text) > LONGEST_TEXT:
            raise UsageError(f"the text is longer than {LONGEST_TEXT:,} characters")
        [prompt] = render(named(self._models.tasks, task), [text], template)
        replies = {}
        for one in which:
            with self._lock:
                began = time.perf_counter()
                [answer] = self._models.decoder(one).answer([prompt])
            seconds = round(time.perf_counter() - began, 3)
            replies[one] = Reply(answer.text, answer.tokens, answer.cut_off, answer.read, seconds)
        return {"task": task, "prompt": prompt, "replies": replies}
