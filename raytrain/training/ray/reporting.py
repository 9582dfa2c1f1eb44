"""What the first worker reports: metrics, gauges, progress, events, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from raytrain.runs.checkpoints import CommittedCheckpoint
from raytrain.telemetry.segments import SegmentWriter
from raytrain.training.checkpoint_writer import CheckpointOrigin, CheckpointWriter
from raytrain.training.ray.channel import DriverChannel, TrainProgress
from raytrain.training.ray.metrics import Gauges
from raytrain.training.trainer import Callbacks
from raytrain_core.storage.scratch import scratch

if TYPE_CHECKING:
    from raytrain.training.checkpoint import Position, Snapshot
    from raytrain.training.ray.worker_settings import WorkerSettings
    from raytrain.training.step import StepRecord, StepResult

_VERSIONS_OF = ("raytrain", "ray", "torch", "transformers")
_PROGRESS_SECONDS = 0.25


@contextmanager
def worker_callbacks(settings: WorkerSettings, model: Any, rank: int) -> Iterator[Callbacks]:
    """Yields the callbacks of worker `rank`.

    When training ended well, waits for the last checkpoint and event.
    """
    if rank != 0:
        yield Callbacks()
        return
    store, layout, attempt = settings.store, settings.layout, settings.attempt
    with SegmentWriter(store, layout, "metrics", attempt.number) as metrics:
        callbacks = FirstWorkerCallbacks(settings, model, metrics)
        yield callbacks
        callbacks.finish()


class FirstWorkerCallbacks(Callbacks):
    """Stores metrics and checkpoints, shows gauges, and emits progress and events to the driver."""

    def __init__(self, settings: WorkerSettings, model: Any, metrics: SegmentWriter) -> None:
        spec = settings.job.spec
        self._attempt, self._channel = settings.attempt, settings.channel
        self._metrics = metrics
        self._gauges = Gauges(settings.layout.name, _ray_run_id(), checkpoint_every=spec.training.checkpoint_every)
        self._progress = ProgressEmitter(settings.channel, spec.training.last_step)
        self._signal, self._preemption = settings.channel.request_signal(), PreemptionNotices(settings.channel)
        self._requests = self._signal.latest()
        self._checkpoint_request = self._requests.checkpoint  # earlier ones were made to earlier groups
        self._request_of: dict[int, int] = {}  # of the steps whose checkpoints are being written
        self._writer = CheckpointWriter(
            settings.store,
            settings.layout,
            _checkpoint_origin(settings, model),
            guard=self._before_commit,
            on_committed=self._on_committed,
            on_failed=self._on_not_stored,
        )

    def raise_errors(self) -> None:
        """Raises what ended the checkpoint thread."""
        self._writer.raise_errors()

    def stop_requested(self) -> bool:
        """Returns whether the driver requested a stop."""
        self._requests = self._signal.latest()
        return self._requests.stop

    def checkpoint_requested(self) -> bool:
        """Returns whether the driver asks for one, or a node is about to leave; once each."""
        requested = self._requests.checkpoint > self._checkpoint_request
        self._checkpoint_request = self._requests.checkpoint
        return self._preemption.is_new() or requested

    def on_step(self, result: StepResult) -> None:
        """Reports the step's numbers, or that it was skipped."""
        record, step = result.record, result.position.step
        if record is None:
            message = f"step {step} was skipped: its loss or gradient is not a finite number"
            self._channel.emit("StepSkipped", message, step=step)
            return
        self._metrics.append(record.as_json())
        self._gauges.show_step(record)
        self._progress.after_step(record, result.position)

    def on_checkpoint(self, snapshot: Snapshot) -> None:
        """Begins to write a checkpoint."""
        self._request_of[snapshot.position.step] = self._checkpoint_request
        with self._channel.storing():  # the writer may have to wait for the checkpoint before
            self._writer.save(snapshot)

    def finish(self) -> None:
        """Waits until the last checkpoint is committed and everything emitted has arrived."""
        self._writer.finish()
        self._channel.end_group()
        self._channel.flush()

    def _before_commit(self) -> None:
        self._attempt.check()
        self._metrics.flush()  # a run that resumes from this checkpoint finds the metrics of its steps

    def _on_committed(self, ref: CommittedCheckpoint) -> None:
        self._gauges.checkpoint_committed(ref.step)
        message = f"checkpoint of step {ref.step} committed"
        self._channel.emit("CheckpointCommitted", message, step=ref.step, prefix=ref.prefix)
        if request := self._request_of.pop(ref.step, 0):
            self._channel.checkpointed(request)

    def _on_not_stored(self, step: int, reason: str) -> None:
        message = f"cannot store the checkpoint of step {step}, training continues without it: {reason}"
        self._channel.emit("CheckpointStale", message, step=step, reason=reason)


