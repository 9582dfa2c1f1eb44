"""The steps of a run, each of which looks in storage first and does only what is not done."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytrain.config.locations import cache_folder
from raytrain.config.run_layout import RunLayout, stage_of_step
from raytrain.model.source import WEIGHTS_FILE
from raytrain.pipeline.context import Workspace
from raytrain.runs.checkpoints import committed_checkpoints
from raytrain_core.errors import ClusterError, DataError, StorageError
from raytrain_core.quantities import parse_bytes
from raytrain_core.storage import CorruptError, Store
from raytrain_core.storage.commit import commit, read_manifest
from raytrain_core.storage.scratch import scratch

if TYPE_CHECKING:
    from data_prep.config import Split
    from data_prep.prepare import PrepareProgress
    from data_prep.shards.manifest import ShardSet
    from raytrain.evaluation.ray_pool import EvaluationPool
    from raytrain.evaluation.results import ScoreCard
    from raytrain.evaluation.selection import Choice
    from raytrain.generation.requests import ModelRef
    from raytrain.pipeline.ray_cluster import RayHandle
    from raytrain.runs.lineage import Earlier
    from raytrain.telemetry.console import Console
    from raytrain.training.ray.driver import TrainProgress

_log = logging.getLogger(__name__)
_LOG_SECONDS = 30.0
"""Between two lines on training's progress in the driver's log."""
_WARNINGS = {
    *("CheckpointUnusable", "CheckpointStale", "CheckpointsNotRemoved", "StepSkipped", "WorkerRestarted"),
    *("WorkerHangs", "TrainingOnCpu", "NodeLeaving"),
    *("ActorWaiting", "ActorRestarted", "ActorLost", "CheckpointSkipped"),
}
"""Kinds of events that a person hears of at once."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The model that the run starts from: as the job names it, where its files are, which one it is."""

    uri: str
    folder: Path
    digest: str


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """One task's headline score on test rows before and after, and the paired difference's 95 % interval."""

    task: str
    probe: bool
    metric: str
    before: float
    after: float
    low: float
    high: float
    below_baseline: str | None = None
    """What needs no model and scores more than the one after training."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What a finished run left, and where."""

    name: str
    storage: str
    report_uri: str
    primary_scores: tuple[TaskOutcome, ...]
    done_before: bool


def fetch_model(work: Workspace) -> BaseModel:
    """The base model's files on this machine.

    A run whose base model changed underneath it is refused.
    """
    from raytrain.model import source

    uri = work.job.spec.model
    work.phase("Preparing", "fetching the model")
    folder = source.resolve(uri, store=work.store, base_folder=work.record.base_folder, cache=cache_folder() / "models")
    digest = source.digest(folder)
    if work.record.model_digest not in (None, digest):
        raise DataError(
            f"model {uri}: its files are not those that this run started from",
            hint="bring them back, or start the run over with --fresh",
        )
    return BaseModel(uri, folder, digest)


def prepare(work: Workspace, model: BaseModel) -> ShardSet:
    """Every task as verified shards. A run whose data changed underneath it is refused."""
    from data_prep.prepare import PrepLimits
    from data_prep.prepare import prepare as prepare_shards
    from data_prep.text.tokenizer import Tokenizer
    from raytrain.pipeline.ray_preparation import preparation_workers

    spec = work.job.spec
    work.phase("Preparing", "preparing shards")

    missing: set[str] = set()

    def on_progress(progress: PrepareProgress) -> None:
        missing.add(progress.task)
        work.interrupts.check()
        work.console.update(progress.done, progress.total, progress.task)
        work.progress.update(message=f"preparing shards of {progress.task}")

    with preparation_workers(spec.resources) as workers:
        shards = prepare_shards(
            spec.tasks,
            spec.mixture,
            store=work.store,
            tokenizer=Tokenizer.from_folder(model.folder),
            limits=PrepLimits(spec.training.max_input_tokens, spec.training.max_target_tokens),
            base_folder=work.record.base_folder,
            on_progress=on_progress,
            workers=workers,
        )
    if work.record.shard_set not in (None, shards.digest):
        raise DataError(
            f"run {work.layout.name}: its sources are not those that it started with "
            f"(shard set {shards.digest[:12]}, was {str(work.record.shard_set)[:12]})",
            hint="bring the rows back, or start the run over with --fresh",
        )
    if work.record.shard_set is None:  # from here on the run is what it is; until here a mistake can be corrected
        work.keep(dataclasses.replace(work.record, shard_set=shards.digest, model_digest=model.digest))
    work.tell("Prepared", f"shard set {shards.digest[:12]} with {len(shards.tasks)} tasks is ready")
    if not missing:
        work.console.line("nothing to prepare: the shards of all tasks are there")
    return shards


