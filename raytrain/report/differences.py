"""Paired differences of two sets of predictions, with their intervals and verdicts."""

from collections.abc import Sequence

from raytrain.evaluation.forgetting import compare
from raytrain.evaluation.metrics import Metric, find
from raytrain.evaluation.results import Prediction
from raytrain.report.model import Difference
from raytrain_core.errors import UsageError


def paired_difference(metric: str, first: Sequence[Prediction], second: Sequence[Prediction]) -> Difference | None:
    """Compares `second` with `first` over the rows that both answered, by bootstrap.

    Returns None if the metric is not installed or no row was answered by both.
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
        verdict=paired.verdict,
    )


def find_metric(name: str) -> Metric | None:
    """Returns the metric of that name, or None if it is not installed (any more)."""
    try:
        return find(name)
    except UsageError:
        return None
