"""Paired differences of two sets of predictions, with their intervals and verdicts."""

from collections.abc import Sequence

from raytrain.evaluation import holm
from raytrain.evaluation.forgetting import compare
from raytrain.evaluation.metrics import Metric, find
from raytrain.evaluation.metrics.bootstrap import verdict
from raytrain.evaluation.results import BaselineScore, Prediction
from raytrain.report.model import Difference
from raytrain_core.errors import UsageError

LIMIT = 0.05
"""Largest p-value of a difference that counts as more than chance."""


def paired_difference(metric: str, first: Sequence[Prediction], second: Sequence[Prediction]) -> Difference | None:
    """Compares `second` with `first` over the rows that both answered.

    Returns None if the metric is not installed or no row was answered by both. The p-value is not
    yet corrected for other comparisons (`corrected`).
    """
    known = find_metric(metric)
    paired = None if known is None else compare(known, first, second)
    if known is None or paired is None:
        return None
    return Difference(
        value=paired.difference,
        low=paired.low,
        high=paired.high,
        gain=known.improvement(paired.difference),
        rows=paired.rows,
        p=None if paired.verdict == "few" else paired.p,
        verdict=paired.verdict,
    )


def from_baseline(metric: str, score: BaselineScore) -> Difference | None:
    """Returns the model's score minus that of a baseline; None where they could not be compared."""
    known = find_metric(metric)
    if known is None or score.difference is None or score.p is None:
        return None
    judged = verdict(known, score.difference, score.p, score.rows)
    return Difference(
        value=score.difference,
        low=score.low,
        high=score.high,
        gain=known.improvement(score.difference),
        rows=score.rows,
        p=None if judged == "few" else score.p,
        verdict=judged,
    )


def corrected(differences: Sequence[Difference | None]) -> list[Difference | None]:
    """Corrects p-values and verdicts for the number of differences that are looked at together."""
    adjusted = holm.adjust([None if d is None else d.p for d in differences])
    return [
        d if d is None or p is None else d.model_copy(update={"p": p, "verdict": d.verdict if p <= LIMIT else "noise"})
        for d, p in zip(differences, adjusted, strict=True)
    ]


def find_metric(name: str) -> Metric | None:
    """Returns the metric of that name, or None if it is not installed (any more)."""
    try:
        return find(name)
    except UsageError:
        return None
