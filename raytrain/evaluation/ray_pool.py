"""A pool of Ray actors that scores stages while training goes on, and whose trouble never reaches the training.

One thread in the driver owns the actors and hands them chunks of examples. An actor that dies, or
does not answer in time, is replaced and its unfinished chunk is asked again; a chunk always holds
the same examples, so the scores are those of an undisturbed run. One that ran out of memory is
asked again with half as many examples at once. What cannot be scored becomes a `ScoreCard` with an
`error`; a row that a metric throws on is left out of that metric, and counted.
"""

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from data_prep.config import Split
from raytrain.evaluation.evaluator import Evaluator, Stage
from raytrain.evaluation.results import ScoreCard
from raytrain.evaluation.row_stats import reason_of
from raytrain.generation.requests import Generation, GenerationLimits, GenerationRequest, ModelRef
from raytrain_core.errors import StorageError, UserError
from raytrain_core.storage import Store

OnEvent = Callable[..., None]
"""Called as on_event(kind, message, **fields) from the pool's thread; must be quick.

What it raises is swallowed.
"""

OnProgress = Callable[[str, int, int], None]
"""Called as on_progress(stage, examples answered so far, examples of the stage), under the same terms as `OnEvent`."""

TRIES = 3  # how often a chunk is asked before its task is given up


@dataclass(frozen=True, slots=True)
class ActorSettings:
    """What an actor needs to load models and answer prompts; travels to its node."""

    store: Store
    shard_set: str
    base: ModelRef
    cache_folder: Path
    limits: GenerationLimits
    max_target_tokens: int | None = None
    device: str = "auto"


class EvaluationActor:
    """Holds one model at a time."""

    def __init__(self, settings: ActorSettings) -> None:
        self._settings = settings
        self._tokenizer: Any = None
        self._model: tuple[str, Any] | None = None  # (digest, decoder)

    def generate(self, model: ModelRef, questions: Sequence[GenerationRequest], batch_size: int) -> list[Generation]:
        """Answers of `model`, which is loaded if it is not the one of the call before."""
        answers: list[Generation] = self._decoder(model).generate(questions, batch_size=batch_size)
        return answers

    def _decoder(self, model: ModelRef) -> Any:
        from data_prep.shards.manifest import ShardSet
        from data_prep.shards.reader import load_tokenizer
        from raytrain.generation.generator import Generator, load_model

        s = self._settings
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(ShardSet.load(s.store, s.shard_set), s.store)
        if self._model is None or self._model[0] != model.digest:
            self._model = None  # never two models in memory
            loaded = load_model(
                model, s.base, store=s.store, cache_folder=s.cache_folder, tokenizer_size=self._tokenizer.size
            )
            decoder = Generator(
                loaded, self._tokenizer, s.limits, device=s.device, max_target_tokens=s.max_target_tokens
            )
            self._model = model.digest, decoder
        return self._model[1]


@dataclass(slots=True)
class _Slot:
    """A place in the pool and the actor that fills it now."""

    number: int
    actor: Any = None
    busy: "tuple[Any, _Chunk] | None" = None
    started: float = 0.0  # when this actor was asked for
    asked: float = 0.0  # when it was given what it is busy with
    silent: bool = True  # it has not answered yet, and nobody was told so


@dataclass(slots=True)
class _Order:
    """A stage to score."""

    stage: Stage
    tasks: tuple[str, ...]
    future: "Future[tuple[ScoreCard, ...]]"
    cards: dict[str, ScoreCard] = field(default_factory=dict)
    examples: dict[str, int] = field(default_factory=dict)  # of each task: those to be answered
    answered: dict[str, int] = field(default_factory=dict)  # and those that are


@dataclass(slots=True)
class _Work:
    """One task of an order."""

    order: _Order
    task: str
    chunks_left: int
    answers: dict[int, Generation]
    started: float | None = None


@dataclass(frozen=True, slots=True)
class _Chunk:
    work: _Work
    indices: tuple[int, ...]
    questions: tuple[GenerationRequest, ...]
    batch_size: int
    tries: int = 0