class ProgressEmitter:
    """Emits progress to the driver, a few times a second at most."""

    def __init__(self, channel: DriverChannel, steps: int) -> None:
        self._channel, self._steps = channel, steps
        self._seconds: float | None = None
        self._rate: float | None = None
        self._emitted = 0.0

    def after_step(self, record: StepRecord, position: Position) -> None:
        """Updates the rates and emits progress if it is due; always after the last step."""
        self._seconds = _smoothed(self._seconds, record.seconds)
        self._rate = _smoothed(self._rate, record.tokens_per_second)
        now = time.monotonic()
        if now - self._emitted < _PROGRESS_SECONDS and record.step < self._steps:
            return
        self._emitted = now
        self._channel.emit_progress(
            TrainProgress(
                step=record.step,
                steps=self._steps,
                loss=record.loss,
                loss_by_task=record.loss_by_task,
                tokens=position.tokens,
                tokens_per_second=self._rate,
                eta_seconds=self._seconds * (self._steps - record.step),
            )
        )


def _smoothed(before: float | None, now: float) -> float:
    return now if before is None else 0.8 * before + 0.2 * now


class PreemptionNotices:
    """Notices that a worker's node is about to leave: a drain, or a reclaimed spot node.

    A checkpoint is taken then, and training goes on until the node is gone; Ray does not count that
    as a failure. `ray.train.get_preemption_info` says the same but is a barrier over all workers,
    so it is not called at every step.
    """

    def __init__(self, channel: DriverChannel) -> None:
        self._channel = channel
        self._last: Any = None

    def is_new(self) -> bool:
        """Returns whether there is a notice since the last call, and emits an event for it."""
        notice = _preemption_info()
        if notice is None or notice == self._last:
            return False
        self._last = notice
        ranks = list(notice.preempted_ranks)
        message = f"the node of rank {', '.join(map(str, ranks))} is about to leave: taking a checkpoint"
        self._channel.emit("NodeLeaving", message, ranks=ranks)
        return True


def _preemption_info() -> Any:
    """Returns what Ray's watcher told this worker; None if nothing, or if it cannot be asked."""
    try:
        from ray.train.v2._internal.execution.context import get_train_context

        return get_train_context().preemption_context.preemption_info
    except Exception:  # there is no public name for it without a barrier, and a private one may change
        return None


def _ray_run_id() -> str:
    """Returns Ray Train's id of this run, by which its dashboards filter.

    "" if Ray does not say.
    """
    try:
        from ray.train.v2._internal.execution.context import get_train_context

        return str(get_train_context().train_run_context.run_id)
    except Exception:  # there is no public name for it, and a private one may change
        return ""


def _checkpoint_origin(settings: WorkerSettings, model: Any) -> CheckpointOrigin:
    from raytrain.generation.requests import GenerationLimits
    from raytrain.model.export import write_config

    body = {
        "identity": settings.identity,
        "versions": {name: version(name) for name in _VERSIONS_OF},
        "shard_set": settings.shard_set,
    }
    with scratch("config") as folder:
        limits = GenerationLimits.from_job(settings.job)
        files = write_config(model, folder, max_new_tokens=limits.max_new_tokens, beams=limits.beams)
        config = {name: path.read_bytes() for name, path in files.items()}
    return CheckpointOrigin(settings.attempt.number, body, config)
