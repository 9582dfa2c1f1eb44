"""Reads what the runs of a setting were scored, and compares them with the job as written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raytrain.config.run_layout import RunLayout
from raytrain.evaluation.comparability import obstacles
from raytrain.evaluation.forgetting import common_stats
from raytrain.evaluation.metrics import Metric, find
from raytrain.evaluation.results import Prediction, ScoreCard, read_card, read_predictions
from raytrain.sweeps.differences import MeanDifference, TaskPair, mean_difference
from raytrain.sweeps.measures import Measures, unit
from raytrain.sweeps.plan import SweepPlan
from raytrain.sweeps.validation import validation_measures
from raytrain_core.errors import StorageError, UsageError
from raytrain_core.storage import Store
from raytrain_core.storage.commit import read_manifest


@dataclass(frozen=True, slots=True)
class TaskScores:
    """One task of one run on test rows, before and after training."""

    metric: Metric
    card_before: ScoreCard
    card_after: ScoreCard
    before: tuple[Prediction, ...]
    after: tuple[Prediction, ...]

    @property
    def weight(self) -> float:
        """One over the unit of the task's differences (`measures`)."""
        return 1 / unit(self.card_before.selection_value or 0.0)


@dataclass(frozen=True, slots=True)
class RunScores:
    """A finished run: what it gained and forgot on validation rows, and its test scores by task.

    `measures` is None where the exported checkpoint was not scored on every task.
    """

    measures: Measures | None
    tasks: Mapping[str, TaskScores]


def read_run_scores(store: Store, name: str, plan: SweepPlan) -> RunScores:
    """Reads the scores of a finished run.

    Raises StorageError if scores of a task that counts are missing or damaged, and UsageError if
    its metric is not installed.
    """
    layout = RunLayout(name)
    manifest = read_manifest(store, layout.model)
    step = None if manifest is None else int(manifest.body["step"])
    measures = validation_measures(store, name, plan).get(step) if step is not None else None
    return RunScores(measures, {task: _task(store, layout, task) for task in (*plan.trained, *plan.probes)})


def _task(store: Store, layout: RunLayout, task: str) -> TaskScores:
    found = []
    for stage in ("before", "after"):
        card = read_card(store, layout, stage, task)
        rows = read_predictions(store, layout, stage, task)
        if card is None or rows is None or card.value is None:
            raise StorageError(f"run {layout.name}: task {task} has no score {stage} training")
        found.append((card, tuple(rows)))
    (card_before, before), (card_after, after) = found
    metric = find(card_after.primary_metric)
    if metric is None:
        raise UsageError(f"run {layout.name}: the metric {card_after.primary_metric} is not installed")
    return TaskScores(metric, card_before, card_after, before, after)


def incomparable(first: Sequence[RunScores], second: Sequence[RunScores]) -> list[str]:
    """Says of each task why the runs of two settings, by seed, cannot be compared."""
    found: dict[str, list[str]] = {}
    for ours, theirs in zip(first, second, strict=True):
        for task in ours.tasks:
            if reasons := obstacles(ours.tasks[task].card_after, theirs.tasks[task].card_after):
                found.setdefault(task, reasons)
    return [f"{task}: {', '.join(reasons)}" for task, reasons in found.items()]


def change(runs: Sequence[RunScores], tasks: Sequence[str]) -> MeanDifference | None:
    """Returns what runs of one setting, by seed, gained over these tasks, after minus before."""
    pairs = [
        _pair(task, len(tasks), [run.tasks[task] for run in runs], [run.tasks[task].before for run in runs])
        for task in tasks
    ]
    return mean_difference(pairs)


def difference(
    first: Sequence[RunScores], second: Sequence[RunScores], groups: Sequence[Sequence[str]]
) -> MeanDifference | None:
    """Returns how much better the second runs are after training than the first, by seed.

    The sum over the groups of the mean over the tasks of each.
    """
    pairs = [
        _pair(task, len(tasks), [run.tasks[task] for run in second], [run.tasks[task].after for run in first])
        for tasks in groups
        for task in tasks
    ]
    return mean_difference(pairs)


def _pair(task: str, tasks: int, runs: Sequence[TaskScores], others: Sequence[Sequence[Prediction]]) -> TaskPair:
    found = [common_stats(other, run.after) for run, other in zip(runs, others, strict=True)]
    by_seed = tuple(one for one in found if one is not None)
    if len(by_seed) < len(found):
        raise UsageError(f"task {task}: the runs have no scored row in common")
    weight = sum(run.weight for run in runs) / len(runs) / tasks
    return TaskPair(runs[0].metric, weight, by_seed)
