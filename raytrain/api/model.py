"""A model of a run, to generate with."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from raytrain.serving.models import RunModels, Which
    from raytrain.serving.prompts import Prompt


class Model:
    """The model that a run trained or began with; its weights are loaded on first use.

    Raises DataError where the run has no such model yet.
    """

    def __init__(self, models: RunModels, which: Which) -> None:
        self._models, self._which = models, which

    @overload
    def generate(self, texts: str, *, task: str | None = None, template: int | None = None) -> str: ...  # type: ignore[overload-overlap]

    @overload
    def generate(self, texts: Sequence[str], *, task: str | None = None, template: int | None = None) -> list[str]: ...

    def generate(
        self, texts: str | Sequence[str], *, task: str | None = None, template: int | None = None
    ) -> str | list[str]:
        """Returns the answer to each text; a text alone gets one answer.

        Each text is a whole prompt, or with `task`, an input that is put into the task's
        instruction template number `template` (by default the first). Decoding is that of the run's
        scores. A prompt that is too long is cut as in training, with a warning. Raises UsageError
        for an unknown task or template.
        """
        given = [texts] if isinstance(texts, str) else list(texts)
        prompts = self._prompts(given, task, template)
        for number, prompt in enumerate(prompts, 1):
            if prompt.notice:
                warnings.warn(f"text {number}: {prompt.notice}", stacklevel=2)
        answers = [found.text for found in self._models.generator(self._which).generate([p.text for p in prompts])]
        return answers[0] if isinstance(texts, str) else answers

    def _prompts(self, texts: list[str], task: str | None, template: int | None) -> list[Prompt]:
        from raytrain.serving.predict import find_task
        from raytrain.serving.prompts import make_prompts, whole_prompts

        models = self._models
        limit = models.limits.max_input_tokens
        if task is None:
            return whole_prompts(models.tokenizer, texts, limit=limit)
        return make_prompts(models.tokenizer, find_task(models.tasks, task), template, texts, limit=limit)

    def __repr__(self) -> str:
        return f"<Model {self._which} training>"
