"""The primary score without the test rows that training rows repeat, or nearly."""

from collections.abc import Sequence

import numpy as np

from data_prep.shards.manifest import PreparedSplit
from raytrain.evaluation.metrics import interval
from raytrain.evaluation.results import Prediction
from raytrain.report.differences import find_metric
from raytrain.report.formatting import format_count, format_score
from raytrain.report.model import Interval, Metric, WithoutTwins
from raytrain.report.stored import Stage, StoredRun


def without_twins(
    run: StoredRun, task: str, before: Stage | None, after: Stage | None, metric: Metric
) -> WithoutTwins | None:
    """Returns the scores without these rows, from the stored answers; None if none was scored."""
    stage = after or before
    prepared = _prepared(run, task, stage)
    if stage is None or prepared is None or prepared.near_twins is None:
        return None
    marked = frozenset(prepared.near_twins.ids)
    rows = sum(answer.id in marked for answer in stage.answers)
    if not rows:
        return None
    scores = [None if one is None else _score(metric, one.answers, marked) for one in (before, after)]
    of, split = len(stage.answers), stage.card.split
    sentence = (
        f"Of {format_count(of, f'{split} row')} {rows:,} {'has' if rows == 1 else 'have'} a near-twin in training; "
    )
    sentence += _told(metric, *scores) if rows < of else "none is without."
    compared = prepared.near_twins.compared
    if compared < prepared.examples:
        sentence += f" Not all rows were compared by eight-word sequences: {compared:,} of {prepared.examples:,}."
    return WithoutTwins(rows=rows, of=of, before=scores[0], after=scores[1], sentence=sentence)


def _prepared(run: StoredRun, task: str, stage: Stage | None) -> PreparedSplit | None:
    if run.shards is None or stage is None:
        return None
    splits = (split for one in run.shards.tasks if one.name == task for split in one.splits.items())
    return next((prepared for name, prepared in splits if name == stage.card.split), None)


def _score(metric: Metric, answers: Sequence[Prediction], marked: frozenset[str]) -> Interval | None:
    """Returns the score of the other rows; None where no row is left or the metric is not known."""
    known = find_metric(metric.name)
    stats = [answer.stats for answer in answers if answer.stats and answer.id not in marked]
    if known is None or not stats:
        return None
    found = interval(known, np.array(stats, np.float64))
    return Interval(value=found.value, low=found.low, high=found.high)


def _told(metric: Metric, before: Interval | None, after: Interval | None) -> str:
    found = after or before
    if found is None:
        return "the score without them is not known."
    values = f"{format_score(found.value, metric.scale)}"
    if after is not None and before is not None:
        values += f" (before training {format_score(before.value, metric.scale)})"
    return f"without them {metric.label} is {values}."
