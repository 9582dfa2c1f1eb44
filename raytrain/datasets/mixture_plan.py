"""Plans what training will see of each task: shares, epochs, repeats and tokens."""

from pathlib import Path

from raytrain.config.job import FineTuneJob
from raytrain.datasets.estimated_plan import estimate_plan
from raytrain.datasets.exact_plan import count_plan
from raytrain.datasets.plan_report import PlanReport
from raytrain.datasets.resolve import load_job_data


def plan(job: FineTuneJob, *, storage: str | None = None, base_folder: Path = Path()) -> PlanReport:
    """Returns the exact plan if the job's data is prepared, else one estimated from the sources."""
    prepared = load_job_data(job, storage=storage, base_folder=base_folder)
    if prepared is None:
        return estimate_plan(job, storage, base_folder)
    return count_plan(job, prepared)