class EvaluationPool:
    """Scores stages on `actors` Ray actors. `score` returns at once; stages are scored in the order they came in.

    Ray must be initialised. Actors are started by the first stage and kept until `close`;
    `environment` holds variables of their processes. At most `max_restarts` of them are replaced;
    when none is left, what is outstanding fails with the reason and the training goes on. An actor
    that has not answered a chunk after `patience` seconds (the wait for its place in the cluster
    and loading the model are part of the first) is ended and replaced; of one that has never
    answered an event speaks after `notice` seconds. `on_progress` tells how far a stage is;
    examples of a task that is given up leave its total.
    """

    def __init__(
        self,
        scorer: Evaluator,
        settings: ActorSettings,
        *,
        actors: int = 1,
        cpus: float = 1,
        gpus: float = 0,
        memory: int | None = None,
        environment: Mapping[str, str] | None = None,
        max_restarts: int = 10,
        patience: float = 600.0,
        notice: float = 60.0,
        on_event: OnEvent | None = None,
        on_progress: OnProgress | None = None,
        actor: type = EvaluationActor,
    ) -> None:
        self._scorer, self._settings = scorer, settings
        options: dict[str, Any] = {
            "num_cpus": cpus,
            "num_gpus": gpus,
            "memory": memory,
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        if environment:
            options["runtime_env"] = {"env_vars": dict(environment)}
        self._actor_class: Any = ray.remote(actor).options(**options)
        self._size = f"{cpus:g} CPU, {gpus:g} GPU" + (f", {memory:,} bytes of memory" if memory else "")
        self._slots = [_Slot(number) for number in range(actors)]
        self._restarts_left = max_restarts
        self._patience, self._notice = patience, notice
        self._last_death = "no actor was started"
        self._on_event, self._on_progress = on_event, on_progress
        self._inbox: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._orders: list[_Order] = []
        self._chunks: deque[_Chunk] = deque()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="evaluation-pool", daemon=True)
        self._thread.start()

    def score(
        self, stage: str, model: ModelRef, split: Split, tasks: Iterable[str] | None = None
    ) -> "Future[tuple[ScoreCard, ...]]":
        """Score `tasks` (by default all) with `model`; the cards come in the order of the tasks.

        The future never raises: a task that could not be scored has a card with `error`. Scores of
        the same model and protocol that are in storage already are not made again.
        """
        names = tuple(self._scorer.tasks) if tasks is None else tuple(tasks)
        if unknown := [name for name in names if name not in self._scorer.tasks]:
            raise ValueError(f"no such task: {', '.join(unknown)}")
        order = _Order(Stage(stage, model, split), names, Future())
        if not names:
            order.future.set_result(())
            return order.future
        with self._lock:  # what is put before closing is surely seen by the thread
            if not self._closing.is_set():
                self._inbox.put(order)
                return order.future
        self._fail(order, "evaluation was closed")
        return order.future

    def close(self) -> None:
        """Give up what is not finished and end the actors.

        No event speaks of it: another attempt scores it.
        """
        with self._lock:
            self._closing.set()
        self._inbox.put(None)
        self._thread.join()

    def __enter__(self) -> "EvaluationPool":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # Everything below runs in the pool's thread.

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._take_orders()
                self._feed()
                self._collect()
            except Exception as error:
                # Whatever goes wrong here (the cluster is gone, a metric throws) must end as a
                # reason on a card.
                self._fail_all(_reason(error))
        self._fail_all("evaluation was closed")
        while True:
            try:
                late = self._inbox.get_nowait()
            except queue.Empty:
                break
            if late is not None:
                self._fail(late, "evaluation was closed")
        for slot in self._slots:
            self._end(slot)

    def _take_orders(self) -> None:
        idle = not self._chunks and all(slot.busy is None for slot in self._slots)
        while True:
            try:
                order = self._inbox.get(block=idle)
            except queue.Empty:
                return
            if order is None:
                return
            idle = False
            self._orders.append(order)
            for task in order.tasks:
                self._plan(order, task)
            if not order.future.done():
                self._show(order)

    def _plan(self, order: _Order, task: str) -> None:
        try:
            card = self._scorer.existing(order.stage, task)
            if card is not None:
                order.examples[task] = order.answered[task] = card.rows
                self._deliver(order, card)
                return
            pieces = self._scorer.chunks(task, order.stage.split)
        except Exception as error:
            self._give_up(order, task, _reason(error))
            return
        order.examples[task], order.answered[task] = sum(len(indices) for indices, _ in pieces), 0
        work, size = _Work(order, task, len(pieces), {}), self._scorer.limits.batch_size
        self._chunks.extend(_Chunk(work, indices, questions, size) for indices, questions in pieces)

    def _feed(self) -> None:
        for slot in self._slots:
            if slot.busy is None and self._chunks:
                if slot.actor is None:
                    if self._restarts_left < 0:
                        continue
                    slot.actor = self._actor_class.remote(self._settings)
                    slot.started, slot.silent = time.monotonic(), True
                chunk = self._chunks.popleft()
                if chunk.work.started is None:
                    chunk.work.started = time.monotonic()
                answers = slot.actor.generate.remote(chunk.work.order.stage.model, chunk.questions, chunk.batch_size)
                slot.busy, slot.asked = (answers, chunk), time.monotonic()
        if self._chunks and all(slot.busy is None for slot in self._slots):
            self._fail_all(f"no evaluation actor is left: {self._last_death}")

    def _collect(self) -> None:
        busy = {slot.busy[0]: slot for slot in self._slots if slot.busy is not None}
        if not busy:
            return
        ray.wait(list(busy), num_returns=1, timeout=0.2)
        ready, waiting = ray.wait(list(busy), num_returns=len(busy), timeout=0)
        for answers in waiting:
            self._watch(busy[answers])
        for answers in ready:
            slot = busy[answers]
            assert slot.busy is not None
            chunk = slot.busy[1]
            slot.busy = None
            try:
                found = ray.get(answers)
            except RayTaskError as error:
                slot.silent = False
                self._refused(chunk, _cause(error))
            except RayError as error:  # the actor, its node, its memory or what it answered is gone
                self._died(slot, _smaller(chunk) if isinstance(error, OutOfMemoryError) else chunk, _reason(error))
            else:
                slot.silent = False
                self._answered(chunk, found)

    def _watch(self, slot: _Slot) -> None:
        """Look at the clock for an actor that is still busy."""
        assert slot.busy is not None
        now, chunk = time.monotonic(), slot.busy[1]
        if now - slot.asked > self._patience:
            slot.busy = None
            self._died(slot, chunk, f"no answer within {self._patience:g} s")
        elif slot.silent and now - slot.started > self._notice:
            slot.silent = False
            self._tell(
                "ActorWaiting",
                f"evaluation actor {slot.number} has not answered yet after {self._notice:g} s: "
                f"it waits for room in the cluster ({self._size}), or it is still loading the model",
                stage=chunk.work.order.stage.name,
                task=chunk.work.task,
                actor=slot.number,
            )

    def _answered(self, chunk: _Chunk, answers: Sequence[Generation]) -> None:
        work = chunk.work
        if work.task in work.order.cards:  # given up meanwhile
            return
        work.answers.update(zip(chunk.indices, answers, strict=True))
        work.chunks_left -= 1
        order = work.order
        order.answered[work.task] = len(work.answers)
        self._show(order)
        if work.chunks_left:
            return
        try:
            card = self._scorer.finish(
                order.stage,
                work.task,
                [work.answers[i] for i in range(len(work.answers))],
                time.monotonic() - (work.started or 0.0),
            )
        except Exception as error:
            self._give_up(order, work.task, _reason(error))
            return
        self._deliver(order, card)
        trouble = next((f"; {name}: {m.error}" for name, m in card.metrics.items() if m.error), "")
        shown = "not known" if card.value is None else f"{card.value:.3f}"
        self._tell(
            "EvaluationFinished",
            f"{order.stage.name}: {card.task} {card.primary_metric} {shown} over {card.scored} of {card.rows} rows{trouble}",
            stage=order.stage.name,
            task=card.task,
            primary_metric=card.primary_metric,
            value=card.value,
        )

    def _end(self, slot: _Slot) -> None:
        """End the slot's actor, if it has one and it lives."""
        if slot.actor is not None:
            with contextlib.suppress(Exception):
                ray.kill(slot.actor)
        slot.actor = None

    def _died(self, slot: _Slot, chunk: _Chunk, reason: str) -> None:
        self._end(slot)  # it may still live and hold its GPU
        self._restarts_left -= 1
        self._last_death = reason
        order = chunk.work.order
        where = f"{chunk.work.task} at {order.stage.name}"
        self._tell(
            "ActorRestarted" if self._restarts_left >= 0 else "ActorLost",
            f"evaluation actor {slot.number} was lost while it scored {where}: {reason}",
            stage=order.stage.name,
            task=chunk.work.task,
            actor=slot.number,
            reason=reason,
        )
        self._again(chunk, f"evaluation actors were lost {TRIES} times over the same examples: {reason}")

    def _refused(self, chunk: _Chunk, error: BaseException) -> None:
        """The actor lives but could not answer."""
        if isinstance(error, UserError) and not isinstance(error, StorageError):
            self._give_up(chunk.work.order, chunk.work.task, _reason(error))  # another try would say the same
        elif isinstance(error, MemoryError):
            self._again(_smaller(chunk), f"out of memory with {chunk.batch_size} examples at once: {error}")
        else:
            self._again(chunk, _reason(error))

    def _again(self, chunk: _Chunk, reason: str) -> None:
        if chunk.work.task in chunk.work.order.cards:
            return
        if chunk.tries + 1 >= TRIES:
            self._give_up(chunk.work.order, chunk.work.task, reason)
        else:
            self._chunks.appendleft(replace(chunk, tries=chunk.tries + 1))

    def _deliver(self, order: _Order, card: ScoreCard) -> None:
        order.cards[card.task] = card
        if len(order.cards) == len(set(order.tasks)):
            if order in self._orders:
                self._orders.remove(order)
            if not order.future.done():
                order.future.set_result(tuple(order.cards[task] for task in order.tasks))

    def _give_up(self, order: _Order, task: str, reason: str) -> None:
        self._chunks = deque(c for c in self._chunks if not (c.work.order is order and c.work.task == task))
        card = self._scorer.failed(order.stage, task, reason)
        if not self._closing.is_set():  # a run that is being stopped has failed at nothing
            self._tell(
                "EvaluationFailed",
                f"{order.stage.name}: {task} was not scored: {reason}",
                stage=order.stage.name,
                task=task,
                reason=reason,
            )
            order.examples[task] = order.answered.get(task, 0)
            if order.tasks[-1] in order.examples:  # all are planned: the total is known
                self._show(order)
        self._deliver(order, card)

    def _fail(self, order: _Order, reason: str) -> None:
        for task in order.tasks:
            if task not in order.cards:
                self._give_up(order, task, reason)

    def _fail_all(self, reason: str) -> None:
        self._chunks.clear()
        for slot in self._slots:
            slot.busy = None
        for order in list(self._orders):
            self._fail(order, reason)

    def _show(self, order: _Order) -> None:
        if self._on_progress is not None:
            with contextlib.suppress(Exception):
                self._on_progress(order.stage.name, sum(order.answered.values()), sum(order.examples.values()))

    def _tell(self, kind: str, message: str, **fields: Any) -> None:
        if self._on_event is not None:
            with contextlib.suppress(Exception):
                self._on_event(kind, message, **fields)


def _cause(error: RayTaskError) -> BaseException:
    return error.cause if isinstance(error.cause, BaseException) else error


def _smaller(chunk: _Chunk) -> _Chunk:
    """The same examples, half as many at once: what an actor is asked again that had not enough memory."""
    return replace(chunk, batch_size=max(1, chunk.batch_size // 2))


def _reason(error: BaseException) -> str:
    """One line that says what happened."""
    lines = str(error).strip().splitlines() or ["no message"]
    if isinstance(error, RayActorError) and "creation task" in lines[0]:
        return f"the actor could not start: {lines[-1].strip()}"  # the end of the traceback
    return reason_of(error)
