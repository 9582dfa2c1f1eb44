"""Confidence intervals of scores: the percentile bootstrap over rows, unpaired and paired.

Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13. Rows are drawn with
replacement; a resample is a vector of counts, so that 1,000 resamples are one matrix product with
the rows' statistics. The draws depend only on the seed and the number of rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from raytrain.evaluation.metrics.base import Floats, Metric

RESAMPLES = 1000
SEED = 17
LEVEL = 0.95

INTERVAL_PROTOCOL = f"{LEVEL:.0%} percentile, {RESAMPLES:,} bootstrap resamples of rows, seed {SEED}".replace("%", " %")

Verdict = Literal["better", "worse", "noise"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A score over rows, and the interval that holds 95 % of its resamples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Paired:
    """After minus before on the same rows.

    `below_zero` is the share of resamples with a negative difference (a difference of exactly 0
    counts half): near 0 or 1 the difference is clear, near 0.5 there is none.
    """

    before: float
    after: float
    difference: float
    low: float
    high: float
    below_zero: float
    verdict: Verdict
    rows: int


def _resampled(stats: Floats, resamples: int, seed: int) -> Iterator[Floats]:
    """Yields the sums of statistics of the resamples, a bounded number at a time."""
    rows = len(stats)
    generator = np.random.default_rng(seed)
    portion = max(1, min(resamples, 4_000_000 // max(rows, 1)))
    for start in range(0, resamples, portion):
        counts = generator.multinomial(rows, np.full(rows, 1 / rows), size=min(portion, resamples - start))
        yield counts.astype(np.float64) @ stats


def interval(metric: Metric, stats: Floats, *, resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """Returns the score of `stats`, shape (rows, columns), with its percentile interval.

    If every row has the same score (all correct, all wrong), the interval has no width: resampling
    cannot know about rows that were not sampled. With n rows, a true share of up to about 3/n is
    compatible with "none" (the rule of three). Raises ValueError without rows.
    """
    if not len(stats):
        raise ValueError("there are no rows to score")
    scores = np.concatenate([metric.combine_many(sums) for sums in _resampled(stats, resamples, seed)])
    low, high = _percentiles(scores)
    return Interval(metric.score(stats), low, high)


def paired(metric: Metric, before: Floats, after: Floats, *, resamples: int = RESAMPLES, seed: int = SEED) -> Paired:
    """Compares two scorings of the same rows in the same order, resampled by the same draws.

    Raises ValueError where the shapes differ or there are no rows.
    """
    if before.shape != after.shape:
        raise ValueError(f"statistics have shape {before.shape} before and {after.shape} after: not the same rows")
    if not len(before):
        raise ValueError("there are no rows to compare")
    columns = before.shape[1]
    differences = []
    for sums in _resampled(np.hstack([before, after]), resamples, seed):
        differences.append(metric.combine_many(sums[:, columns:]) - metric.combine_many(sums[:, :columns]))
    drawn = np.concatenate(differences)
    low, high = _percentiles(drawn)
    first, second = metric.score(before), metric.score(after)
    return Paired(
        before=first,
        after=second,
        difference=second - first,
        low=low,
        high=high,
        below_zero=float(np.mean(drawn < 0) + 0.5 * np.mean(drawn == 0)),
        verdict=verdict(metric, low, high),
        rows=len(before),
    )


def verdict(metric: Metric, low: float, high: float) -> Verdict:
    """Judges an interval of differences (after minus before); one with 0 in it is no change."""
    if low <= 0 <= high:
        return "noise"
    return "better" if metric.improvement(low + high) > 0 else "worse"


def _percentiles(scores: Floats) -> tuple[float, float]:
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(scores, [tail, 100 - tail])
    return float(low), float(high)