def settle(work: Workspace, shards: ShardSet) -> None:
    """Find out how many steps the job's epochs or tokens come to, once for all attempts."""
    from raytrain.training.data.loader import DataLoader

    if work.job.spec.training.steps is not None:
        return
    steps = DataLoader.open(work.job, shards, work.store, work.cache).last_step(work.job.spec.training)
    work.keep(dataclasses.replace(work.record, steps=steps))
    work.progress.update(steps=steps)
    work.console.line(f"training takes {steps:,} steps")


def _tell(work: Workspace, kind: str, message: str, **fields: Any) -> None:
    work.tell(kind, message, **fields)
    if kind in _WARNINGS:
        work.console.warning(message)


class _Awaited:
    """The stage that the run waits for, shown on the console; all others go on unseen."""

    def __init__(self, console: Console) -> None:
        self.stage: str | None = None
        self._console = console

    def show(self, stage: str, done: int, total: int) -> None:
        """Called by the pool as examples are answered."""
        if stage == self.stage:
            self._console.update(done, total, stage)


class Evaluation:
    """The evaluation of one run: what is scored when, and with which rows."""

    def __init__(self, work: Workspace, pool: EvaluationPool, base: ModelRef, awaited: _Awaited) -> None:
        from raytrain.evaluation.results import read_primary_scores

        self._work, self._pool, self._base, self._awaited = work, pool, base, awaited
        self._waiting: dict[int, Future[tuple[ScoreCard, ...]]] = {}
        self._primary_scores = read_primary_scores(work.store, work.layout)  # of earlier attempts
        self._skipped: set[int] = set()

    def before(self) -> None:
        """The base model on test rows; on validation rows too, where the curves begin, but nobody waits for that."""
        self._work.phase("ScoringBefore", "scoring the model as it is")
        self._demand("before", self._score("before", self._base, "test"))
        self._score(stage_of_step(0), self._base, "validation")

    @contextlib.contextmanager
    def of_checkpoints(self) -> Iterator[None]:
        """While this context is open committed checkpoints are scored on validation rows; leaving it waits for them."""
        from raytrain.evaluation.checkpoint_watcher import CheckpointWatcher
        from raytrain.training.ray.metrics import waiting_gauge

        work, spec = self._work, self._work.job.spec

        def submit(stage: str, model: ModelRef) -> None:
            self._waiting[model.step] = self._score(stage, model, "validation")

        def skip(step: int) -> None:
            self._skipped.add(step)
            message = f"step {step} is not scored: evaluation is behind, and newer checkpoints wait"
            _tell(work, "CheckpointSkipped", message, step=step)

        with CheckpointWatcher(
            work.store,
            work.layout,
            submit,
            every=spec.evaluation.every,
            last_step=spec.training.last_step,
            max_pending_checkpoints=spec.evaluation.max_pending_checkpoints,
            known=set(self._primary_scores),
            unfinished=lambda: sum(not scores.done() for scores in list(self._waiting.values())),
            on_skip=skip,
            on_look=waiting_gauge(work.layout.name),
            on_error=work.console.warning,
        ):
            yield
        work.phase("Training", "scoring the last checkpoints")
        for step, scores in self._waiting.items():
            for card in self._wait(stage_of_step(step), scores):
                if card.error is not None:
                    work.console.warning(f"step {step}: task {card.task} was not scored: {card.error}")

    def is_enough(self) -> bool:
        """Whether validation scores have not got better for as long as the job has patience."""
        from raytrain.evaluation.selection import stale

        spec = self._work.job.spec
        patience = spec.evaluation.patience
        return patience is not None and stale(
            dict(self._primary_scores), [t.name for t in spec.trained_tasks], patience
        )

    def needed_checkpoints(self) -> set[int]:
        """Steps whose checkpoints must stay: those still to be scored, and the best so far."""
        from raytrain.evaluation.checkpoint_watcher import due_checkpoints

        spec = self._work.job.spec
        done = {step for step, scores in list(self._waiting.items()) if scores.done()}
        checkpoints = committed_checkpoints(self._work.store, self._work.layout)
        found = due_checkpoints(checkpoints, every=spec.evaluation.every, last_step=spec.training.last_step)
        needed = {checkpoint.step for checkpoint in found} - done - self._skipped
        if steps := [step for step in self._primary_scores if step > 0]:
            needed.add(_choose(work=self._work, primary_scores=self._primary_scores, steps=steps).step)
        return needed

    def after(self) -> None:
        """The exported model on test rows."""
        from raytrain.generation.requests import ModelRef

        work = self._work
        work.phase("ScoringAfter", "scoring the tuned model")
        manifest = read_manifest(work.store, work.layout.model)
        assert manifest is not None, "export came before"
        digest = manifest.file(WEIGHTS_FILE).sha256
        model = ModelRef("export", work.layout.model, digest, int(manifest.body["step"]))
        self._demand("after", self._score("after", model, "test"))

    def _score(self, stage: str, model: ModelRef, split: Split) -> Future[tuple[ScoreCard, ...]]:
        scores = self._pool.score(stage, model, split)
        scores.add_done_callback(lambda done: self._show(stage, done))
        return scores

    def _show(self, stage: str, done: Future[tuple[ScoreCard, ...]]) -> None:
        """Called in the pool's thread."""
        column = stage if stage in ("before", "after") else "now"
        for card in done.result():
            if card.value is None:
                continue
            if column == "now":
                higher = card.metrics[card.primary_metric].better == "higher"
                self._primary_scores.setdefault(card.step, {})[card.task] = card.value if higher else -card.value
            if stage != stage_of_step(0):
                self._work.progress.score(card.task, card.primary_metric, **{column: card.value})

    def _wait(self, stage: str, scores: Future[tuple[ScoreCard, ...]]) -> tuple[ScoreCard, ...]:
        self._awaited.stage = stage
        while not scores.done():
            self._work.interrupts.check()
            with contextlib.suppress(TimeoutError):
                scores.result(0.2)
        self._awaited.stage = None
        return scores.result()

    def _demand(self, stage: str, scores: Future[tuple[ScoreCard, ...]]) -> None:
        """Wait for scores without which there is no report."""
        missing = [f"{card.task} ({card.error})" for card in self._wait(stage, scores) if card.error is not None]
        if missing:
            raise ClusterError(
                f"{stage}: {len(missing)} of the tasks could not be scored: {'; '.join(missing)}",
                hint="what was scored is kept; the same command tries the others again",
            )


