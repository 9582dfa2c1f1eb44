"""Training on Ray Train: a group of workers that Ray restarts when one dies, and that goes on from our checkpoints.

Ray schedules and restarts; it never stores anything of ours. The newest committed checkpoint says
where a group begins, the plan says what it sees. The workers talk to the driver through one small
actor, the board: progress and events go one way, the wish to stop and the memory of a final error
the other. `ray.train.report` is a barrier that is drained every so often, so it is not used while
steps are being made.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from raytrain.config.identity import digest, identity
from raytrain.config.job import FineTuneJob, TrainingSpec
from raytrain.config.run_layout import RunLayout
from raytrain.model.source import WEIGHTS_FILE
from raytrain.telemetry.attempts import Attempt, SupersededError
from raytrain.training import checkpoint
from raytrain.training.checkpoint import CheckpointRef
from raytrain_core.errors import ClusterError, StorageError, TrainingError, UsageError, UserError
from raytrain_core.storage import CorruptError, Store
from raytrain_core.storage.cache import Cache
from raytrain_core.storage.scratch import full_disk, scratch

if TYPE_CHECKING:
    from data_prep.shards.manifest import ShardSet
    from raytrain.telemetry.logs import RunLog
    from raytrain.telemetry.trackers import Trackers
    from raytrain.training.checkpoint import Position, Snapshot
    from raytrain.training.trainer import StepRecord, Trainer

_log = logging.getLogger(__name__)

OnEvent = Callable[..., None]
"""Called as on_event(kind, message, **fields)."""

MOST_RESTARTS = 3
"""Worker groups that may die (reclaimed nodes not counted) before training ends."""
MOST_STARTS = 6
"""Tries to find room for the worker group and to start it, each of RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S seconds."""
_VERSIONS_OF = ("raytrain", "ray", "torch", "transformers")
_PROGRESS_SECONDS = 0.25
_POLL_SECONDS = 0.2
_STOP_SECONDS = 60.0  # so long a wish to stop waits for workers that have not begun
_GONE_SECONDS = 10.0
"""From a leaving node's deadline until the group is begun anew: sooner, Ray counts the node that is just being ended,
wants a worker there and waits out the start timeout."""
_COLLECTIVE_SECONDS = 600
_LAST_WORDS_SECONDS = 3.0
_MORE_MEMORY = "raise resources.training.memory, or lower training.microBatchTokens"
_STORING_SECONDS = 10.0  # so long a word that the store is being waited for holds: it is given every second


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """How far training is: `step` of `steps` done, loss per target token of that step, real tokens trained so far.

    `tokens_per_second` and `eta_seconds` are of the recent steps.
    """

    step: int
    steps: int
    loss: float
    loss_by_task: dict[str, float]
    tokens: int
    tokens_per_second: float
    eta_seconds: float


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Where training ended, the checkpoints that are there (newest first), and whether it was asked to stop early."""

    step: int
    checkpoints: tuple[CheckpointRef, ...]
    interrupted: bool


