"""The evaluation of one run: which model is scored at which stage, and on which rows.

stage          model                   rows
before         base model              test
step-000000    base model              validation (where the curves begin)
step-NNNNNN    committed checkpoint    validation
after          exported model          test
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING

from raytrain.config.run_layout import stage_of_step
from raytrain.model.source import WEIGHTS_FILE
from raytrain.pipeline.export import choose_checkpoint
from raytrain.pipeline.live_report import LiveReport
from raytrain.runs.checkpoints import committed_checkpoints
from raytrain_core.errors import ClusterError
from raytrain_core.quantities import parse_bytes
from raytrain_core.storage.commit import read_manifest

if TYPE_CHECKING:
    from data_prep.config import Split
    from data_prep.shards.manifest import ShardSet
    from raytrain.evaluation.benchmark_rows import BenchmarkRows
    from raytrain.evaluation.results import ScoreCard
    from raytrain.evaluation.stage_scorer import StageScorer
    from raytrain.generation.requests import ModelRef
    from raytrain.pipeline.context import RunContext
    from raytrain.pipeline.ray_cluster import RayHandle
    from raytrain.pipeline.stages import BaseModelFiles
    from raytrain.runs.lineage import InheritedProbe
    from raytrain.telemetry.console import Console

_POLL_SECONDS = 0.2


class _StageProgress:
    """Shows the progress of the stage that the run is waiting for; other stages run silently."""

    def __init__(self, console: Console) -> None:
        self.awaited_stage: str | None = None
        self._console = console

    def show(self, stage: str, done: int, total: int) -> None:
        """Called by the scorer whenever examples have been scored."""
        if stage == self.awaited_stage:
            self._console.update(done, total, stage)


class Evaluation:
    """Scores the models of one run on the evaluation actors, while training goes on."""

    def __init__(
        self,
        context: RunContext,
        scorer: StageScorer,
        base: ModelRef,
        progress: _StageProgress,
        on_scores: Callable[[], None],
        *,
        benchmarks: Mapping[str, BenchmarkRows],
    ) -> None:
        from raytrain.evaluation.results import read_primary_scores

        self._context, self._scorer, self._base, self._progress = context, scorer, base, progress
        self._on_scores, self._benchmarks = on_scores, benchmarks
        self._pending: dict[int, Future[tuple[ScoreCard, ...]]] = {}
        self._primary_scores = read_primary_scores(context.store, context.layout)  # of earlier attempts
        self._skipped: set[int] = set()

    def score_before(self) -> None:
        """Scores the base model on test rows.

        It is scored on validation rows too, but training does not wait for those.
        """
        from raytrain.training.ray import driver

        self._context.phase("ScoringBefore", "scoring the model as it is")
        scores = self._submit("before", self._base, "test")
        driver.load()  # this process would only wait for the actors
        self._require_scores("before", scores)
        self._submit(stage_of_step(0), self._base, "validation")

    @contextlib.contextmanager
    def scoring_checkpoints(self) -> Iterator[None]:
        """Scores committed checkpoints on validation rows for as long as the context is open.

        Leaving the context waits for the checkpoints that are still being scored.
        """
        from raytrain.evaluation.checkpoint_watcher import CheckpointWatcher
        from raytrain.training.ray.metrics import waiting_gauge

        context, spec = self._context, self._context.job.spec
        with CheckpointWatcher(
            context.store,
            context.layout,
            self._submit_checkpoint,
            every=spec.evaluation.every,
            last_step=spec.training.last_step,
            max_pending_checkpoints=spec.evaluation.max_pending_checkpoints,
            known=set(self._primary_scores),
            unfinished=lambda: sum(not scores.done() for scores in list(self._pending.values())),
            on_skip=self._skip_checkpoint,
            on_look=waiting_gauge(context.layout.name),
            on_error=context.console.warning,
        ):
            yield
        context.phase("Training", "scoring the last checkpoints")
        for step, scores in self._pending.items():
            for card in self._wait(stage_of_step(step), scores):
                if card.error is not None:
                    context.console.warning(f"step {step}: task {card.task} was not scored: {card.error}")

    def score_after(self) -> None:
        """Scores the exported model on test rows."""
        from raytrain.generation.requests import ModelRef

        context = self._context
        context.phase("ScoringAfter", "scoring the tuned model")
        manifest = read_manifest(context.store, context.layout.model)
        assert manifest is not None, "export_model runs before score_after"
        digest = manifest.file(WEIGHTS_FILE).sha256
        model = ModelRef("export", context.layout.model, digest, int(manifest.body["step"]))
        self._require_scores("after", self._submit("after", model, "test"))

    def has_stopped_improving(self) -> bool:
        """Whether validation scores have not improved for `evaluation.patience` checkpoints."""
        from raytrain.evaluation.selection import has_stopped_improving

        spec = self._context.job.spec
        patience = spec.evaluation.patience
        trained = [task.name for task in spec.trained_tasks]
        return patience is not None and has_stopped_improving(dict(self._primary_scores), trained, patience)

    def steps_to_keep(self) -> set[int]:
        """Returns the steps of checkpoints that are still needed: unscored ones and the best."""
        from raytrain.evaluation.checkpoint_watcher import due_checkpoints

        context, spec = self._context, self._context.job.spec
        done = {step for step, scores in list(self._pending.items()) if scores.done()}
        checkpoints = committed_checkpoints(context.store, context.layout)
        to_score = due_checkpoints(checkpoints, every=spec.evaluation.every, last_step=spec.training.last_step)
        needed = {checkpoint.step for checkpoint in to_score} - done - self._skipped
        if scored := [step for step in self._primary_scores if step > 0]:
            needed.add(choose_checkpoint(context, self._primary_scores, scored).step)
        return needed

    def _submit_checkpoint(self, stage: str, model: ModelRef) -> None:
        self._pending[model.step] = self._submit(stage, model, "validation")

    def _skip_checkpoint(self, step: int) -> None:
        self._skipped.add(step)
        message = f"step {step} is not scored: evaluation is behind, and newer checkpoints are waiting"
        self._context.emit("CheckpointSkipped", message, step=step)

    def _submit(self, stage: str, model: ModelRef, split: Split) -> Future[tuple[ScoreCard, ...]]:
        scores = self._scorer.score(stage, model, split, self._scored_at(stage))
        scores.add_done_callback(lambda done: self._record_scores(stage, done))
        return scores

    def _scored_at(self, stage: str) -> list[str]:
        """The tasks of a stage: all but benchmarks that are not scored then."""
        when = stage if stage in ("before", "after") else "checkpoints"
        return [
            name
            for name in self._scorer.tasks
            if name not in self._benchmarks or when in self._benchmarks[name].benchmark.spec.when
        ]

    def _record_scores(self, stage: str, done: Future[tuple[ScoreCard, ...]]) -> None:
        """Records scores for selection and in progress.json; runs in a thread of the pool."""
        column = stage if stage in ("before", "after") else "now"
        for card in done.result():
            if card.value is None:
                continue
            if stage == "before" and card.task in self._benchmarks:
                self._context.console.line(f"{card.task}: prompts: {card.protocol['cut_prompts']}")
            if column == "now" and card.selection_value is not None:
                self._primary_scores.setdefault(card.step, {})[card.task] = card.selection_value
            if stage != stage_of_step(0):
                scale = card.metrics[card.primary_metric].scale
                self._context.progress.score(card.task, card.primary_metric, scale, **{column: card.value})
        self._on_scores()

    def _wait(self, stage: str, scores: Future[tuple[ScoreCard, ...]]) -> tuple[ScoreCard, ...]:
        self._progress.awaited_stage = stage
        while not scores.done():
            self._context.interrupts.check()
            with contextlib.suppress(TimeoutError):
                scores.result(_POLL_SECONDS)
        self._progress.awaited_stage = None
        return scores.result()

    def _require_scores(self, stage: str, scores: Future[tuple[ScoreCard, ...]]) -> None:
        """Waits for scores that the report needs; raises ClusterError if some are missing."""
        failed = [f"{card.task} ({card.error})" for card in self._wait(stage, scores) if card.error is not None]
        if failed:
            raise ClusterError(
                f"{stage}: {len(failed)} of the tasks could not be scored: {'; '.join(failed)}",
                hint="finished scores are kept; run the same command again to retry the others",
            )


@contextlib.contextmanager
def open_evaluation(
    context: RunContext,
    shards: ShardSet,
    model: BaseModelFiles,
    ray: RayHandle,
    benchmarks: Mapping[str, BenchmarkRows],
) -> Iterator[Evaluation]:
    """Runs a pool of evaluation actors for as long as the context is open."""
    from raytrain.evaluation.actor import ActorSettings, EvaluationActor
    from raytrain.evaluation.actor_pool import ActorPool, PoolSettings
    from raytrain.evaluation.evaluator import Evaluator
    from raytrain.evaluation.stage_scorer import StageScorer
    from raytrain.generation.requests import GenerationLimits, ModelRef
    from raytrain.training.threads import worker_environment

    spec = context.job.spec
    _show_dashboard(context, ray)
    limits = GenerationLimits.from_job(context.job)
    base = ModelRef("base", str(model.folder), model.digest, named=model.uri)
    inherited = _inherited_probes(context)
    evaluator = Evaluator(
        store=context.store,
        layout=context.layout,
        shard_set=dataclasses.replace(shards, tasks=(*shards.tasks, *(probe.prepared for probe in inherited))),
        tasks={
            **{task.name: task for task in (*spec.tasks, *(probe.task for probe in inherited))},
            **{name: benchmark.task for name, benchmark in benchmarks.items()},
        },
        benchmarks=benchmarks,
        cache=context.cache,
        limits=limits,
        examples_per_task=spec.evaluation.examples_per_task,
        guard=context.attempt.check,
    )
    actor_settings = ActorSettings(
        store=context.store,
        shard_set=shards.digest,
        base=base,
        cache_folder=context.cache.folder,
        limits=limits,
        max_target_tokens=spec.training.max_target_tokens,
        device=spec.training.device,
        positions=max((benchmark.positions for benchmark in benchmarks.values()), default=0),
    )
    requested = spec.resources.evaluation
    progress = _StageProgress(context.console)
    pool_settings = PoolSettings(
        actors=requested.actors,
        cpus=requested.cpus,
        gpus=0 if ray.own else requested.gpus,
        memory=None if ray.own or requested.memory is None else parse_bytes(requested.memory),
        environment={} if requested.gpus and not ray.own else worker_environment(),
    )
    pool = ActorPool(EvaluationActor, actor_settings, pool_settings, on_event=context.emit)
    with (
        LiveReport(
            context.store,
            context.layout,
            context.attempt,
            on_written=lambda uri: context.progress.update(report=uri),
        ) as live,
        StageScorer(evaluator, pool, on_event=context.emit, on_progress=progress.show) as scorer,
    ):
        yield Evaluation(context, scorer, base, progress, live.poke, benchmarks=benchmarks)


def _show_dashboard(context: RunContext, ray: RayHandle) -> None:
    if ray.dashboard:
        context.progress.update(dashboard=ray.dashboard)
        token = " (it asks for the token in ~/.ray/auth_token)" if ray.own else ""
        context.console.line(f"Ray dashboard: {ray.dashboard}{token}")


def _inherited_probes(context: RunContext) -> list[InheritedProbe]:
    """Returns the tasks of earlier runs of the base model; warns about missing rows."""
    from raytrain.runs.lineage import inherited_probes

    probes, warnings = inherited_probes(context.store, context.job)
    for warning in warnings:
        context.console.warning(warning)
    for run in dict.fromkeys(probe.run for probe in probes):
        names = ", ".join(probe.task.name for probe in probes if probe.run == run)
        context.console.line(f"the base model comes from run {run}, so its tasks are scored as well: {names}")
    return probes
