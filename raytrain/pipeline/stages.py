"""The stages of a run. Each looks in storage first and does only what is still missing."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.tally import Tally
from raytrain.config.locations import cache_folder
from raytrain_core.errors import DataError, joined

if TYPE_CHECKING:
    from data_prep.prepare import PrepareProgress
    from data_prep.shards.manifest import ShardSet
    from raytrain.config.job import FineTuneJob
    from raytrain.evaluation.benchmark_rows import BenchmarkRows
    from raytrain.pipeline.context import RunContext
    from raytrain.pipeline.ray_cluster import RayHandle
    from raytrain.training.ray.channel import TrainProgress

_log = logging.getLogger(__name__)
_LOG_SECONDS = 30.0
"""Seconds between two progress lines of training in the driver's log."""


@dataclass(frozen=True, slots=True)
class BaseModelFiles:
    """The base model: where every process reads it, the local folder, the digest of its files.

    `revision` is its commit, if it came from the hub; `uri` names that commit then.
    """

    uri: str
    folder: Path
    digest: str
    revision: str | None = None


def fetch_model(context: RunContext) -> BaseModelFiles:
    """Fetches the base model's files to this machine.

    A model of the hub is read at the commit with which the run started, even if its branch has
    moved since. Raises DataError if they are not the files that the run started with.
    """
    from raytrain.model import hub, source

    uri = context.record.model_uri
    context.phase("Preparing", "fetching the model")
    cache = cache_folder() / "models"
    folder = source.resolve(uri, store=context.store, base_folder=context.record.base_folder, cache=cache)
    digest = source.digest(folder)
    if context.record.model_digest not in (None, digest):
        raise DataError(
            f"model {uri}: its files have changed since this run started",
            hint="restore the original files, or start the run over with --fresh",
        )
    revision = hub.commit_of(folder, cache)
    if context.record.model_revision is not None:
        _tell_if_moved(context, context.record.model_revision)
    pinned = uri if revision is None else f"{uri.partition('@')[0]}@{revision}"
    return BaseModelFiles(pinned, folder, digest, revision)


def _tell_if_moved(context: RunContext, recorded: str) -> None:
    """Tells if the job's branch or tag no longer names the commit that the run started with."""
    from raytrain.model import hub

    name, asked = hub.split_revision(context.job.spec.model.removeprefix("hf://"))
    asked = asked or hub.DEFAULT_BRANCH
    now = None if hub.COMMIT.fullmatch(asked) else hub.current_commit(name, asked)
    if now not in (None, recorded):
        context.emit(
            "ModelMoved",
            f"model {name}: {asked} is now commit {str(now)[:12]}; this run goes on with {recorded[:12]}, which it "
            "started with (--fresh takes the new one)",
        )


def refuse_impossible_probes(job: FineTuneJob, base_folder: Path) -> None:
    """Raises what is wrong with the job's benchmarks, before anything starts."""
    if not job.spec.probes:
        return
    from raytrain.benchmarks.refusals import check_all

    if problems := check_all(job.spec.probes, base_folder):
        raise joined(problems, "the probes")


def load_benchmarks(context: RunContext, model: BaseModelFiles) -> dict[str, BenchmarkRows]:
    """Loads the rows of the job's benchmarks; prints what will be scored."""
    if not context.job.spec.probes:
        return {}
    from raytrain.evaluation import benchmark_rows
    from raytrain_core.storage.scratch import scratch

    context.phase("Preparing", "loading benchmarks")
    with scratch("benchmarks", folder=cache_folder()) as rows:
        found = benchmark_rows.load_benchmarks(
            context.job,
            model.folder,
            base_folder=context.record.base_folder,
            store=context.store,
            scratch=rows,
            names=[benchmark.probe for benchmark in context.job.spec.probes],
        )
    for name, benchmark in found.items():
        context.console.line(f"{name}: {benchmark.in_words}")
    return found


def prepare(context: RunContext, model: BaseModelFiles) -> ShardSet:
    """Prepares every task as verified shards.

    Raises DataError if the sources are not those that the run started with.
    """
    from data_prep.prepare import PrepLimits
    from data_prep.prepare import prepare as prepare_shards
    from data_prep.text.tokenizer_folder import read_tokenizer
    from raytrain.pipeline.ray_preparation import preparation_workers

    spec = context.job.spec
    context.phase("Preparing", "preparing shards")
    prepared_now: set[str] = set()

    def on_progress(progress: PrepareProgress) -> None:
        prepared_now.add(progress.task)
        context.interrupts.check()
        context.console.update(progress.done, progress.total, progress.task)
        context.progress.update(message=f"preparing shards of {progress.task}")

    with preparation_workers(spec.resources) as workers:
        shards = prepare_shards(
            spec.tasks,
            spec.mixture,
            store=context.store,
            tokenizer=read_tokenizer(model.folder),
            limits=PrepLimits(spec.training.max_input_tokens, spec.training.max_target_tokens),
            base_folder=context.record.base_folder,
            on_progress=on_progress,
            workers=workers,
        )
    _record_inputs(context, model, shards)
    context.emit("Prepared", f"shard set {shards.digest[:12]} with {len(shards.tasks)} tasks is ready")
    if not prepared_now:
        context.console.line("nothing to prepare: the shards of all tasks exist")
    _tell_what_happened(context, shards)
    return shards


