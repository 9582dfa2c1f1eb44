"""Scoring in this process, without Ray: the same chunks in the same order, so the same scores."""

import time
from collections.abc import Callable, Iterable

from raytrain.evaluation.chunks import Chunk
from raytrain.evaluation.evaluator import Evaluator
from raytrain.evaluation.results import ScoreCard, Stage
from raytrain.generation.generator import Generator
from raytrain.generation.requests import Generation
from raytrain_core.errors import TrainingError

OnProgress = Callable[[int, int, str], None]
"""Called as on_progress(examples done, examples of all tasks, task)."""


def score_locally(
    evaluator: Evaluator,
    stage: Stage,
    load_generator: Callable[[], Generator],
    *,
    tasks: Iterable[str] | None = None,
    on_progress: OnProgress = lambda done, total, task: None,
) -> list[ScoreCard]:
    """Returns the cards of `tasks` (by default all), in their order.

    Cards in storage are read; `load_generator` is called only if some are missing. Raises
    TrainingError where memory does not suffice for a single example.
    """
    names = list(evaluator.tasks) if tasks is None else list(tasks)
    cards = {name: evaluator.stored_card(stage, name) for name in names}
    total = sum(len(evaluator.examples(name, stage.split)) for name in names if cards[name] is None)
    generator, done = None, 0
    for name in names:
        if cards[name] is not None:
            continue
        generator = generator or load_generator()
        began = time.monotonic()
        generations: dict[int, Generation] = {}
        for chunk in evaluator.chunks(name, stage.split):
            generations.update(zip(chunk.indices, _serve(generator, chunk, evaluator.limits.batch_size), strict=True))
            done += len(chunk.indices)
            on_progress(done, total, name)
        ordered = [generations[i] for i in range(len(generations))]
        cards[name] = evaluator.score(stage, name, ordered, time.monotonic() - began)
    return [card for name in names if (card := cards[name]) is not None]


def _serve(generator: Generator, chunk: Chunk, batch_size: int) -> list[Generation]:
    """Serves a chunk; halves the batch size whenever memory does not suffice."""
    while True:
        try:
            return generator.generate(chunk.requests, batch_size=batch_size)
        except MemoryError as error:
            if batch_size == 1:
                raise TrainingError(
                    f"out of memory with one example at a time: {error}",
                    hint="Lower training.maxInputTokens, or use a machine with more memory.",
                ) from None
            batch_size //= 2