def _earlier(work: Workspace) -> list[Earlier]:
    """Tasks of the runs that the base model came from; what cannot be scored of them is told."""
    from raytrain.runs.lineage import earlier_tasks

    found, troubles = earlier_tasks(work.store, work.job)
    for trouble in troubles:
        work.console.warning(trouble)
    for run in dict.fromkeys(e.run for e in found):
        names = ", ".join(e.task.name for e in found if e.run == run)
        work.console.line(f"the model came from run {run}: what it learned there is scored too ({names})")
    return found


@contextlib.contextmanager
def evaluation(work: Workspace, shards: ShardSet, model: BaseModel, ray: RayHandle) -> Iterator[Evaluation]:
    """A pool of evaluation actors for as long as the context is open."""
    from raytrain.evaluation.evaluator import Evaluator
    from raytrain.evaluation.ray_pool import ActorSettings, EvaluationPool
    from raytrain.generation.requests import GenerationLimits, ModelRef
    from raytrain.training.threads import worker_environment

    spec = work.job.spec
    if ray.dashboard:
        work.progress.update(dashboard=ray.dashboard)
        token = " (it asks for the token in ~/.ray/auth_token)" if ray.own else ""
        work.console.line(f"Ray dashboard: {ray.dashboard}{token}")
    limits = GenerationLimits.from_job(work.job)
    base = ModelRef("base", str(model.folder), model.digest, named=model.uri)
    earlier = _earlier(work)
    evaluator = Evaluator(
        store=work.store,
        layout=work.layout,
        shard_set=dataclasses.replace(shards, tasks=(*shards.tasks, *(e.prepared for e in earlier))),
        tasks={task.name: task for task in (*spec.tasks, *(e.task for e in earlier))},
        cache=work.cache,
        limits=limits,
        examples_per_task=spec.evaluation.examples_per_task,
        guard=work.attempt.check,
    )
    settings = ActorSettings(
        store=work.store,
        shard_set=shards.digest,
        base=base,
        cache_folder=work.cache.folder,
        limits=limits,
        max_target_tokens=spec.training.max_target_tokens,
        device=spec.training.device,
    )
    wanted = spec.resources.evaluation
    awaited = _Awaited(work.console)
    with EvaluationPool(
        evaluator,
        settings,
        actors=wanted.actors,
        cpus=wanted.cpus,
        gpus=0 if ray.own else wanted.gpus,
        memory=None if ray.own or wanted.memory is None else parse_bytes(wanted.memory),
        environment={} if wanted.gpus and not ray.own else worker_environment(),
        on_event=functools.partial(_tell, work),
        on_progress=awaited.show,
    ) as pool:
        yield Evaluation(work, pool, base, awaited)


