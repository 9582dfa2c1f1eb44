"""Paired differences of a mean over tasks, over several seeds, with intervals and p-values.

Each task is scored on rows of its own, so the rows of different tasks are drawn independently; the
runs of different seeds are scored on the same rows, so those are drawn together
(`evaluation.metrics.bootstrap`). The interval is about the rows: how much seeds differ is told
apart from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raytrain.evaluation.metrics.base import Floats, Metric
from raytrain.evaluation.metrics.bootstrap import DRAWS, LEVEL, SEED, differences, p_value, quantiles


@dataclass(frozen=True, slots=True)
class TaskPair:
    """One task: the statistics of the same rows before and after, shape (rows, columns), by seed.

    `weight` is the task's share of the mean, divided by its unit.
    """

    metric: Metric
    weight: float
    by_seed: tuple[tuple[Floats, Floats], ...]


@dataclass(frozen=True, slots=True)
class MeanDifference:
    """A difference in shares (0.01 is a point), positive is better, with its 95 % interval.

    `by_seed` are the differences of the single seeds. `p` is two-sided and None where too few rows
    could show nothing, whatever they say.
    """

    value: float
    low: float
    high: float
    p: float | None
    by_seed: tuple[float, ...]

    @property
    def seeds_agree(self) -> bool:
        """Whether the differences of all seeds have the same sign."""
        return all(one > 0 for one in self.by_seed) or all(one < 0 for one in self.by_seed)


def mean_difference(pairs: Sequence[TaskPair]) -> MeanDifference | None:
    """Returns the weighted mean over tasks of after minus before; None without tasks."""
    if not pairs:
        return None
    low, high = np.zeros(DRAWS), np.zeros(DRAWS)
    by_seed = np.zeros(len(pairs[0].by_seed))
    for place, pair in enumerate(pairs):
        sign = pair.metric.improvement(1.0)
        for seed, (before, after) in enumerate(pair.by_seed):
            by_seed[seed] += pair.weight * sign * (pair.metric.score(after) - pair.metric.score(before))
            one, other = differences(pair.metric, before, after, DRAWS, SEED + place)
            worst, best = (one, other) if sign > 0 else (-other, -one)
            low += pair.weight * worst / len(by_seed)
            high += pair.weight * best / len(by_seed)
    value = float(by_seed.mean())
    lower, upper = quantiles(low, high)
    rows = [len(before) for pair in pairs for before, _ in pair.by_seed]
    few = any(len(before) < pair.metric.fewest_rows for pair in pairs for before, _ in pair.by_seed)
    return MeanDifference(
        value,
        min(float(lower), value),
        max(float(upper), value),
        None if few else max(p_value(low, high), 0.5 ** (sum(rows) - 1)),
        tuple(float(one) for one in by_seed),
    )


def is_shown(difference: MeanDifference | None, corrected: float | None) -> bool:
    """Whether a difference is more than chance: of the rows, and in every seed."""
    return difference is not None and corrected is not None and corrected <= 1 - LEVEL and difference.seeds_agree