def train(
    job: FineTuneJob,
    *,
    store: Store,
    shard_set: ShardSet,
    model_folder: Path,
    attempt: Attempt,
    on_progress: Callable[[TrainProgress], None] = lambda progress: None,
    on_event: OnEvent = lambda kind, message, **fields: None,
    stop: Callable[[], bool] = lambda: False,
    keep: Callable[[], Collection[int]] = tuple,
    cache: Cache | None = None,
    local: bool = True,
) -> TrainResult:
    """Train `job` to its last step from the newest whole checkpoint, in the Ray cluster that this process is in.

    `on_progress` and `on_event` are called in this thread. Once `stop` says so the workers finish
    their step, write a checkpoint and end. After every checkpoint older ones are removed:
    `training.keep_checkpoints` of the newest and the steps that `keep` names stay. `local` says
    that Ray runs on this machine alone: counts of workers hold there, GPUs are taken if there are
    enough.

    Raises TrainingError, DataError or StorageError as a worker found it, and ClusterError if
    workers keep dying or find no room.
    """
    layout = attempt.layout
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # relative paths stay what they are
    board = _start_board()
    settings = _Settings(
        job=job,
        store=store,
        layout=layout,
        attempt=attempt,
        shard_set=shard_set.digest,
        model_folder=model_folder,
        cache=cache or Cache(Path(tempfile.gettempdir()) / "raytrain-cache"),
        board=board,
    )
    listener = _Listener(settings, on_progress, on_event, keep)
    try:
        with scratch("ray") as notes:
            fit = _Fit(_trainer(settings, notes, local=local))
            asked: float | None = None
            while fit.running(_POLL_SECONDS):
                listener.hear(ray.get(board.drain.remote()))
                if asked is None and stop():
                    ray.get(board.ask_to_stop.remote())
                    asked = time.monotonic()
                if asked is not None and not listener.started and time.monotonic() > asked + _STOP_SECONDS:
                    newest = checkpoint.newest(store, layout)  # the workers still wait for room: nothing is lost
                    found = checkpoint.committed(store, layout)
                    return TrainResult(newest.step if newest else 0, tuple(found), interrupted=True)
        listener.hear(ray.get(board.drain.remote()))
        failure: UserError | None = ray.get(board.failure.remote())
    finally:
        ray.kill(board)
    if failure is not None and (fit.error is not None or fit.value is None):
        raise failure
    if fit.error is not None:
        raise _told(fit.error, job) from fit.error
    step, interrupted = fit.value
    return TrainResult(step, tuple(checkpoint.committed(store, layout)), interrupted)


@dataclass(frozen=True, slots=True)
class _Settings:
    """What a worker is told."""

    job: FineTuneJob
    store: Store
    layout: RunLayout
    attempt: Attempt
    shard_set: str
    model_folder: Path
    cache: Cache
    board: Any


