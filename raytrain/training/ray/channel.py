"""The channel between driver and workers: one small Ray actor on the driver's node.

Events and progress go from the workers to the driver; the request to stop goes the other way. The
actor outlives worker groups, so it also remembers the error that ended one. `ray.train.report` is a
barrier over all workers, so it is not used while steps are being made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import ray

from raytrain_core.errors import UserError

_STORING_SECONDS = 10.0  # validity of the first worker's notice that it waits for the store, renewed every second


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """How far training is.

    `loss` is that of `step`, per target token. `tokens` were trained so far; they are counted
    without padding. `tokens_per_second` and `eta_seconds` are smoothed over the latest steps.
    """

    step: int
    steps: int
    loss: float
    loss_by_task: dict[str, float]
    tokens: int
    tokens_per_second: float
    eta_seconds: float


@dataclass(frozen=True, slots=True)
class TrainEvent:
    """Something that happened in a worker, for the run's events."""

    kind: str
    message: str
    fields: dict[str, Any]


class ChannelActor:
    """State of the channel, in the actor's process; everyone else uses `DriverChannel`."""

    def __init__(self) -> None:
        self._messages: list[TrainProgress | TrainEvent] = []
        self._failure: UserError | None = None
        self._final = self._stop = False
        self._storing_until = 0.0
        self._starts = 0

    def emit(self, message: TrainProgress | TrainEvent) -> None:
        """Queues a message for the driver."""
        self._messages.append(message)

    def drain(self) -> list[TrainProgress | TrainEvent]:
        """Returns the messages since the last call, in order."""
        messages, self._messages = self._messages, []
        return messages

    def begin_group(self) -> int:
        """Counts the start of a worker group; returns how many there were, with this one."""
        self._starts += 1
        self._storing_until = 0.0
        return self._starts

    def fail(self, error: UserError, final: bool) -> None:
        """Records a worker's error; `final` if another group would fail alike.

        The first final error is kept.
        """
        if not self._final:
            self._failure, self._final = error, final

    def failed(self) -> bool:
        """Returns whether a worker failed with a final error."""
        return self._final

    def failure(self) -> UserError | None:
        """Returns the final error, or else the latest one."""
        return self._failure

    def storing(self, seconds: float) -> None:
        """Notes that the first worker waits for the store; valid for `seconds` unless renewed."""
        self._storing_until = time.monotonic() + seconds

    def is_storing(self) -> bool:
        """Returns whether the first worker waits for the store."""
        return time.monotonic() < self._storing_until

    def request_stop(self) -> None:
        """Asks the workers to end after their current step."""
        self._stop = True

    def stop_requested(self) -> bool:
        """Returns whether they were asked to."""
        return self._stop


class DriverChannel:
    """Handle of the channel, for the driver and for workers (it pickles). Emitting never waits."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    @classmethod
    def start(cls) -> Self:
        """Starts the actor on this node."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return cls(ray.remote(ChannelActor).options(num_cpus=0, scheduling_strategy=here).remote())

    def close(self) -> None:
        """Ends the actor."""
        ray.kill(self._actor)

    # ---- for the driver

    def drain(self) -> list[TrainProgress | TrainEvent]:
        """Returns what the workers emitted since the last call, in order."""
        messages: list[TrainProgress | TrainEvent] = ray.get(self._actor.drain.remote())
        return messages

    def request_stop(self) -> None:
        """Asks the workers to end after their current step."""
        ray.get(self._actor.request_stop.remote())

    def failure(self) -> UserError | None:
        """Returns the error that ended the workers: the final one, or else the latest."""
        error: UserError | None = ray.get(self._actor.failure.remote())
        return error

    # ---- for the workers

    def emit(self, kind: str, message: str, **fields: Any) -> None:
        """Sends an event to the driver."""
        self._actor.emit.remote(TrainEvent(kind, message, fields))

    def emit_progress(self, progress: TrainProgress) -> None:
        """Sends progress to the driver."""
        self._actor.emit.remote(progress)

    def flush(self) -> None:
        """Waits until everything that this process emitted has arrived."""
        ray.get(self._actor.stop_requested.remote())  # calls of one process are answered in order

    def begin_group(self) -> int:
        """Counts the start of this worker group: 1 for the first. Called by its first worker."""
        starts: int = ray.get(self._actor.begin_group.remote())
        return starts

    def fail(self, error: UserError, *, final: bool) -> None:
        """Records why this worker ends; `final` if another group would fail alike."""
        ray.get(self._actor.fail.remote(error, final))

    def has_failed(self) -> bool:
        """Returns whether a worker failed with a final error."""
        return bool(ray.get(self._actor.failed.remote()))

    def is_storing(self, *, timeout: float) -> bool:
        """Returns whether the first worker waits for the store.

        Raises if there is no answer for `timeout` seconds.
        """
        return bool(ray.get(self._actor.is_storing.remote(), timeout=timeout))

    @contextmanager
    def storing(self) -> Iterator[None]:
        """Notes every second, until the context ends, that this worker waits for the store.

        A worker that the system has stopped falls silent, and its last notice expires.
        """
        done = threading.Event()

        def renew() -> None:
            while not done.wait(1.0):
                self._actor.storing.remote(_STORING_SECONDS)

        self._actor.storing.remote(_STORING_SECONDS)
        thread = threading.Thread(target=renew, name="storing", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self._actor.storing.remote(0.0)

    def stop_signal(self) -> StopSignal:
        """Returns a check, cheap enough for every step, of whether the driver requested a stop."""
        return StopSignal(self._actor)


class StopSignal:
    """Whether the driver requested a stop.

    It never waits: the answer is to a question asked some steps ago.
    """

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._answer = actor.stop_requested.remote()
        ray.wait([self._answer])  # a request from before the first step is seen at the first step

    def is_set(self) -> bool:
        """Returns the latest answer, and asks again."""
        if not ray.wait([self._answer], timeout=0)[0]:
            return False
        answer: bool = ray.get(self._answer)
        self._answer = self._actor.stop_requested.remote()
        return answer
