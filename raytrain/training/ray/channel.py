"""The channel between driver and workers: one small Ray actor on the driver's node.

Events and progress go from the workers to the driver; requests to stop or to take a checkpoint go
the other way. The actor outlives worker groups, so it also remembers the error that ended one.
`ray.train.report` is a barrier over all workers, so it is not used while steps are being made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import ray

from raytrain_core.errors import UserError

_STORING_SECONDS = 10.0  # validity of the first worker's notice that it waits for the store, renewed every second
_POLL_SECONDS = 0.1


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


@dataclass(frozen=True, slots=True)
class Requests:
    """What the workers were asked to do."""

    stop: bool = False
    """End after the current step."""
    checkpoint: int = 0
    """Number of the latest request for a checkpoint; 0 if there was none."""


class ChannelActor:
    """State of the channel, in the actor's process; everyone else uses `DriverChannel`."""

    def __init__(self) -> None:
        self._messages: list[TrainProgress | TrainEvent] = []
        self._failure: UserError | None = None
        self._final = False
        self._requests = Requests()
        self._checkpointed = 0  # the latest request for a checkpoint that was met
        self._training = False
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
        self._training = True
        return self._starts

    def end_group(self) -> None:
        """Notes that the group has made its last step and has nothing left to store."""
        self._training = False

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
        self._requests = replace(self._requests, stop=True)

    def request_checkpoint(self) -> int:
        """Asks the workers for a checkpoint after their step; returns the request's number."""
        self._requests = replace(self._requests, checkpoint=self._requests.checkpoint + 1)
        return self._requests.checkpoint

    def requests(self) -> Requests:
        """Returns what the workers were asked to do."""
        return self._requests

    def checkpointed(self, request: int) -> None:
        """Notes that a checkpoint taken after this request is committed."""
        self._checkpointed = max(self._checkpointed, request)

    def is_checkpointed(self, request: int) -> bool:
        """Returns whether the request was met, or nobody trains who could meet it."""
        return self._checkpointed >= request or not self._training


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

    def request_checkpoint(self, *, wait: float) -> bool:
        """Asks the workers for a checkpoint; waits up to `wait` seconds until it is committed.

        Returns whether it is, or nobody trains who could take one.
        """
        deadline = time.monotonic() + wait
        request: int = ray.get(self._actor.request_checkpoint.remote())
        while not ray.get(self._actor.is_checkpointed.remote(request)):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

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
        ray.get(self._actor.requests.remote())  # calls of one process are answered in order

    def begin_group(self) -> int:
        """Counts the start of this worker group: 1 for the first. Called by its first worker."""
        starts: int = ray.get(self._actor.begin_group.remote())
        return starts

    def end_group(self) -> None:
        """Says that this group has made its last step and has nothing left to store."""
        self._actor.end_group.remote()

    def checkpointed(self, request: int) -> None:
        """Says that a checkpoint taken after the driver's request of this number is committed."""
        self._actor.checkpointed.remote(request)

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

    def request_signal(self) -> RequestSignal:
        """Returns a look, cheap enough for every step, at what the driver requests."""
        return RequestSignal(self._actor)


class RequestSignal:
    """What the driver requests.

    It never waits: the answer is to a question asked some steps ago.
    """

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._latest: Requests = ray.get(actor.requests.remote())  # a stop from before the first step is seen there
        self._answer = actor.requests.remote()

    def latest(self) -> Requests:
        """Returns the latest answer, and asks again if it is new."""
        if ray.wait([self._answer], timeout=0)[0]:
            self._latest = ray.get(self._answer)
            self._answer = self._actor.requests.remote()
        return self._latest