class _Board:
    """The actor between workers and driver."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, Any]] = []
        self._failure: UserError | None = None
        self._final = self._stop = False
        self._storing_until = 0.0
        self._starts = 0

    def tell(self, kind: str, message: Any) -> None:
        """Something for the driver."""
        self._messages.append((kind, message))

    def drain(self) -> list[tuple[str, Any]]:
        """What was told since the last time."""
        messages, self._messages = self._messages, []
        return messages

    def begin(self) -> int:
        """A group starts (its first worker says so): which start this is, counted from 1."""
        self._starts += 1
        self._storing_until = 0.0
        return self._starts

    def fail(self, error: UserError, final: bool) -> None:
        """A worker ends with this; `final` if it would do so again. The first final one stays."""
        if not self._final:
            self._failure, self._final = error, final

    def failed(self) -> bool:
        """Whether a worker ended with a final error."""
        return self._final

    def failure(self) -> UserError | None:
        """The final error, or else the newest one."""
        return self._failure

    def storing(self, seconds: float) -> None:
        """The first worker waits for the store; it will say so again within `seconds`, if it still does and lives."""
        self._storing_until = time.monotonic() + seconds

    def is_storing(self) -> bool:
        """Whether it does."""
        return time.monotonic() < self._storing_until

    def ask_to_stop(self) -> None:
        """The workers are to end after the step they are at."""
        self._stop = True

    def asked_to_stop(self) -> bool:
        """Whether they are."""
        return self._stop


def _start_board() -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(_Board).options(num_cpus=0, scheduling_strategy=here).remote()


@dataclass(slots=True)
class _Listener:
    """In the driver: passes on what workers tell, and removes old checkpoints."""

    settings: _Settings
    on_progress: Callable[[TrainProgress], None]
    on_event: OnEvent
    keep: Callable[[], Collection[int]]
    started: bool = False
    """Whether workers have begun."""

    def hear(self, messages: list[tuple[str, Any]]) -> None:
        """In the order in which they were told."""
        for kind, message in messages:
            if kind == "progress":
                self.on_progress(message)
            else:
                fields = dict(message)
                self.started = self.started or kind in ("TrainingStarted", "WorkerRestarted")
                self.on_event(kind, fields.pop("message"), **fields)
        if any(kind == "CheckpointCommitted" for kind, _ in messages):
            self._prune()

    def _prune(self) -> None:
        last = self.settings.job.spec.training.keep_checkpoints
        try:
            self.settings.attempt.check()
            checkpoint.prune(self.settings.store, self.settings.layout, last=last, keep=self.keep())
        except SupersededError:  # what stays is the newer attempt's business
            return
        except StorageError as error:
            self.on_event("CheckpointsNotRemoved", f"old checkpoints could not be removed: {error.message}")


class _Fit:
    """`trainer.fit()` in a thread: in the main thread it would take over Ctrl-C."""

    def __init__(self, trainer: Any) -> None:
        self.value: Any = None
        self.error: Exception | None = None
        self._trainer = trainer
        self._thread = threading.Thread(target=self._run, name="ray-train", daemon=True)
        self._thread.start()

    def running(self, seconds: float) -> bool:
        """Wait at most so long for its end; whether it still runs."""
        self._thread.join(seconds)
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.value = self._trainer.fit().return_value
        except Exception as error:  # told in the driver's own thread
            self.error = error


def _trainer(settings: _Settings, notes: Path, *, local: bool) -> Any:
    import ray.train.torch

    from raytrain.training.threads import worker_environment

    api: Any = ray.train  # its static types are those of Ray Train's first version

    wanted = settings.job.spec.resources.training
    gpus, why = _gpus_of_worker(settings.job, local=local)
    on_gpus = bool(gpus) and settings.job.spec.training.device != "cpu"
    if why:
        settings.board.tell.remote("TrainingOnCpu", {"message": why})
    least = wanted.min_workers or wanted.workers
    return api.torch.TorchTrainer(
        lambda: _work(settings),
        torch_config=api.torch.TorchConfig(backend="nccl" if on_gpus else "gloo", timeout_s=_COLLECTIVE_SECONDS),
        scaling_config=api.ScalingConfig(
            num_workers=(least, wanted.workers) if least < wanted.workers else wanted.workers,
            use_gpu=bool(gpus),
            resources_per_worker={"CPU": wanted.cpus, **({"GPU": gpus} if gpus else {})},
        ),
        run_config=api.RunConfig(
            name=f"{settings.layout.name}-a{settings.attempt.number:02d}",
            storage_path=str(notes),  # Ray's own notes only: it is never given a checkpoint
            failure_config=api.FailureConfig(
                max_failures=MOST_RESTARTS, controller_failure_limit=MOST_STARTS, preemption_grace_s=_GONE_SECONDS
            ),
            worker_runtime_env={} if on_gpus else {"env_vars": worker_environment()},
            logging_config=api.LoggingConfig(log_level="WARNING"),
        ),
    )


def _gpus_of_worker(job: FineTuneJob, *, local: bool) -> tuple[float, str]:
    """GPUs that a worker reserves, 0 to train on CPUs, and what a person should hear of that.

    In a cluster a worker takes the pod that the job speaks of even if `device` leaves its GPU
    alone. ClusterError if the job wants GPUs that are not there, or leaves GPUs idle without
    saying so.
    """
    wanted, device = job.spec.resources.training, job.spec.training.device
    if local and device == "cpu":
        return 0, ""
    cluster: Any = ray
    here: float = cluster.cluster_resources().get("GPU", 0)
    if not local:
        gpus = wanted.gpus or (1 if device == "cuda" else 0)
        idle = f"training runs on CPUs: resources.training.gpus is 0, and the cluster has {here:.0f} GPUs"
        return gpus, idle if here and not gpus and device != "cpu" else ""
    least = wanted.min_workers or wanted.workers
    if here >= least:
        return 1, ""
    if device == "cuda" or here:
        raise ClusterError(
            f"training.device is {device}, but there are {here:.0f} GPUs here for {least} workers",
            hint=f"set resources.training.workers to {here:.0f}, or training.device to cpu"
            if here
            else "set training.device to auto or cpu",
        )
    return 0, ""


def _told(error: Exception, job: FineTuneJob) -> UserError:
    """What Ray Train raised, as a sentence."""
    from ray.train import WorkerGroupError

    lines = [line for line in str(error).splitlines() if line.strip()]
    if any(words in str(error) for words in ("running low on memory", "out of memory issue")):  # Ray's memory monitor
        what = "Ray ended a training worker because the memory of its machine or pod ran out"
        return ClusterError(
            f"{what}: {_MORE_MEMORY}", hint="the same command goes on from the last checkpoint, if there is one"
        )
    if isinstance(error, WorkerGroupError):
        logs = f"{RunLayout(job.metadata.name).root}/logs"
        causes = sorted({f"rank {rank}: {_last_line(cause)}" for rank, cause in error.worker_failures.items()})
        memory = any("memory" in str(cause).lower() for cause in error.worker_failures.values())
        perhaps = f" (out of memory? {_MORE_MEMORY})"
        return TrainingError(
            f"the training workers died {MOST_RESTARTS + 1} times; at last {'; '.join(causes) or lines[-1]}"
            + perhaps * memory,
            hint=f"their logs are in the storage under {logs}; the same command goes on from the last checkpoint",
        )
    return ClusterError(f"Ray could not run the training workers: {lines[-1] if lines else type(error).__name__}")


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


# ---- in a worker


def _work(settings: _Settings) -> tuple[int, bool] | None:
    """A worker's life; (step, interrupted), or None where an earlier group ended with a final error."""
    import torch

    from raytrain.telemetry.logs import RunLog
    from raytrain.training.threads import threads_of_worker

    context = ray.train.get_context()
    rank = context.get_world_rank()
    if ray.get(settings.board.failed.remote()):
        return None
    start = ray.get(settings.board.begin.remote()) if rank == 0 else 0
    torch.set_num_threads(threads_of_worker(context.get_local_world_size()))
    try:
        with RunLog(settings.store, settings.layout, settings.attempt.number, f"rank-{rank:03d}") as log:
            return _train(settings, context, start, log)
    except (UserError, OSError) as error:
        told = error if isinstance(error, UserError) else full_disk(error)
        if told is None:
            raise
        # Another group could only end like this one, except where it was the network.
        final = not isinstance(told, StorageError) or isinstance(told, CorruptError)
        ray.get(settings.board.fail.remote(told, final))
        raise told from None