def _tell_what_happened(context: RunContext, shards: ShardSet) -> None:
    """Prints and stores what happened to the rows of each task."""
    tallies = {task.name: Tally.from_json(task.tally) for task in shards.tasks}
    document = {"shard_set": shards.digest, "tasks": {name: tally.to_json() for name, tally in tallies.items()}}
    context.attempt.check()
    context.store.put(context.layout.preparation, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    for name, tally in tallies.items():
        for line in tally.lines():
            context.console.line(f"{name}: {line}")
        if warning := tally.warning():
            context.emit("DataChanged", f"task {name}: {warning}", task=name)


def _record_inputs(context: RunContext, model: BaseModelFiles, shards: ShardSet) -> None:
    """Records the digests of data and model on the first attempt; checks the data on later ones.

    From here on the run's identity is fixed. Until now a mistake in the job could be corrected.
    """
    record = context.record
    if record.shard_set not in (None, shards.digest):
        raise DataError(
            f"run {context.layout.name}: its sources have changed since it started "
            f"(shard set {shards.digest[:12]}, was {str(record.shard_set)[:12]})",
            hint="restore the original rows, or start the run over with --fresh",
        )
    if record.shard_set is None:
        digests = dataclasses.replace(record, shard_set=shards.digest, model_digest=model.digest)
        context.save(dataclasses.replace(digests, model_revision=model.revision))


def resolve_steps(context: RunContext, shards: ShardSet) -> None:
    """Converts the epochs or tokens of training to a number of steps, once for all attempts."""
    from raytrain.training.data.loader import DataLoader

    if context.job.spec.training.steps is not None:
        return
    loader = DataLoader.open(context.job, shards, context.store, context.cache)
    steps = loader.last_step(context.job.spec.training)
    context.save(dataclasses.replace(context.record, steps=steps))
    context.progress.update(steps=steps)
    context.console.line(f"training takes {steps:,} steps")


def train(
    context: RunContext,
    shards: ShardSet,
    model: BaseModelFiles,
    ray: RayHandle,
    *,
    steps_to_keep: Callable[[], Collection[int]],
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Trains to the last step, starting from the newest intact checkpoint.

    Checkpoints of the steps in `steps_to_keep()` are not removed. Training ends early once
    `should_stop()` is true. Raises KeyboardInterrupt if the run was asked to stop.
    """
    from raytrain.training.ray import driver
    from raytrain.training.ray.metrics import show_data

    context.phase("Training", "training")
    show_data(context.layout.name, {task.name: Tally.from_json(task.tally) for task in shards.tasks})
    if not _has_steps_left(context, should_stop):
        return
    asked_to_stop = context.interrupts.asked
    result = driver.train(
        context.job,
        store=context.store,
        shard_set=shards,
        model_folder=model.folder,
        model_uri=model.uri,
        attempt=context.attempt,
        identity=context.record.identity,
        on_progress=_progress_reporter(context),
        on_event=context.emit,
        stop=lambda: asked_to_stop.is_set() or should_stop(),
        keep=steps_to_keep,
        cache=context.cache,
        local=ray.own,
    )
    if not result.interrupted:
        return
    if asked_to_stop.is_set():
        context.console.line(f"stopped after step {result.step}; its checkpoint is stored")
        raise KeyboardInterrupt
    message = _ended_early(result.step)
    context.emit("StoppedEarly", message, step=result.step)
    context.console.line(message)


def _has_steps_left(context: RunContext, should_stop: Callable[[], bool]) -> bool:
    """Whether the newest checkpoint is not the last; prints where training resumes."""
    from raytrain.training import checkpoint

    newest = checkpoint.newest(context.store, context.layout)
    if newest is None:
        return True
    if newest.step >= context.job.spec.training.last_step:
        return False
    if should_stop():
        context.console.line(_ended_early(newest.step))
        return False
    context.console.line(f"resuming at step {newest.step} from {newest.prefix}")
    return True


def _ended_early(step: int) -> str:
    return f"training ended early at step {step}: validation scores stopped improving"


def _progress_reporter(context: RunContext) -> Callable[[TrainProgress], None]:
    """Returns a callback that reports progress to the console, progress.json and the log."""
    logged = time.monotonic()

    def report_progress(progress: TrainProgress) -> None:
        nonlocal logged
        speed = f"loss {progress.loss:.3f}, {progress.tokens_per_second:,.0f} tokens/s"
        context.console.update(progress.step, progress.steps, speed)
        if time.monotonic() > logged + _LOG_SECONDS:
            logged = time.monotonic()
            _log.info("step %d of %d: %s", progress.step, progress.steps, speed)
        context.progress.update(
            step=progress.step,
            loss=progress.loss,
            tokens=progress.tokens,
            tokens_per_second=progress.tokens_per_second,
            eta_seconds=progress.eta_seconds,
        )

    return report_progress


def write_report(context: RunContext) -> None:
    """Writes the report from what the run left in storage."""
    from raytrain import report

    context.phase("Reporting", "writing the report")
    context.events.flush()
    context.progress.flush()
    page = report.write(context.store, context.layout, guard=context.attempt.check)
    # Whoever watches the page of the running run sees the finished report there too.
    context.store.put(context.layout.live_report, context.store.get(f"{context.layout.report}/index.html"))
    context.progress.update(report=page)
