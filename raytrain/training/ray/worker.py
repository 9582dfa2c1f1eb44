"""What runs on a training worker; `train_worker` is its life from set-up to the last checkpoint."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from raytrain.config.training import TrainingSpec
from raytrain.model.source import WEIGHTS_FILE
from raytrain.runs.checkpoints import CommittedCheckpoint
from raytrain.training import checkpoint
from raytrain.training.ray.channel import DriverChannel
from raytrain.training.ray.worker_settings import WorkerSettings
from raytrain_core.errors import StorageError, UserError
from raytrain_core.storage import CorruptError
from raytrain_core.storage.scratch import full_disk, scratch

if TYPE_CHECKING:
    from raytrain.telemetry.logs import RunLog
    from raytrain.training.trainer import Trainer

_log = logging.getLogger(__name__)
_LAST_WORDS_SECONDS = 3.0


def train_worker(settings: WorkerSettings) -> tuple[int, bool] | None:
    """Trains this worker's share of the run, from set-up to the last step.

    Returns (last step, whether a stop was requested before it), or None if an earlier group failed
    with an error that would come again. Raises what ended it, after recording it in the channel.
    """
    from data_prep.shards.manifest import ShardSet
    from raytrain.training.data.loader import DataLoader
    from raytrain.training.precision import resolved
    from raytrain.training.ray.reporting import worker_callbacks
    from raytrain.training.trainer import Trainer
    from raytrain.training.watchdog import Watchdog

    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    channel = settings.channel
    if channel.has_failed():
        return None
    start = channel.begin_group() if rank == 0 else 0
    with _recorded_errors(channel), _worker_log(settings, rank) as log:
        # set up
        _set_threads(context.get_local_world_size())
        device = _device(settings.job.spec.training)
        training, precision = resolved(settings.job.spec.training, device)
        shard_set = ShardSet.load(settings.store, settings.shard_set)
        loader = DataLoader.open(settings.job, shard_set, settings.store, settings.cache)
        model, new_rows = _load_model(settings, shard_set.tokenizer.size)
        watchdog = Watchdog(training.hang_timeout_seconds, functools.partial(_exit_hung, settings, log, rank))
        trainer = Trainer(
            model,
            training,
            loader.tasks,
            device=device,
            new_rows=new_rows,
            sharded=settings.job.spec.resources.training.sharding == "fsdp",
            heartbeat=watchdog.heartbeat,
        )
        takes_snapshots = rank == 0 or trainer.sharding.active  # every worker holds a part of a sharded model
        # restore
        ref = _restore(settings, rank, trainer)
        with worker_callbacks(settings, trainer.model, rank) as callbacks, watchdog:
            if rank == 0:
                _emit_start(channel, start, ref, trainer.position.step, workers=workers, precision=precision)
            if training.last_step == 0 and ref is None and takes_snapshots:
                callbacks.on_checkpoint(trainer.snapshot(next_row=0))  # the base model is the result
            # train
            with loader.batches(trainer.position.step, training.last_step, worker=rank, workers=workers) as batches:
                for step, rows in trainer.timer.waiting("data", batches):
                    callbacks.raise_errors()
                    stop, requested = callbacks.stop_requested(), callbacks.checkpoint_requested()
                    result = trainer.step(step, rows, stop=stop, checkpoint=requested)
                    callbacks.on_step(result)
                    if result.checkpoint_due and takes_snapshots:
                        with trainer.timer.time("checkpoint"):
                            callbacks.on_checkpoint(trainer.snapshot(next_row=(step + 1) * loader.rows_per_step))
                    if result.stop:
                        break
        return trainer.position.step, trainer.interrupted


@contextlib.contextmanager
def _recorded_errors(channel: DriverChannel) -> Iterator[None]:
    """Records in the channel what ends this worker, so that the driver can raise it as it was."""
    try:
        yield
    except (UserError, OSError) as error:
        reason = error if isinstance(error, UserError) else full_disk(error)
        if reason is None:
            raise
        # Another group could only fail alike, unless it was the network.
        channel.fail(reason, final=not isinstance(reason, StorageError) or isinstance(reason, CorruptError))
        raise reason from None


def _worker_log(settings: WorkerSettings, rank: int) -> RunLog:
    from raytrain.telemetry.logs import RunLog

    return RunLog(settings.store, settings.layout, settings.attempt.number, f"rank-{rank:03d}")


def _set_threads(workers_here: int) -> None:
    import torch

    from raytrain.training.threads import threads_per_worker

    torch.set_num_threads(threads_per_worker(workers_here))


def _load_model(settings: WorkerSettings, tokenizer_size: int) -> tuple[Any, range]:
    """Returns the base model, and the ids of the tokens that this run added to its vocabulary."""
    from raytrain.model import vocabulary
    from raytrain.model.loading import load
    from raytrain.model.source import resolve

    folder = settings.model_folder
    if not folder.is_dir():  # on another node than the driver
        cache = settings.cache.folder / "models"
        uri = settings.model_uri or settings.job.spec.model
        folder = resolve(uri, store=settings.store, base_folder=Path(), cache=cache)
    return load(folder, tokenizer_size=tokenizer_size), vocabulary.new_rows(folder)


def _device(training: TrainingSpec) -> Any:
    """Returns the device that Ray assigned, unless the job asks for the CPU."""
    import ray.train.torch
    import torch

    return torch.device("cpu") if training.device == "cpu" else ray.train.torch.get_device()


def _restore(settings: WorkerSettings, rank: int, trainer: Trainer) -> CommittedCheckpoint | None:
    """Restores the newest intact checkpoint, which the first worker chooses for all.

    None if there is none.
    """
    from safetensors.torch import load_file

    from raytrain.training.distributed import barrier, broadcast_from_first

    store, layout = settings.store, settings.layout

    def on_unusable(ref: CommittedCheckpoint, why: str) -> None:
        message = f"skipping the checkpoint of step {ref.step}: {why}"
        settings.channel.emit("CheckpointUnusable", message, step=ref.step, reason=why)

    ref: CommittedCheckpoint | None = None
    with scratch("restore", folder=settings.cache.folder, token=settings.attempt.token) as folder:
        if rank == 0:
            found = checkpoint.fetch_newest(store, layout, folder, on_unusable, settings.identity)
            ref = found[0] if found else None
        ref = broadcast_from_first(ref)
        if ref is not None:
            files = checkpoint.fetch_files(store, ref, folder, (WEIGHTS_FILE, checkpoint.OPTIMIZER_FILE))
            trainer.restore(
                checkpoint.position_of(checkpoint.manifest_of(store, ref)),
                load_file(files / WEIGHTS_FILE),
                *checkpoint.read_optimizer(files / checkpoint.OPTIMIZER_FILE),
            )
        barrier()  # the folder may be shared: it stays until every worker has read it
    return ref


def _emit_start(
    channel: DriverChannel, start: int, ref: CommittedCheckpoint | None, step: int, *, workers: int, precision: str
) -> None:
    origin = f"from the checkpoint of step {step}" if ref else "from the base model"
    group = f"{workers} worker{'s' if workers > 1 else ''}"
    kind, what = ("TrainingStarted", "training starts") if start == 1 else ("WorkerRestarted", "training resumes")
    message = ", ".join(part for part in (f"{what} with {group} {origin}", precision) if part)
    channel.emit(kind, message, step=step, workers=workers)


def _exit_hung(settings: WorkerSettings, log: RunLog, rank: int, seconds: float, stacks: str) -> None:
    """Logs where this worker hangs and ends its process: Ray restarts the group.

    While the first worker waits for a slow store, all others wait for it. That is no hang: the
    store has time limits of its own.
    """
    with contextlib.suppress(Exception):  # a channel that does not answer is no reason to go on
        if settings.channel.is_storing(timeout=_LAST_WORDS_SECONDS):
            return
    _log.error("rank %d has made no progress for %.0f s; its threads:\n%s", rank, seconds, stacks)
    message = f"rank {rank} has made no progress for {seconds:.0f} s; its log has the stacks of its threads"
    settings.channel.emit("WorkerHangs", message, rank=rank, seconds=round(seconds, 1))
    time.sleep(_LAST_WORDS_SECONDS)  # the other workers' watchdogs fire too, and write their own stacks
    log.flush()
    os._exit(1)
