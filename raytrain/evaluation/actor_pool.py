"""A pool of Ray actors that serves chunks of requests and replaces the actors that it loses.

A chunk whose actor dies or hangs is given to another actor with the same requests, so that results
are those of an undisturbed run. A chunk that ran out of memory is retried with half as many
requests at once. What cannot be served is reported as failed, never raised.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from raytrain.evaluation.chunks import Chunk, ChunkDone, ChunkGroup, GroupFailed
from raytrain.evaluation.row_stats import reason_of
from raytrain_core.errors import StorageError, UserError

OnEvent = Callable[..., None]
"""Called as on_event(kind, message, **fields); must return quickly. Its exceptions are ignored."""

MAX_TRIES = 3
"""How often a chunk is tried before its group is given up."""
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How many actors a pool has, what each of them gets, and what the pool tolerates.

    At most `max_restarts` actors are replaced. An actor that has not returned a chunk within
    `chunk_timeout` seconds (the first one includes waiting for resources and loading the model) is
    killed and replaced; one that has never returned anything within `startup_notice` seconds is
    mentioned in an event.
    """

    actors: int = 1
    cpus: float = 1
    gpus: float = 0
    memory: int | None = None
    """Bytes per actor."""
    environment: Mapping[str, str] | None = None
    """Environment variables of the actors' processes."""
    max_restarts: int = 10
    chunk_timeout: float = 600.0
    startup_notice: float = 60.0

    @property
    def actor_options(self) -> dict[str, Any]:
        """Options for Ray. Ray itself restarts and retries nothing: the pool does."""
        options: dict[str, Any] = {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "memory": self.memory,
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        if self.environment:
            options["runtime_env"] = {"env_vars": dict(self.environment)}
        return options

    @property
    def actor_size(self) -> str:
        """Resources of one actor, for messages."""
        return f"{self.cpus:g} CPU, {self.gpus:g} GPU" + (f", {self.memory:,} bytes of memory" if self.memory else "")


@dataclass(frozen=True, slots=True)
class _Assignment:
    """A chunk on its way to an actor."""

    group: ChunkGroup
    chunk: Chunk
    batch_size: int
    tries: int = 0

    def retry(self, *, smaller_batches: bool) -> "_Assignment":
        """The same requests once more, with `smaller_batches` half as many at once."""
        size = max(1, self.batch_size // 2) if smaller_batches else self.batch_size
        return replace(self, batch_size=size, tries=self.tries + 1)


@dataclass(slots=True)
class _Slot:
    """A place in the pool and the actor that fills it now."""

    number: int
    actor: Any = None
    actor_started: float = 0.0
    is_silent: bool = True
    """The actor has returned nothing yet, and no event has mentioned it."""
    assignment: _Assignment | None = None
    reference: Any = None
    """Ray's reference to the result of the assignment."""
    assigned: float = 0.0


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a chunk was not served, and what follows from it."""

    reason: str
    actor_lost: bool = False
    out_of_memory: bool = False
    is_final: bool = False
    """Another try would fail in the same way."""


class ActorPool:
    """Serves chunks on Ray actors, in the order in which they were submitted.

    Ray must be initialized. Actors are started when there is work for them and kept until `close`;
    each is `actor_class(actor_settings)` and has the method `generate` of `EvaluationActor`. The
    pool has no thread of its own: it works whenever `poll` is called, from one thread only.
    """

    def __init__(
        self,
        actor_class: type,
        actor_settings: Any,
        settings: PoolSettings | None = None,
        *,
        on_event: OnEvent | None = None,
    ) -> None:
        self._settings = settings or PoolSettings()
        self._actor_class: Any = ray.remote(actor_class).options(**self._settings.actor_options)
        self._actor_settings = actor_settings
        self._on_event = on_event
        self._slots = [_Slot(number) for number in range(self._settings.actors)]
        self._restarts_left = self._settings.max_restarts
        self._last_loss = "no actor was started"
        self._waiting: deque[_Assignment] = deque()
        self._chunks_left: dict[ChunkGroup, int] = {}  # of every group that is not finished

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._waiting and all(slot.assignment is None for slot in self._slots)

    def submit(self, group: ChunkGroup, chunks: Sequence[Chunk]) -> None:
        """Adds the chunks of a group to the queue."""
        self._chunks_left[group] = len(chunks)
        self._waiting.extend(_Assignment(group, chunk, group.batch_size) for chunk in chunks)

    def poll(self) -> Iterator[ChunkDone | GroupFailed]:
        """Assigns waiting chunks to free actors, waits a moment and yields what came of it."""
        self._assign()
        busy = {slot.reference: slot for slot in self._slots if slot.assignment is not None}
        if not busy:
            yield from self._fail_waiting(f"no evaluation actor is left: {self._last_loss}")
            return
        ray.wait(list(busy), num_returns=1, timeout=_POLL_SECONDS)
        ready, pending = ray.wait(list(busy), num_returns=len(busy), timeout=0)
        for reference in pending:
            yield from self._check_time(busy[reference])
        for reference in ready:
            yield from self._collect(busy[reference])

    def abandon(self) -> None:
        """Forgets all chunks; actors that are at work go on, but their results are ignored."""
        self._waiting.clear()
        self._chunks_left.clear()
        for slot in self._slots:
            slot.assignment = None

    def close(self) -> None:
        """Forgets all chunks and kills the actors."""
        self.abandon()
        for slot in self._slots:
            self._kill(slot)

    def _assign(self) -> None:
        for slot in self._slots:
            if slot.assignment is not None or not self._waiting:
                continue
            if slot.actor is None:
                if self._restarts_left < 0:
                    continue
                slot.actor = self._actor_class.remote(self._actor_settings)
                slot.actor_started, slot.is_silent = time.monotonic(), True
            assignment = self._waiting.popleft()
            group = assignment.group
            slot.reference = slot.actor.generate.remote(group.model, assignment.chunk.requests, assignment.batch_size)
            slot.assignment, slot.assigned = assignment, time.monotonic()
            group.started = group.started or slot.assigned

    def _check_time(self, slot: _Slot) -> Iterator[GroupFailed]:
        """Gives up an actor that hangs; mentions one that is slow to start."""
        assert slot.assignment is not None
        now, settings = time.monotonic(), self._settings
        if now - slot.assigned > settings.chunk_timeout:
            failure = _Failure(f"no result within {settings.chunk_timeout:g} s", actor_lost=True)
            yield from self._handle_failure(slot, failure)
        elif slot.is_silent and now - slot.actor_started > settings.startup_notice:
            slot.is_silent = False
            self._emit(
                "ActorWaiting",
                f"evaluation actor {slot.number} has returned nothing for {settings.startup_notice:g} s: it waits "
                f"for resources in the cluster ({settings.actor_size}), or it is still loading the model",
                **slot.assignment.group.fields,
                actor=slot.number,
            )

    def _collect(self, slot: _Slot) -> Iterator[ChunkDone | GroupFailed]:
        """Fetches the result of an actor that has finished its chunk, one way or another."""
        assert slot.assignment is not None
        group, chunk = slot.assignment.group, slot.assignment.chunk
        try:
            generations = ray.get(slot.reference)
        except RayError as error:
            failure = _classify(error, slot.assignment)
            slot.is_silent = slot.is_silent and failure.actor_lost
            yield from self._handle_failure(slot, failure)
            return
        slot.assignment, slot.is_silent = None, False
        if group not in self._chunks_left:  # given up meanwhile
            return
        self._chunks_left[group] -= 1
        if not self._chunks_left[group]:
            del self._chunks_left[group]
        yield ChunkDone(group, chunk, generations)

    def _handle_failure(self, slot: _Slot, failure: _Failure) -> Iterator[GroupFailed]:
        """Every failure of a chunk: replaces the actor if it is lost, then retries or gives up."""
        assignment = slot.assignment
        assert assignment is not None
        slot.assignment = None
        if failure.actor_lost:
            self._lose_actor(slot, assignment.group, failure.reason)
        if assignment.group not in self._chunks_left:  # given up meanwhile
            return
        retry = assignment.retry(smaller_batches=failure.out_of_memory)
        if not failure.is_final and retry.tries < MAX_TRIES:
            self._waiting.appendleft(retry)
            return
        reason = failure.reason
        if failure.actor_lost:
            reason = f"evaluation actors were lost {MAX_TRIES} times over the same examples: {reason}"
        yield self._fail_group(assignment.group, reason)

    def _lose_actor(self, slot: _Slot, group: ChunkGroup, reason: str) -> None:
        self._kill(slot)  # it may still be alive and hold its GPU
        self._restarts_left -= 1
        self._last_loss = reason
        self._emit(
            "ActorRestarted" if self._restarts_left >= 0 else "ActorLost",
            f"evaluation actor {slot.number} was lost while it scored {group.label}: {reason}",
            **group.fields,
            actor=slot.number,
            reason=reason,
        )

    def _fail_waiting(self, reason: str) -> Iterator[GroupFailed]:
        for group in list(dict.fromkeys(assignment.group for assignment in self._waiting)):
            yield self._fail_group(group, reason)

    def _fail_group(self, group: ChunkGroup, reason: str) -> GroupFailed:
        self._waiting = deque(assignment for assignment in self._waiting if assignment.group is not group)
        self._chunks_left.pop(group, None)
        return GroupFailed(group, reason)

    @staticmethod
    def _kill(slot: _Slot) -> None:
        if slot.actor is not None:
            with contextlib.suppress(Exception):
                ray.kill(slot.actor)
        slot.actor = None

    def _emit(self, kind: str, message: str, **fields: Any) -> None:
        if self._on_event is not None:
            with contextlib.suppress(Exception):
                self._on_event(kind, message, **fields)


def _classify(error: RayError, assignment: _Assignment) -> _Failure:
    """What an error of Ray means for a chunk."""
    if not isinstance(error, RayTaskError):  # the actor, its node, its memory or its result is gone
        return _Failure(_reason(error), actor_lost=True, out_of_memory=isinstance(error, OutOfMemoryError))
    cause = error.cause if isinstance(error.cause, BaseException) else error
    if isinstance(cause, MemoryError):
        reason = f"out of memory with {assignment.batch_size} examples at once: {cause}"
        return _Failure(reason, out_of_memory=True)
    is_final = isinstance(cause, UserError) and not isinstance(cause, StorageError)
    return _Failure(_reason(cause), is_final=is_final)


def _reason(error: BaseException) -> str:
    """One line that says what happened."""
    lines = str(error).strip().splitlines() or ["no message"]
    if isinstance(error, RayActorError) and "creation task" in lines[0]:
        return f"the actor could not start: {lines[-1].strip()}"  # the end of the traceback
    return reason_of(error)
