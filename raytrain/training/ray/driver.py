"""Training on Ray Train, seen from the driver.

It starts the workers, passes on what they emit, and turns errors into sentences. Ray schedules
workers and restarts their group when one dies; it never stores anything of ours. The newest
committed checkpoint says where a group begins, the sampling order what it sees. What runs in a
worker is in `worker`; what the two say to each other goes through `channel`.
"""

from __future__ import annotations

import importlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from raytrain.config import identity as job_identity
from raytrain.config.job import FineTuneJob
from raytrain.config.run_layout import RunLayout
from raytrain.runs.checkpoints import CommittedCheckpoint, committed_checkpoints
from raytrain.telemetry.attempts import Attempt, SupersededError
from raytrain.training import checkpoint
from raytrain.training.ray.channel import DriverChannel, TrainEvent, TrainProgress
from raytrain.training.ray.worker import train_worker
from raytrain.training.ray.worker_settings import WorkerSettings
from raytrain_core.errors import ClusterError, StorageError, TrainingError, UserError
from raytrain_core.storage import Store
from raytrain_core.storage.cache import Cache
from raytrain_core.storage.scratch import scratch

if TYPE_CHECKING:
    from data_prep.shards.manifest import ShardSet

OnEvent = Callable[..., None]
"""Called as on_event(kind, message, **fields)."""

