"""The estimated plan of a job whose data is not prepared.

From the counts and lengths of `raytrain check`.
"""

import math
from collections.abc import Iterable
from pathlib import Path

from data_prep.text.templates import templates_of
from raytrain.check import CheckReport, TaskCheck, check
from raytrain.config.job import FineTuneJob
from raytrain.datasets.plan_report import PlanReport, TaskPlan, mixture_parts, plan_notes


def estimate_plan(job: FineTuneJob, storage: str | None, base_folder: Path) -> PlanReport:
    """Reads the sources as far as they are local, and assumes full rows."""
    checked = check(job, storage=storage, base_folder=base_folder)
    tasks = _tasks(job, checked)
    source, target = _sum(task.source_tokens for task in tasks), _sum(task.target_tokens for task in tasks)
    unknown = [f"{task.name}: {task.note}" for task in checked.tasks if task.rows is None and not task.probe]
    return PlanReport(
        run=checked.run,
        exact=False,
        basis="estimated from the sources, assuming full rows; it is exact once `raytrain run` has prepared them",
        steps=checked.steps if checked.steps or job.spec.training.steps == 0 else None,
        batch_tokens=job.spec.training.batch_tokens,
        rows_per_step=None if checked.row is None else checked.tokens_per_step // sum(checked.row),
        row=checked.row,
        examples=_sum(task.seen for task in tasks),
        tokens=None if source is None or target is None else source + target,
        fill=None,
        tasks=tasks,
        notes=[*unknown, *plan_notes(tasks)],
    )


def _tasks(job: FineTuneJob, checked: CheckReport) -> list[TaskPlan]:
    variants = {task.name: min(task.templates_per_example, len(templates_of(task))) for task in job.spec.tasks}
    parts = mixture_parts(job)
    return [_task(task, parts.get(task.name, ""), variants[task.name]) for task in checked.tasks if not task.probe]


def _task(task: TaskCheck, part: str, variants: int) -> TaskPlan:
    rows = (task.rows or {}).get("train")
    seen = None if rows is None or task.epochs is None else round(task.epochs * rows)
    source, target = (
        None if seen is None or mean is None else round(seen * mean) for mean in (task.input_tokens, task.target_tokens)
    )
    return TaskPlan(
        task=task.name,
        part=part,
        rows=rows,
        variants=variants,
        share=task.share,
        seen=seen,
        epochs=task.epochs,
        times=None if task.epochs is None else (math.floor(task.epochs), math.ceil(task.epochs)),
        source_tokens=source,
        target_tokens=target,
    )


def _sum(numbers: Iterable[int | None]) -> int | None:
    """The sum; None if one of the numbers is unknown."""
    total = 0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total