def _hangs(settings: _Settings, log: RunLog, rank: int, seconds: float, stacks: str) -> None:
    """Say where this worker stands and end its process: Ray starts the group again.

    While the first worker waits for a slow store all others wait for it, and that is no hang: the
    store has its own limits of time.
    """
    with contextlib.suppress(Exception):  # a board that does not answer is no reason to go on
        if ray.get(settings.board.is_storing.remote(), timeout=_LAST_WORDS_SECONDS):
            return
    _log.error("rank %d has got no further for %.0f s; its threads:\n%s", rank, seconds, stacks)
    message = f"rank {rank} has got no further for {seconds:.0f} s; where it stands is in its log"
    settings.board.tell.remote("WorkerHangs", {"message": message, "rank": rank, "seconds": round(seconds, 1)})
    time.sleep(_LAST_WORDS_SECONDS)  # the others' watchdogs bark too, and write their own stacks
    log.flush()
    os._exit(1)


def _train(settings: _Settings, context: Any, start: int, log: RunLog) -> tuple[int, bool]:
    from data_prep.shards.manifest import ShardSet
    from raytrain.training import trainer as loop
    from raytrain.training.data.loader import DataLoader
    from raytrain.training.watchdog import Watchdog

    rank, workers = context.get_world_rank(), context.get_world_size()
    training = settings.job.spec.training
    shard_set = ShardSet.load(settings.store, settings.shard_set)
    loader = DataLoader.open(settings.job, shard_set, settings.store, settings.cache)
    model, new_rows = _load(settings, shard_set.tokenizer.size)
    watchdog = Watchdog(training.hang_timeout_seconds, functools.partial(_hangs, settings, log, rank))
    stepper = loop.Trainer(
        model,
        training,
        loader.tasks,
        device=_device(training),
        new_rows=new_rows,
        sharded=settings.job.spec.resources.training.sharding == "fsdp",
        beat=watchdog.beat,
    )
    ref, position = _restore(settings, context, stepper)
    with _reporter(settings, stepper, rank) as reporter, watchdog:
        if rank == 0:
            _tell_start(settings.board, start, ref, position.step, workers)
        if ref is None and position.step >= training.last_step and (rank == 0 or stepper.shards.split):
            reporter.hooks.on_checkpoint(stepper.snapshot(position, 0))  # zero steps: the base is the outcome
        with loader.batches(position.step, training.last_step, worker=rank, workers=workers) as rows:
            position, interrupted = loop.run(
                stepper,
                rows,
                position=position,
                rows_per_step=loader.rows_per_step,
                checkpoint_every=training.checkpoint_every,
                hooks=reporter.hooks,
                first=rank == 0,
            )
    return position.step, interrupted


