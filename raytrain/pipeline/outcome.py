"""The outcome of a finished run, read from its report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from raytrain.config.run_layout import RunLayout
    from raytrain.report.model import Task
    from raytrain_core.storage import Store


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """One task's primary metric on test rows, before and after training.

    `low` and `high` bound the 95 % interval of the paired difference.
    """

    task: str
    probe: bool
    metric: str
    before: float
    after: float
    low: float
    high: float
    scale: Literal["percent", "raw"]
    """Whether scores are fractions."""
    verdict: str
    """As in the report (`verdict_label`): `better`, `within noise`, `partly forgotten` ..."""
    baseline: str | None = None
    """The best answer without a model, where the trained model is not shown to be above it."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The scores of a finished run and where its report is stored.

    `done_before`: the run was already complete, so this call did nothing.
    """

    name: str
    storage: str
    report_uri: str
    primary_scores: tuple[TaskOutcome, ...]
    done_before: bool


def read_outcome(store: Store, layout: RunLayout, *, done_before: bool = False) -> RunOutcome:
    """Reads the outcome of a finished run from `report.json`."""
    from raytrain.report.model import ReportData

    data = ReportData.model_validate_json(store.get(f"{layout.report}/report.json"))
    scores = tuple(outcome for task in data.tasks if (outcome := _task_outcome(task)) is not None)
    return RunOutcome(layout.name, store.uri, f"{store.uri}/{layout.report}/index.html", scores, done_before)


def _task_outcome(task: Task) -> TaskOutcome | None:
    """Returns None unless the task has both scores and an interval of their difference."""
    from raytrain.report.verdicts import verdict_label

    metric, difference = task.primary_metric, task.difference
    if metric.before is None or metric.after is None or difference is None:
        return None
    if difference.low is None or difference.high is None:
        return None
    return TaskOutcome(
        task.name,
        task.probe,
        metric.label,
        metric.before.value,
        metric.after.value,
        difference.low,
        difference.high,
        metric.scale,
        verdict_label(task),
        task.best_baseline if task.baseline_verdict in ("below", "noise") else None,
    )
