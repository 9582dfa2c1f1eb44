"""A run: prepare, score before, train while scoring checkpoints, score after, report.

Every stage first looks in storage for what an earlier attempt left there. So the same call starts a
run, resumes it, or finds that it is complete.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from raytrain.config.run_layout import RunLayout
from raytrain.pipeline import stages
from raytrain.pipeline.context import is_complete, open_job_store, open_run, refuse_another_identity
from raytrain.pipeline.evaluation import open_evaluation
from raytrain.pipeline.export import export_model
from raytrain.pipeline.outcome import RunOutcome, read_outcome
from raytrain.pipeline.ray_cluster import ray_cluster
from raytrain.pipeline.tracking import check_trackers, tracking
from raytrain.runs.owner import claim_run
from raytrain.telemetry.console import Console

if TYPE_CHECKING:
    from raytrain.config import FineTuneJob


def run(
    job: FineTuneJob,
    *,
    storage: str | None = None,
    base_folder: Path = Path(),
    fresh: bool = False,
    console: Console | None = None,
) -> RunOutcome:
    """Runs the job here, starting from wherever an earlier attempt stopped.

    Relative paths in the job start at `base_folder`. `fresh` discards what earlier attempts of this
    name left behind, except for prepared shards, which are named by their content.

    Raises a `UserError` for a mistake in the job, its data or the environment, and
    KeyboardInterrupt once an interrupted run has been left in a resumable state.
    """
    store, layout = open_job_store(job, storage, base_folder), RunLayout(job.metadata.name)
    claim_run(store, layout)
    if not fresh:
        refuse_another_identity(store, layout, job)
        if is_complete(store, layout):
            return read_outcome(store, layout, done_before=True)

    stages.refuse_impossible_probes(job, base_folder)
    check_trackers(job, store)
    with open_run(job, store, layout, base_folder, console or Console(), fresh=fresh) as context, tracking(context):
        model = stages.fetch_model(context)
        benchmarks = stages.load_benchmarks(context, model)
        shards = stages.prepare(context, model)
        stages.resolve_steps(context, shards)
        with (
            ray_cluster(job.spec.resources) as ray,
            open_evaluation(context, shards, model, ray, benchmarks) as evaluation,
        ):
            evaluation.score_before()
            with evaluation.scoring_checkpoints():
                stages.train(
                    context,
                    shards,
                    model,
                    ray,
                    steps_to_keep=evaluation.steps_to_keep,
                    should_stop=evaluation.has_stopped_improving,
                )
            export_model(context, shards, model)
            evaluation.score_after()
        stages.write_report(context)
    return read_outcome(store, layout)