def _load(settings: _Settings, tokenizer_size: int) -> tuple[Any, range]:
    """The base model, and the ids of the pieces that its vocabulary has got for this run."""
    from raytrain.model import load, resolve
    from raytrain.model import vocabulary as pieces

    folder = settings.model_folder
    if not folder.is_dir():  # on another node than the driver
        cache = settings.cache.folder / "models"
        folder = resolve(settings.job.spec.model, store=settings.store, base_folder=Path(), cache=cache)
    return load(folder, tokenizer_size=tokenizer_size), pieces.new_rows(folder)


def _device(training: TrainingSpec) -> Any:
    """Where this worker computes: what Ray gave it, unless the job says otherwise."""
    import ray.train.torch
    import torch

    return torch.device("cpu") if training.device == "cpu" else ray.train.torch.get_device()


def _restore(settings: _Settings, context: Any, stepper: Trainer) -> tuple[CheckpointRef | None, Position]:
    """Put the newest whole checkpoint in place; the first worker chooses it for all."""
    from safetensors.torch import load_file

    store, layout = settings.store, settings.layout

    def unusable(ref: CheckpointRef, why: str) -> None:
        message = f"the checkpoint of step {ref.step} is passed over: {why}"
        settings.board.tell.remote("CheckpointUnusable", {"message": message, "step": ref.step, "reason": why})

    ref: CheckpointRef | None = None
    position = checkpoint.Position()
    with scratch("restore", folder=settings.cache.folder, token=settings.attempt.token) as folder:
        if context.get_world_rank() == 0:
            found = checkpoint.fetch_newest(store, layout, folder, unusable, digest(identity(settings.job)))
            ref = found[0] if found else None
        ref = _shared(ref)
        if ref is not None:
            place = checkpoint.fetch_files(store, ref, folder, (WEIGHTS_FILE, checkpoint.OPTIMIZER))
            position = checkpoint.position_of(checkpoint.manifest_of(store, ref))
            stepper.restore(load_file(place / WEIGHTS_FILE), *checkpoint.read_optimizer(place / checkpoint.OPTIMIZER))
        _shared(None)  # all have read
    return ref, position


