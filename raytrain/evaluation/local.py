"""Scoring in this process, without Ray: the same pieces of work in the same order, hence the same answers."""

import time
from collections.abc import Callable, Iterable

from raytrain.evaluation.evaluator import Evaluator, Stage
from raytrain.evaluation.results import ScoreCard
from raytrain.generation.generator import Generator
from raytrain.generation.requests import Generation, GenerationRequest
from raytrain_core.errors import TrainingError

OnProgress = Callable[[int, int, str], None]
"""Called as on_progress(examples answered, examples of all tasks, task)."""


def score_locally(
    evaluator: Evaluator,
    stage: Stage,
    decoder: Callable[[], Generator],
    *,
    tasks: Iterable[str] | None = None,
    on_progress: OnProgress = lambda done, total, task: None,
) -> list[ScoreCard]:
    """Cards of `tasks` (by default all).

    What was scored before is read; `decoder` is called for what was not.
    """
    names = list(evaluator.tasks) if tasks is None else list(tasks)
    found = {name: evaluator.existing(stage, name) for name in names}
    total = sum(len(evaluator.examples(name, stage.split)) for name in names if found[name] is None)
    model, done = None, 0
    for name in names:
        if found[name] is not None:
            continue
        model = model or decoder()
        began = time.monotonic()
        answers: dict[int, Generation] = {}
        for indices, questions in evaluator.chunks(name, stage.split):
            answers.update(zip(indices, _answer(model, questions, evaluator.limits.batch_size), strict=True))
            done += len(indices)
            on_progress(done, total, name)
        ordered = [answers[i] for i in range(len(answers))]
        found[name] = evaluator.finish(stage, name, ordered, time.monotonic() - began)
    return [card for name in names if (card := found[name]) is not None]


def _answer(model: Generator, questions: tuple[GenerationRequest, ...], size: int) -> list[Generation]:
    """Answers to a piece of work, with half as many at once wherever memory does not suffice."""
    while True:
        try:
            return model.generate(questions, batch_size=size)
        except MemoryError as error:
            if size == 1:
                raise TrainingError(
                    f"the memory does not suffice for one example at a time: {error}",
                    hint="Lower training.maxInputTokens, or use a machine with more memory.",
                ) from None
            size //= 2