MAX_RESTARTS = 3
"""Worker groups that may die (reclaimed nodes not counted) before training ends."""
MAX_STARTS = 6
"""Tries to start the worker group, each for RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S seconds."""
_POLL_SECONDS = 0.2
_STOP_SECONDS = 60.0  # how long a requested stop waits for workers that have not begun
_PREEMPTION_GRACE_SECONDS = 10.0
"""From a leaving node's deadline until the group restarts.

Any sooner, and Ray counts the node that is being ended, wants a worker there and waits for the
start timeout.
"""
_RESIZE_SECONDS = 60.0  # how often Ray looks whether there is room for more workers of an elastic group
_COLLECTIVE_SECONDS = 600
_MORE_MEMORY = "raise resources.training.memory, or lower training.microBatchTokens"
_SAME_COMMAND = "the same command resumes from the last checkpoint"


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Where training ended, its checkpoints (newest first), and whether `stop` ended it early."""

    step: int
    checkpoints: tuple[CommittedCheckpoint, ...]
    interrupted: bool


def load() -> None:
    """Imports what `train` needs: torch and Ray Train take some seconds."""
    importlib.import_module("ray.train.torch")


def train(
    job: FineTuneJob,
    *,
    store: Store,
    shard_set: ShardSet,
    model_folder: Path,
    attempt: Attempt,
    identity: str | None = None,
    on_progress: Callable[[TrainProgress], None] = lambda progress: None,
    on_event: OnEvent = lambda kind, message, **fields: None,
    stop: Callable[[], bool] = lambda: False,
    keep: Callable[[], Collection[int]] = tuple,
    cache: Cache | None = None,
    local: bool = True,
    model_uri: str | None = None,
) -> TrainResult:
    """Trains `job` from the newest intact checkpoint to its last step, in this Ray cluster.

    `on_progress` and `on_event` are called in this thread. Once `stop` returns True the workers
    finish their step, write a checkpoint and end. After every checkpoint older ones are removed,
    except the newest `training.keep_checkpoints` and the steps in `keep()`. `local` means that Ray
    runs on this machine alone: counts of workers apply, GPUs are used if there are enough. A node
    without `model_folder` reads the base model at `model_uri`, by default the job's. `identity` is
    the digest that checkpoints carry, by default that of `job`; those with another are not used.

    Raises the TrainingError, DataError or StorageError that a worker met, and ClusterError if
    workers keep dying or find no room.
    """
    layout = attempt.layout
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # keep relative paths valid in workers
    channel = DriverChannel.start()
    settings = WorkerSettings(
        job=job,
        store=store,
        layout=layout,
        attempt=attempt,
        identity=identity or job_identity.digest(job_identity.identity(job)),
        shard_set=shard_set.digest,
        model_folder=model_folder,
        cache=cache or Cache(Path(tempfile.gettempdir()) / "raytrain-cache"),
        channel=channel,
        model_uri=model_uri,
    )
    listener = _Listener(settings, on_progress, on_event, keep)
    try:
        with scratch("ray") as notes:
            fit = _FitThread(_torch_trainer(lambda: train_worker(settings), settings, notes, local=local))
            deadline: float | None = None
            while fit.running(_POLL_SECONDS):
                listener.handle(channel.drain())
                if deadline is None and stop():
                    channel.request_stop()
                    deadline = time.monotonic() + _STOP_SECONDS
                if deadline is not None and not listener.started and time.monotonic() > deadline:
                    newest = checkpoint.newest(store, layout)  # the workers still wait for room: nothing is lost
                    return _result(store, layout, newest.step if newest else 0, interrupted=True)
        listener.handle(channel.drain())
        failure = channel.failure()
    finally:
        channel.close()
    if failure is not None and (fit.error is not None or fit.value is None):
        raise failure
    if fit.error is not None:
        raise _as_user_error(fit.error, job) from fit.error
    step, interrupted = fit.value
    return _result(store, layout, step, interrupted=interrupted)


def _result(store: Store, layout: RunLayout, step: int, *, interrupted: bool) -> TrainResult:
    return TrainResult(step, tuple(committed_checkpoints(store, layout)), interrupted)


@dataclass(slots=True)
class _Listener:
    """Passes on what workers emit, and removes old checkpoints."""

    settings: WorkerSettings
    on_progress: Callable[[TrainProgress], None]
    on_event: OnEvent
    keep: Callable[[], Collection[int]]
    started: bool = False
    """Whether workers have begun to train."""

    def handle(self, messages: list[TrainProgress | TrainEvent]) -> None:
        """Passes on messages in the order in which they were emitted."""
        committed = False
        for message in messages:
            if isinstance(message, TrainProgress):
                self.on_progress(message)
                continue
            self.started = self.started or message.kind in ("TrainingStarted", "WorkerRestarted")
            committed = committed or message.kind == "CheckpointCommitted"
            self.on_event(message.kind, message.message, **message.fields)
        if committed:
            self._prune()

    def _prune(self) -> None:
        last = self.settings.job.spec.training.keep_checkpoints
        try:
            self.settings.attempt.check()
            checkpoint.prune(self.settings.store, self.settings.layout, last=last, keep=self.keep())
        except SupersededError:  # the newer attempt decides what is kept
            return
        except StorageError as error:
            self.on_event("CheckpointsNotRemoved", f"cannot remove old checkpoints: {error.message}")


class _FitThread:
    """Runs `trainer.fit()` in a thread: in the main thread it would take over Ctrl-C."""

    def __init__(self, trainer: Any) -> None:
        self.value: Any = None
        self.error: Exception | None = None
        self._trainer = trainer
        self._thread = threading.Thread(target=self._run, name="ray-train", daemon=True)
        self._thread.start()

    def running(self, seconds: float) -> bool:
        """Waits up to `seconds` for it to end; returns whether it still runs."""
        self._thread.join(seconds)
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.value = self._trainer.fit().return_value
        except Exception as error:  # raised in the driver's own thread
            self.error = error


def _torch_trainer(train_func: Callable[[], Any], settings: WorkerSettings, notes: Path, *, local: bool) -> Any:
    import ray.train.torch

    from raytrain.training.ray.resizing import CheckpointBeforeResize
    from raytrain.training.threads import worker_environment

    api: Any = ray.train  # its static types are those of Ray Train's first version

    resources = settings.job.spec.resources.training
    gpus, notice = _gpus_per_worker(settings.job, local=local)
    on_gpus = bool(gpus) and settings.job.spec.training.device != "cpu"
    if notice:
        settings.channel.emit("TrainingOnCpu", notice)
    least = resources.min_workers or resources.workers
    return api.torch.TorchTrainer(
        train_func,
        torch_config=api.torch.TorchConfig(backend="nccl" if on_gpus else "gloo", timeout_s=_COLLECTIVE_SECONDS),
        scaling_config=api.ScalingConfig(
            num_workers=(least, resources.workers) if least < resources.workers else resources.workers,
            use_gpu=bool(gpus),
            resources_per_worker={"CPU": resources.cpus, **({"GPU": gpus} if gpus else {})},
            elastic_resize_monitor_interval_s=_RESIZE_SECONDS,
        ),
        run_config=api.RunConfig(
            name=f"{settings.layout.name}-a{settings.attempt.number:02d}",
            storage_path=str(notes),  # Ray's own notes only: it is never given a checkpoint
            failure_config=api.FailureConfig(
                max_failures=MAX_RESTARTS,
                controller_failure_limit=MAX_STARTS,
                preemption_grace_s=_PREEMPTION_GRACE_SECONDS,
            ),
            worker_runtime_env={} if on_gpus else {"env_vars": worker_environment()},
            logging_config=api.LoggingConfig(log_level="WARNING"),
            callbacks=[CheckpointBeforeResize(settings.channel)] if least < resources.workers else [],
        ),
    )


def _gpus_per_worker(job: FineTuneJob, *, local: bool) -> tuple[float, str]:
    """Returns the GPUs that a worker reserves (0: train on CPUs) and a notice for the user or "".

    In a cluster a worker takes the pod that the job describes even if `device` leaves its GPU
    alone. ClusterError if the job asks for GPUs that are not there, or would leave GPUs idle
    without saying so.
    """
    resources, device = job.spec.resources.training, job.spec.training.device
    if local and device == "cpu":
        return 0, ""
    cluster: Any = ray
    present: float = cluster.cluster_resources().get("GPU", 0)
    if not local:
        gpus = resources.gpus or (1 if device == "cuda" else 0)
        idle = f"training uses CPUs only: resources.training.gpus is 0, but the cluster has {present:.0f} GPUs"
        return gpus, idle if present and not gpus and device != "cpu" else ""
    least = resources.min_workers or resources.workers
    if present >= least:
        return 1, ""
    if device == "cuda" or present:
        raise ClusterError(
            f"training.device is {device}, but this machine has {present:.0f} GPUs for {least} workers",
            hint=f"set resources.training.workers to {present:.0f}, or training.device to cpu"
            if present
            else "set training.device to auto or cpu",
        )
    return 0, ""


def _as_user_error(error: Exception, job: FineTuneJob) -> UserError:
    """Returns what Ray Train raised as a sentence for the user."""
    from ray.train import WorkerGroupError

    lines = [line for line in str(error).splitlines() if line.strip()]
    if any(words in str(error) for words in ("running low on memory", "out of memory issue")):  # Ray's memory monitor
        what = "Ray ended a training worker because its machine or pod ran out of memory"
        return ClusterError(f"{what}: {_MORE_MEMORY}", hint=f"{_SAME_COMMAND}, if there is one")
    if isinstance(error, WorkerGroupError):
        logs = f"{RunLayout(job.metadata.name).root}/logs"
        causes = sorted({f"rank {rank}: {_last_line(cause)}" for rank, cause in error.worker_failures.items()})
        memory = any("memory" in str(cause).lower() for cause in error.worker_failures.values())
        perhaps = f" (out of memory? {_MORE_MEMORY})"
        return TrainingError(
            f"the training workers died {MAX_RESTARTS + 1} times; last cause: {'; '.join(causes) or lines[-1]}"
            + perhaps * memory,
            hint=f"their logs are in the storage under {logs}; {_SAME_COMMAND}",
        )
    return ClusterError(f"Ray could not run the training workers: {lines[-1] if lines else type(error).__name__}")


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
