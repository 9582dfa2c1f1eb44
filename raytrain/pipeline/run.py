"""One job, one sentence: prepare → score before → train, scoring checkpoints meanwhile → score after → report.

Every step first looks in storage for what an earlier attempt left there, so the same call resumes a
run, or finds it done. The steps themselves are in `raytrain.pipeline.stages`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from raytrain.config.run_layout import RunLayout
from raytrain.pipeline import stages as steps
from raytrain.pipeline.context import enter, is_complete, open_job_store, refuse_another_identity
from raytrain.pipeline.ray_cluster import ray_cluster
from raytrain.pipeline.stages import RunOutcome
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
    """Run the job here, from wherever an earlier attempt stood.

    `base_folder` is where relative paths in the job start. `fresh` forgets what an earlier run
    of this name left (prepared shards stay: they are named by their content). Raises a `UserError`
    for a mistake in the job, the data or the surroundings, and KeyboardInterrupt once the run
    has been left resumable.
    """
    store, layout = open_job_store(job, storage, base_folder), RunLayout(job.metadata.name)
    if not fresh:
        refuse_another_identity(store, layout, job)
        if is_complete(store, layout):
            return steps.outcome(store, layout, done_before=True)

    with enter(job, store, layout, base_folder, console or Console(), fresh=fresh) as work:
        model = steps.fetch_model(work)
        shards = steps.prepare(work, model)
        steps.settle(work, shards)
        with ray_cluster(job.spec.resources) as ray, steps.evaluation(work, shards, model, ray) as evaluation:
            evaluation.before()
            with evaluation.of_checkpoints():
                steps.train(work, shards, model, ray, keep=evaluation.needed_checkpoints, enough=evaluation.is_enough)
            steps.export(work, shards, model)
            evaluation.after()
        steps.report(work)
    return steps.outcome(store, layout)