def train(
    work: Workspace,
    shards: ShardSet,
    model: BaseModel,
    ray: RayHandle,
    *,
    keep: Callable[[], Collection[int]],
    enough: Callable[[], bool] = lambda: False,
) -> None:
    """Train to the last step, from the newest checkpoint that is whole; checkpoints of the steps in `keep` stay.

    Once `enough` says so training ends before that.
    """
    from raytrain.training import checkpoint
    from raytrain.training.ray import driver as ray_train

    spec = work.job.spec
    work.phase("Training", "training")
    newest = checkpoint.newest(work.store, work.layout)
    if newest is not None and newest.step >= spec.training.last_step:
        return
    if newest is not None and enough():
        work.console.line(f"training ended early at step {newest.step}: validation scores got no better")
        return
    if newest is not None:
        work.console.line(f"resuming at step {newest.step} from {newest.prefix}")

    logged = time.monotonic()

    def on_progress(done: TrainProgress) -> None:
        nonlocal logged
        how = f"loss {done.loss:.3f}, {done.tokens_per_second:,.0f} tokens/s"
        work.console.update(done.step, done.steps, how)
        if time.monotonic() > logged + _LOG_SECONDS:
            logged = time.monotonic()
            _log.info("step %d of %d: %s", done.step, done.steps, how)
        work.progress.update(
            step=done.step,
            loss=done.loss,
            tokens=done.tokens,
            tokens_per_second=done.tokens_per_second,
            eta_seconds=done.eta_seconds,
        )

    result = ray_train.train(
        work.job,
        store=work.store,
        shard_set=shards,
        model_folder=model.folder,
        attempt=work.attempt,
        on_progress=on_progress,
        on_event=functools.partial(_tell, work),
        stop=lambda: work.interrupts.asked.is_set() or enough(),
        keep=keep,
        cache=work.cache,
        local=ray.own,
    )
    if result.interrupted and not work.interrupts.asked.is_set():
        message = f"training ended early at step {result.step}: validation scores got no better"
        work.tell("StoppedEarly", message, step=result.step)
        work.console.line(message)
        return
    if result.interrupted:
        work.console.line(f"stopped after step {result.step}; its checkpoint is stored")
        raise KeyboardInterrupt


