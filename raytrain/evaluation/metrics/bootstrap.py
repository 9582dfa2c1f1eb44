"""Confidence intervals and paired comparisons that hold their level at any number of rows.

Rows are weighted at random (Rubin 1981, "The Bayesian bootstrap"), together with one row more that
nobody has seen: for the lower bound the worst row imaginable, for the upper bound the best one
(Gaffke 2005, "Three test statistics for a nonparametric one-sided hypothesis on the mean of a
nonnegative variable"; Learned-Miller & Thomas 2020, "A new confidence interval for the mean of a
bounded random variable"). For scores of 0 and 1 these are the bounds of Clopper and Pearson (1934),
for pairs of them the test is McNemar's exact one; with many rows the unseen row weighs nothing, and
what is left is the bootstrap. `benchmarks.verdicts` measures level and coverage.

Weights are continuous: a score is computed from weighted sums of the rows' statistics. The draws
depend only on the seed and the number of rows.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from raytrain.evaluation.metrics.base import Floats, Metric

DRAWS = 2_000
MOST_DRAWS = 20_000
"""Draws where a comparison is close to the limit, or so far from it that its p-value matters."""
SEED = 17
LEVEL = 0.95

INTERVAL_PROTOCOL = (
    f"{LEVEL:.0%} Bayesian bootstrap of rows with one unseen row, worst and best possible; {DRAWS:,} draws, seed {SEED}"
).replace("%", " %")

_AT_ONCE = 4_000_000  # weights in memory
_MOST_WEIGHTS = 20_000_000  # of a comparison with more draws

Verdict = Literal["better", "worse", "noise", "few"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A score over rows, and its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Paired:
    """After minus before on the same rows, with the 95 % interval of the difference.

    `p` is the two-sided p-value of no difference. The verdict is "few" where so few rows can show
    nothing, whatever they say.
    """

    before: float
    after: float
    difference: float
    low: float
    high: float
    p: float
    verdict: Verdict
    rows: int


def interval(metric: Metric, stats: Floats, *, draws: int = DRAWS, seed: int = SEED) -> Interval:
    """Returns the score of `stats`, shape (rows, columns), with its interval.

    An interval of a bounded score always has a width: if all of n rows are correct, a true share of
    wrong ones up to about 3.7/n is compatible with it. Raises ValueError without rows.
    """
    if not len(stats):
        raise ValueError("there are no rows to score")
    lowest, highest = metric.extremes(stats)
    low, high = _scores(metric, stats, (lowest, highest), draws, seed)
    value = metric.score(stats)
    lower, upper = quantiles(low, high)
    return Interval(value, min(float(lower), value), max(float(upper), value))


def paired(metric: Metric, before: Floats, after: Floats, *, draws: int = DRAWS, seed: int = SEED) -> Paired:
    """Compares two scorings of the same rows in the same order, weighted by the same draws.

    Raises ValueError where the shapes differ or there are no rows.
    """
    if before.shape != after.shape:
        raise ValueError(f"statistics have shape {before.shape} before and {after.shape} after: not the same rows")
    if not len(before):
        raise ValueError("there are no rows to compare")
    low, high = differences(metric, before, after, draws, seed)
    p = p_value(low, high)
    if p < 2 * (1 - LEVEL) and (more := min(MOST_DRAWS, _MOST_WEIGHTS // len(before))) > draws:
        low, high = differences(metric, before, after, more, seed)
        p = p_value(low, high)
    p = max(p, 0.5 ** (len(before) - 1))  # no exact test of so few pairs gives less: 2 / 2^n
    first, second = metric.score(before), metric.score(after)
    lower, upper = quantiles(low, high)
    return Paired(
        before=first,
        after=second,
        difference=second - first,
        low=min(float(lower), second - first),
        high=max(float(upper), second - first),
        p=p,
        verdict=verdict(metric, second - first, p, len(before)),
        rows=len(before),
    )


def differences(metric: Metric, before: Floats, after: Floats, draws: int, seed: int) -> tuple[Floats, Floats]:
    """Returns after minus before in each draw, shape (draws,), with an unseen loss or gain."""
    lowest, highest = metric.extremes(np.concatenate([before, after]))
    unseen = (np.concatenate([highest, lowest]), np.concatenate([lowest, highest]))
    low, high = [], []
    for loss, gain in _weighted(np.hstack([before, after]), unseen, draws, seed):
        low.append(_after_minus_before(metric, loss))
        high.append(_after_minus_before(metric, gain))
    return np.concatenate(low), np.concatenate(high)


def p_value(low: Floats, high: Floats) -> float:
    """Returns the two-sided p-value of no difference from draws of differences, shape (draws,).

    Where no draw reaches zero, their number alone would set the p-value, and after Holm's
    correction many tasks of many rows would all be noise: there it is a normal distribution's.
    """
    losses, gains = int(np.sum(low <= 0)), int(np.sum(high >= 0))
    tail = min(losses, gains)
    p = min(1.0, 2 * (tail + 1) / (len(low) + 1))
    return p if tail else min(p, _normal_tails(high if losses else low))


def _normal_tails(draws: Floats) -> float:
    """Returns the two-sided p-value of zero under a normal distribution like that of the draws."""
    spread = float(draws.std())
    return math.erfc(abs(float(draws.mean())) / spread / math.sqrt(2)) if spread > 0 else 1.0


def verdict(metric: Metric, difference: float, p: float, rows: int) -> Verdict:
    """Judges a difference (after minus before) by its p-value."""
    if rows < metric.fewest_rows:
        return "few"
    if p > 1 - LEVEL:
        return "noise"
    return "better" if metric.improvement(difference) > 0 else "worse"


def quantiles(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Returns the lower bound from draws of `low` and the upper one from `high`, along axis 0."""
    tail = (1 - LEVEL) / 2
    return np.quantile(low, tail, axis=0), np.quantile(high, 1 - tail, axis=0)


def _scores(metric: Metric, stats: Floats, unseen: tuple[Floats, Floats], draws: int, seed: int) -> list[Floats]:
    drawn = [[metric.combine_many(sums) for sums in both] for both in _weighted(stats, unseen, draws, seed)]
    return [np.concatenate(scores) for scores in zip(*drawn, strict=True)]


def _after_minus_before(metric: Metric, sums: Floats) -> Floats:
    columns = sums.shape[1] // 2
    return metric.combine_many(sums[:, columns:]) - metric.combine_many(sums[:, :columns])


def _weighted(stats: Floats, unseen: tuple[Floats, Floats], draws: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """Yields weighted sums with each of the two unseen rows, a limited number of draws at once."""
    for seen, last in weights(len(stats), draws, seed):
        sums = seen @ stats
        yield sums + last * unseen[0], sums + last * unseen[1]


def weights(rows: int, draws: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """Yields weights of the rows, shape (n, rows), and of the unseen row, shape (n, 1).

    Those of a draw add up to the number of rows, since some scores (BLEU) depend on how many
    there are.
    """
    generator = np.random.default_rng(seed)
    portion = max(1, min(draws, _AT_ONCE // (rows + 1)))
    for start in range(0, draws, portion):
        drawn = generator.standard_exponential((min(portion, draws - start), rows + 1))
        drawn *= rows / drawn.sum(axis=1, keepdims=True)
        yield drawn[:, :-1], drawn[:, -1:]
