"""What a reader should keep in mind about the scores, the heaviest first."""

from collections.abc import Callable, Iterator, Sequence

from raytrain.report.formatting import format_count, format_score
from raytrain.report.metric_names import baseline_label
from raytrain.report.model import Task

UNPARSABLE = 0.05
"""Share of answers that could not be read from which on it is worth a sentence."""


def caveats(tasks: Sequence[Task], leaks: Sequence[str] = ()) -> list[str]:
    """Returns sentences about scores that mean less than they seem to, by weight.

    `leaks` are sentences about rows lost, changed or seen by training.
    """
    lighter = (
        _few_rows,
        _one_answer,
        _unparsable,
        _split_gap,
        _not_scored,
        _failed_metrics,
        _unmade,
        _imperfect_references,
        _people,
    )
    return [*_told((_unbeaten, _near_twins), tasks), *leaks, *_told(lighter, tasks)]


def _told(kinds: Sequence[Callable[[Task], Iterator[str]]], tasks: Sequence[Task]) -> Iterator[str]:
    return (sentence for kind in kinds for task in tasks for sentence in kind(task))


def _unbeaten(task: Task) -> Iterator[str]:
    if task.probe or task.best_baseline is None:
        return
    label = baseline_label(task.best_baseline)
    if task.baseline_verdict == "below":
        yield f"{task.name}: the score after training is below its baseline, {label}."
    elif task.baseline_verdict == "noise":
        yield f"{task.name}: the score after training is not shown to be above its baseline, {label}."


def _near_twins(task: Task) -> Iterator[str]:
    if task.without_twins is not None:
        yield f"{task.name}: {task.without_twins.sentence}"


def _few_rows(task: Task) -> Iterator[str]:
    if task.difference is not None and task.difference.verdict == "few":
        rows = format_count(task.difference.rows, "row")
        yield f"{task.name}: {rows} in the test set, too few to tell whether a difference is more than chance."


def _one_answer(task: Task) -> Iterator[str]:
    if task.one_answer:
        yield (
            f"{task.name}: the model answers {100 * task.lengths['same_prediction']:.0f} % of the rows alike, while no "
            f"reference occurs in more than {100 * task.lengths['same_reference']:.0f} %: its score may be that of one "
            "sentence."
        )


def _unparsable(task: Task) -> Iterator[str]:
    share = task.primary_metric.unparsable
    if share is not None and share >= UNPARSABLE:
        yield (
            f"{task.name}: {format_score(share)} % of the answers could not be read and count as wrong: the score is "
            "that of a format too."
        )


def _split_gap(task: Task) -> Iterator[str]:
    if task.split_gap is not None:
        yield f"{task.name}: {task.split_gap}"


def _not_scored(task: Task) -> Iterator[str]:
    if task.scored < task.rows:
        yield f"{task.name}: only {task.scored:,} of {format_count(task.rows, 'row')} were scored."


def _failed_metrics(task: Task) -> Iterator[str]:
    for metric in task.metrics:
        if metric.error:
            rows = format_count(task.rows - (metric.rows or 0), "row")
            yield f"{task.name}: {metric.label} could not be computed for {rows}: {metric.error}"


def _unmade(task: Task) -> Iterator[str]:
    for sentence in task.unmade:
        yield f"{task.name}: {sentence}"


def _imperfect_references(task: Task) -> Iterator[str]:
    metric = task.primary_metric
    if metric.reference is not None:
        yield (
            f"{task.name}: the references themselves score {format_score(metric.reference, metric.scale)} by "
            f"{metric.label}, so no model can reach a perfect score."
        )


def _people(task: Task) -> Iterator[str]:
    if task.agreement is not None:
        yield f"{task.name}: {task.agreement.sentence}"