def export(work: Workspace, shards: ShardSet, model: BaseModel) -> None:
    """The chosen checkpoint as a plain Hugging Face folder, tokenizer included; a damaged one is passed over."""
    from safetensors import SafetensorError

    from data_prep.shards.reader import load_tokenizer
    from raytrain.evaluation.results import read_primary_scores
    from raytrain.generation.generator import load_model
    from raytrain.generation.requests import ModelRef
    from raytrain.model.export import export as export_model

    work.phase("ScoringAfter", "exporting the model")
    if read_manifest(work.store, work.layout.model) is not None:
        return
    oldest_first = reversed(committed_checkpoints(work.store, work.layout))
    prefixes = {checkpoint.step: checkpoint.prefix for checkpoint in oldest_first}
    primary_scores = read_primary_scores(work.store, work.layout)
    base = ModelRef("base", str(model.folder), model.digest, named=model.uri)
    with scratch("export") as folder:
        tokenizer = load_tokenizer(shards, work.store, folder / "tokenizer")
        while True:
            if not prefixes:
                raise DataError(
                    f"run {work.layout.name}: none of its checkpoints is whole", hint="start it over with --fresh"
                )
            choice = _choose(work=work, primary_scores=primary_scores, steps=sorted(prefixes))
            prefix = prefixes.pop(choice.step)
            try:
                manifest = read_manifest(work.store, prefix)
                if manifest is None:
                    raise CorruptError(f"{work.store.uri}/{prefix}: its manifest is gone")
                tuned = load_model(
                    ModelRef("checkpoint", prefix, manifest.file(WEIGHTS_FILE).sha256, choice.step),
                    base,
                    store=work.store,
                    cache_folder=folder / "checkpoint",
                    tokenizer_size=tokenizer.size,
                )
                break
            except CorruptError as error:
                work.console.warning(f"{error.message}; the next best checkpoint is taken")
                work.tell("CheckpointUnusable", error.message, step=choice.step)
        try:
            files = export_model(tuned, folder / "tokenizer", folder / "model")
        except (OSError, SafetensorError) as error:
            raise StorageError(f"{folder}: the model cannot be written there: {error}", hint="make room") from None
        body = {
            "kind": "model",
            "step": choice.step,
            "reason": choice.reason,
            "checkpoint": prefix,
            "identity": work.record.identity,
        }
        commit(work.store, work.layout.model, files, body, guard=work.attempt.check)
    work.tell("ModelExported", f"step {choice.step} became the model: {choice.reason}", step=choice.step)


def _choose(*, work: Workspace, primary_scores: Mapping[int, Mapping[str, float]], steps: list[int]) -> Choice:
    from raytrain.evaluation.selection import choose

    spec = work.job.spec
    trained = [t.name for t in spec.trained_tasks]
    return choose(
        primary_scores,
        steps,
        trained,
        select=spec.evaluation.select,
        probes=sorted({task for scores in primary_scores.values() for task in scores}.difference(trained)),
        max_forgetting=spec.evaluation.max_forgetting,
    )


def report(work: Workspace) -> None:
    """The report, from nothing but what the run left in storage."""
    from raytrain import report as reporting

    work.phase("Reporting", "writing the report")
    work.events.flush()
    work.progress.flush()
    reporting.write(work.store, work.layout, guard=work.attempt.check)


def outcome(store: Store, layout: RunLayout, *, done_before: bool = False) -> RunOutcome:
    """What a finished run came to, read from its report."""
    from raytrain.report.model import ReportData

    data = ReportData.model_validate_json(store.get(f"{layout.report}/report.json"))
    primary_scores = [
        TaskOutcome(
            task.name,
            task.probe,
            task.primary_metric.label,
            task.primary_metric.before.value,
            task.primary_metric.after.value,
            task.difference.low,
            task.difference.high,
            task.below_baseline,
        )
        for task in data.tasks
        if task.primary_metric.before
        and task.primary_metric.after
        and task.difference
        and task.difference.low is not None
        and task.difference.high is not None
    ]
    return RunOutcome(
        layout.name, store.uri, f"{store.uri}/{layout.report}/index.html", tuple(primary_scores), done_before
    )
