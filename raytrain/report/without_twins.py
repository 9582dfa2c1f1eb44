"""The primary score without the test rows that training rows repeat, or nearly."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from data_prep.shards.manifest import ShardSet
from raytrain.evaluation.metrics import interval
from raytrain.evaluation.results import Prediction
from raytrain.report.differences import find_metric
from raytrain.report.formatting import format_count, format_score, join_names
from raytrain.report.model import Interval, Metric, WithoutTwins
from raytrain.report.stored import Stage, StoredRun


def without_twins(
    run: StoredRun, task: str, before: Stage | None, after: Stage | None, metric: Metric
) -> WithoutTwins | None:
    """Returns the scores without these rows, from the stored answers; None if none was scored."""
    stage = after or before
    if stage is None or run.shards is None:
        return None
    marks = _Marks.of(run.shards, task, stage.card.split)
    scored = {answer.id for answer in stage.answers}
    marked = frozenset(marks.ids & scored)
    rows = sum(answer.id in marked for answer in stage.answers)
    if not rows:
        return None
    scores = [None if one is None else _score(metric, one.answers, marked) for one in (before, after)]
    of, split = len(stage.answers), stage.card.split
    sentence = (
        f"Of {format_count(of, f'{split} row')} {rows:,} {'has' if rows == 1 else 'have'} a near-twin in training"
    )
    sentence += f"{marks.told_elsewhere(scored)}; "
    sentence += _told(metric, *scores) if rows < of else "none is without."
    if marks.compared < marks.examples:
        told = f"{marks.compared:,} of {marks.examples:,}"
        sentence += f" Not all rows were compared by eight-word sequences: {told}."
    return WithoutTwins(rows=rows, of=of, before=scores[0], after=scores[1], sentence=sentence)


@dataclass(frozen=True, slots=True)
class _Marks:
    """The marked rows of a split, those of other tasks by task, and how many were compared."""

    own: frozenset[str]
    elsewhere: Mapping[str, frozenset[str]]
    compared: int
    examples: int

    @classmethod
    def of(cls, shards: ShardSet, task: str, split: str) -> "_Marks":
        found = {name: one for t in shards.tasks if t.name == task for name, one in t.splits.items()}
        own = next((one.near_twins for name, one in found.items() if name == split), None)
        elsewhere = next((one for name, one in shards.twins_elsewhere.get(task, {}).items() if name == split), None)
        examples = next((one.examples for name, one in found.items() if name == split), 0)
        return cls(
            own=frozenset(own.ids if own else ()),
            elsewhere={name: frozenset(ids) for name, ids in (elsewhere.ids if elsewhere else {}).items()},
            compared=min((one.compared for one in (own, elsewhere) if one), default=examples),
            examples=examples,
        )

    @property
    def ids(self) -> frozenset[str]:
        """All marked rows."""
        return self.own.union(*self.elsewhere.values())

    def told_elsewhere(self, scored: Set[str]) -> str:
        """Names the other tasks that train on near-twins of scored rows, each with its rows."""
        rows = {task: len(ids & scored) for task, ids in self.elsewhere.items() if ids & scored}
        if not rows:
            return ""
        named = join_names([f"{count:,} in {task}" for task, count in rows.items()])
        return f" ({named})"


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