def _shared(value: Any) -> Any:
    """What the first worker passes, at every worker; also a barrier."""
    from torch import distributed as dist

    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def _tell_start(board: Any, start: int, ref: CheckpointRef | None, step: int, workers: int) -> None:
    origin = f"from the checkpoint of step {step}" if ref else "from the base model"
    group = f"{workers} worker{'s' if workers > 1 else ''}"
    kind, what = ("TrainingStarted", "training starts") if start == 1 else ("WorkerRestarted", "training goes on")
    board.tell.remote(kind, {"message": f"{what} with {group} {origin}", "step": step, "workers": workers})


@dataclass(frozen=True, slots=True)
class _Reporter:
    hooks: Any


@contextlib.contextmanager
def _reporter(settings: _Settings, stepper: Trainer, rank: int) -> Iterator[_Reporter]:
    """The first worker's hooks: metrics and checkpoints into the store, progress and events to the board."""
    from raytrain.telemetry.segments import SegmentWriter
    from raytrain.training.checkpoint import CheckpointWriter
    from raytrain.training.ray.metrics import Gauges, values
    from raytrain.training.trainer import Callbacks

    if rank != 0:
        yield _Reporter(Callbacks())
        return
    store, layout, attempt, board = settings.store, settings.layout, settings.attempt, settings.board
    progress = _Progress(settings)
    every = settings.job.spec.training.checkpoint_every
    gauges = Gauges(layout.name, _run_id(), rank, checkpoint_every=every)
    with SegmentWriter(store, layout, "metrics", attempt.number) as metrics, _trackers(settings) as trackers:

        def guard() -> None:
            attempt.check()
            metrics.flush()  # whoever goes on from this checkpoint finds the story of its steps

        def on_step(record: StepRecord, position: Position) -> None:
            metrics.append(record.as_json())
            gauges.step(record)
            trackers.log(record.step, values(record) | {f"loss/{t}": x for t, x in record.loss_by_task.items()})
            progress.step(record, position)

        def on_committed(ref: CheckpointRef) -> None:
            gauges.saved(ref.step)
            message = f"checkpoint of step {ref.step} committed"
            board.tell.remote("CheckpointCommitted", {"message": message, "step": ref.step, "prefix": ref.prefix})

        def on_missed(step: int, why: str) -> None:
            message = f"the checkpoint of step {step} could not be stored, training goes on without it: {why}"
            board.tell.remote("CheckpointStale", {"message": message, "step": step, "reason": why})

        def on_skipped(step: int, message: str) -> None:
            board.tell.remote("StepSkipped", {"message": message, "step": step})

        writer = CheckpointWriter(
            store, layout, _origin(settings, stepper), guard=guard, on_committed=on_committed, on_missed=on_missed
        )

        def on_checkpoint(snapshot: Snapshot) -> None:
            with _storing(board):  # the writer may have to wait for the checkpoint before
                writer.save(snapshot)

        yield _Reporter(
            Callbacks(
                on_step=on_step,
                on_skipped=on_skipped,
                on_checkpoint=on_checkpoint,
                stop=_StopFlag(board),
                keep=_Notices(board),
                check=writer.check,
            )
        )
        writer.finish()
        ray.get(board.asked_to_stop.remote())  # answered after everything told before: nothing of it is lost


