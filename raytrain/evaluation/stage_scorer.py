"""Scores stages while training goes on: plans chunks, has a pool serve them, commits score cards.

Knows nothing of Ray. Whatever goes wrong ends as the `error` of a score card and never reaches the
training; a row that a metric fails on is left out of that metric, and counted.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from data_prep.config import Split
from raytrain.evaluation.chunks import ChunkDone, ChunkGroup, GroupFailed
from raytrain.evaluation.evaluator import Evaluator
from raytrain.evaluation.results import ScoreCard, Stage
from raytrain.evaluation.row_stats import reason_of
from raytrain.generation.requests import Generation, ModelRef

if TYPE_CHECKING:
    from raytrain.evaluation.actor_pool import ActorPool, OnEvent

OnProgress = Callable[[str, int, int], None]
"""Called as on_progress(stage, examples done, examples of the stage); must return quickly."""

_CLOSED = "evaluation was closed"


@dataclass(slots=True, eq=False)
class _StageRun:
    """A stage that is being scored."""

    stage: Stage
    tasks: tuple[str, ...]
    future: "Future[tuple[ScoreCard, ...]]" = field(default_factory=Future)
    cards: dict[str, ScoreCard] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    """Examples of each task that was planned."""
    done: dict[str, int] = field(default_factory=dict)
    """Examples of each task that have a generation."""


@dataclass(slots=True)
class _TaskRun:
    """One task of a stage whose chunks are with the pool."""

    stage_run: _StageRun
    task: str
    generations: dict[int, Generation] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        return len(self.generations) == self.stage_run.total[self.task]


class StageScorer:
    """Scores stages in the order in which they come in; `score` returns at once.

    One thread plans the stages, drives the pool and computes the scores; callbacks are called from
    it, and their exceptions are ignored. `on_progress` tells how far a stage is; examples of a task
    that is given up leave its total. Use it as a context manager: leaving it closes the pool.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        pool: "ActorPool",
        *,
        on_event: "OnEvent | None" = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._evaluator, self._pool = evaluator, pool
        self._on_event, self._on_progress = on_event, on_progress
        self._inbox: queue.SimpleQueue[_StageRun | None] = queue.SimpleQueue()
        self._stage_runs: list[_StageRun] = []
        self._task_runs: dict[ChunkGroup, _TaskRun] = {}
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="stage-scorer", daemon=True)
        self._thread.start()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that can be scored."""
        return tuple(self._evaluator.tasks)

    def score(
        self, stage: str, model: ModelRef, split: Split, tasks: Iterable[str] | None = None
    ) -> "Future[tuple[ScoreCard, ...]]":
        """Scores `tasks` (by default all) with `model`; the cards come in the order of the tasks.

        The future never raises: a task that could not be scored has a card with an `error`. Scores
        of the same model and protocol that are in storage already are not computed again. Raises
        ValueError for an unknown task.
        """
        names = tuple(self._evaluator.tasks) if tasks is None else tuple(tasks)
        if unknown := [name for name in names if name not in self._evaluator.tasks]:
            raise ValueError(f"no such task: {', '.join(unknown)}")
        stage_run = _StageRun(Stage(stage, model, split), names)
        if not names:
            stage_run.future.set_result(())
            return stage_run.future
        with self._lock:  # whatever is queued before closing is seen by the thread
            if not self._closing.is_set():
                self._inbox.put(stage_run)
                return stage_run.future
        self._fail_stage(stage_run, _CLOSED)
        return stage_run.future

    def close(self) -> None:
        """Gives up what is not finished and kills the actors.

        No events are emitted for what is given up: another attempt scores it.
        """
        with self._lock:
            self._closing.set()
        self._inbox.put(None)
        self._thread.join()

    def __enter__(self) -> "StageScorer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # Everything below runs in the scorer's thread.

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._plan_new_stages()
                for result in self._pool.poll():
                    self._handle(result)
            except Exception as error:  # such as a lost cluster: must end as a reason on a card
                self._fail_all(reason_of(error))
        self._fail_all(_CLOSED)
        with contextlib.suppress(queue.Empty):
            while True:
                late = self._inbox.get_nowait()
                if late is not None:
                    self._fail_stage(late, _CLOSED)
        self._pool.close()

    def _plan_new_stages(self) -> None:
        """Plans all stages that came in; waits for one if there is nothing else to do."""
        may_wait = self._pool.is_idle
        while True:
            try:
                stage_run = self._inbox.get(block=may_wait)
            except queue.Empty:
                return
            if stage_run is None:
                return
            may_wait = False
            self._stage_runs.append(stage_run)
            for task in stage_run.tasks:
                self._plan_task(stage_run, task)
            if not stage_run.future.done():
                self._show_progress(stage_run)

    def _plan_task(self, stage_run: _StageRun, task: str) -> None:
        """Submits the chunks of a task, unless its scores are in storage already."""
        stage = stage_run.stage
        try:
            card = self._evaluator.stored_card(stage, task)
            chunks = [] if card is not None else self._evaluator.chunks(task, stage.split)
        except Exception as error:
            self._fail_task(stage_run, task, reason_of(error))
            return
        if card is not None:
            stage_run.total[task] = stage_run.done[task] = card.rows
            self._deliver(stage_run, card)
            return
        stage_run.total[task], stage_run.done[task] = sum(len(chunk.indices) for chunk in chunks), 0
        group = ChunkGroup(
            model=stage.model,
            batch_size=self._evaluator.limits.batch_size,
            label=f"{task} at {stage.name}",
            fields={"stage": stage.name, "task": task},
        )
        self._task_runs[group] = _TaskRun(stage_run, task)
        self._pool.submit(group, chunks)

    def _handle(self, result: ChunkDone | GroupFailed) -> None:
        task_run = self._task_runs[result.group]
        stage_run, task = task_run.stage_run, task_run.task
        if isinstance(result, GroupFailed):
            del self._task_runs[result.group]
            self._fail_task(stage_run, task, result.reason)
            return
        task_run.generations.update(zip(result.chunk.indices, result.generations, strict=True))
        stage_run.done[task] = len(task_run.generations)
        self._show_progress(stage_run)
        if task_run.is_complete:
            del self._task_runs[result.group]
            self._score_task(task_run, time.monotonic() - (result.group.started or 0.0))

    def _score_task(self, task_run: _TaskRun, seconds: float) -> None:
        """Computes and commits the scores of a task all of whose examples have a generation."""
        stage_run, stage = task_run.stage_run, task_run.stage_run.stage
        generations = [task_run.generations[i] for i in range(len(task_run.generations))]
        try:
            card = self._evaluator.score(stage, task_run.task, generations, seconds)
        except Exception as error:
            self._fail_task(stage_run, task_run.task, reason_of(error))
            return
        self._deliver(stage_run, card)
        value = "unknown" if card.value is None else f"{card.value:.3f}"
        failed = next((f"; {name}: {m.error}" for name, m in card.metrics.items() if m.error), "")
        self._emit(
            "EvaluationFinished",
            f"{stage.name}: {card.task} {card.primary_metric} {value} over {card.scored} of {card.rows} rows{failed}",
            stage=stage.name,
            task=card.task,
            primary_metric=card.primary_metric,
            value=card.value,
        )

    def _deliver(self, stage_run: _StageRun, card: ScoreCard) -> None:
        """Adds a card to its stage; the last one completes the stage."""
        stage_run.cards[card.task] = card
        if len(stage_run.cards) < len(set(stage_run.tasks)):
            return
        if stage_run in self._stage_runs:
            self._stage_runs.remove(stage_run)
        if not stage_run.future.done():
            stage_run.future.set_result(tuple(stage_run.cards[task] for task in stage_run.tasks))

    def _fail_task(self, stage_run: _StageRun, task: str, reason: str) -> None:
        """Every failure ends here: with a card that says why there are no scores."""
        stage = stage_run.stage
        if not self._closing.is_set():  # what a stopped run did not finish is not a failure
            self._emit(
                "EvaluationFailed",
                f"{stage.name}: {task} was not scored: {reason}",
                stage=stage.name,
                task=task,
                reason=reason,
            )
            stage_run.total[task] = stage_run.done.get(task, 0)
            if stage_run.tasks[-1] in stage_run.total:  # all tasks are planned: the total is known
                self._show_progress(stage_run)
        self._deliver(stage_run, self._evaluator.failed_card(stage, task, reason))

    def _fail_stage(self, stage_run: _StageRun, reason: str) -> None:
        for task in stage_run.tasks:
            if task not in stage_run.cards:
                self._fail_task(stage_run, task, reason)

    def _fail_all(self, reason: str) -> None:
        self._pool.abandon()
        self._task_runs.clear()
        for stage_run in list(self._stage_runs):
            self._fail_stage(stage_run, reason)

    def _show_progress(self, stage_run: _StageRun) -> None:
        if self._on_progress is not None:
            with contextlib.suppress(Exception):
                self._on_progress(stage_run.stage.name, sum(stage_run.done.values()), sum(stage_run.total.values()))

    def _emit(self, kind: str, message: str, **fields: Any) -> None:
        if self._on_event is not None:
            with contextlib.suppress(Exception):
                self._on_event(kind, message, **fields)