@contextlib.contextmanager
def _storing(board: Any) -> Iterator[None]:
    """Tell the board every second that this worker waits for the store: one that the system has stopped is silent."""
    done = threading.Event()

    def tell() -> None:
        while not done.wait(1.0):
            board.storing.remote(_STORING_SECONDS)

    board.storing.remote(_STORING_SECONDS)
    teller = threading.Thread(target=tell, name="storing", daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
        board.storing.remote(0.0)


def _trackers(settings: _Settings) -> Trackers:
    from raytrain.telemetry.trackers import Trackers, tracker_factories
    from raytrain_core.storage.local import LocalStore

    store, names = settings.store, settings.job.spec.training.trackers
    local = store.path(f"{settings.layout.root}/tensorboard") if isinstance(store, LocalStore) else None
    if "tensorboard" in names and local is None:
        raise UsageError(
            f"training.trackers: tensorboard's files need a local storage, not {store.uri}",
            hint="take mlflow or wandb, or leave it out: the report draws the run's own metrics",
        )
    return Trackers(tracker_factories(names, run=settings.layout.name, folder=local or Path()))


def _run_id() -> str:
    """Ray Train's own id of this run, by which its dashboards filter; empty where Ray does not tell."""
    try:
        from ray.train.v2._internal.execution.context import get_train_context

        return str(get_train_context().train_run_context.run_id)
    except Exception:  # no public name for it: one version may call it otherwise
        return ""


def _origin(settings: _Settings, stepper: Trainer) -> checkpoint.Origin:
    from raytrain.model.export import write_config

    body = {
        "identity": digest(identity(settings.job)),
        "versions": {name: version(name) for name in _VERSIONS_OF},
        "shard_set": settings.shard_set,
    }
    with scratch("config") as folder:
        files = write_config(stepper.model, folder)
        return checkpoint.Origin(settings.attempt.number, body, {name: p.read_bytes() for name, p in files.items()})


class _StopFlag:
    """Whether the driver asked to stop.

    The answer is that of a question asked some steps ago and costs no waiting.
    """

    def __init__(self, board: Any) -> None:
        self._board = board
        self._asked = board.asked_to_stop.remote()
        ray.wait([self._asked])  # a wish from before the first step is known at the first step

    def __call__(self) -> bool:
        if not ray.wait([self._asked], timeout=0)[0]:
            return False
        answer: bool = ray.get(self._asked)
        self._asked = self._board.asked_to_stop.remote()
        return answer


class _Notices:
    """Whether a worker's node is about to go, as Ray has been told (a drain, a reclaimed spot node): once a notice.

    A checkpoint is taken then, and training goes on until the node is gone; Ray counts that as no
    failure. `ray.train.get_preemption_info` says the same and is a barrier over all workers, so it
    is not asked at every step.
    """

    def __init__(self, board: Any) -> None:
        self._board = board
        self._told: Any = None

    def __call__(self) -> bool:
        notice = _preemption()
        if notice is None or notice == self._told:
            return False
        self._told = notice
        ranks = ", ".join(map(str, notice.preempted_ranks))
        message = f"the node of rank {ranks} is about to go: a checkpoint is taken"
        self._board.tell.remote("NodeLeaving", {"message": message, "ranks": list(notice.preempted_ranks)})
        return True


def _preemption() -> Any:
    """What Ray's watcher has told this worker; None where it told nothing, or cannot be asked."""
    try:
        from ray.train.v2._internal.execution.context import get_train_context

        return get_train_context().preemption_context.preemption_info
    except Exception:  # no public name for it without a barrier: one version may call it otherwise
        return None


class _Progress:
    """Tells the board how far training is, a few times a second at most."""

    def __init__(self, settings: _Settings) -> None:
        self._board, self._steps = settings.board, settings.job.spec.training.last_step
        self._seconds: float | None = None
        self._rate: float | None = None
        self._told = 0.0

    def step(self, record: StepRecord, position: Position) -> None:
        """After every step."""
        self._seconds = _smoothed(self._seconds, record.seconds)
        self._rate = _smoothed(self._rate, record.tokens_per_second)
        now = time.monotonic()
        if now - self._told < _PROGRESS_SECONDS and record.step < self._steps:
            return
        self._told = now
        progress = TrainProgress(
            step=record.step,
            steps=self._steps,
            loss=record.loss,
            loss_by_task=record.loss_by_task,
            tokens=position.tokens,
            tokens_per_second=self._rate,
            eta_seconds=self._seconds * (self._steps - record.step),
        )
        self._board.tell.remote("progress", progress)


def _smoothed(before: float | None, now: float) -> float:
    return now if before is None else 0.8 * before + 0.2 * now
