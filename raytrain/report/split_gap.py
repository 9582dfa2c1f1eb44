"""Whether validation and test rows give one and the same model clearly different scores."""

from collections.abc import Sequence
from math import hypot

from raytrain.evaluation.results import MetricScore, ScoreCard
from raytrain.report.formatting import format_count, format_score

_MARGIN = 1.5
"""Widens the 95 % of one task to about 95 % of 15 tasks together."""


def split_gap(after: ScoreCard, checkpoints: Sequence[ScoreCard]) -> str | None:
    """Says how the scores of one model on two splits differ; None where chance explains it.

    The rows are different ones, so the test is unpaired: the difference against the root of the sum
    of squares of both intervals' halves, and half as much again: this is asked of every task, and
    the checkpoint was chosen by its validation rows. Without a checkpoint with the weights of
    `after` there is nothing to compare.
    """
    same = (c for c in checkpoints if c.model.get("digest") == after.model.get("digest") and c.split != after.split)
    other = next(same, None)
    first, second = _primary(other), _primary(after)
    if other is None or first is None or second is None or first.value is None or second.value is None:
        return None
    difference = second.value - first.value
    if abs(difference) <= _MARGIN * hypot(_half(first, towards=difference), _half(second, towards=-difference)):
        return None
    scores = " and ".join(
        f"{format_score(score.value, score.scale)} on {format_count(card.scored, f'{card.split} row')}"
        for score, card in ((first, other), (second, after))
    )
    return (
        f"The same model scores {scores}, a difference that chance does not explain: the splits hold different "
        "kinds of rows. Compare neither with the other."
    )


def _primary(card: ScoreCard | None) -> MetricScore | None:
    return None if card is None else card.metrics.get(card.primary_metric)


def _half(score: MetricScore, *, towards: float) -> float:
    """The part of the interval on the side of the other score; 0 where there is none."""
    if score.value is None or score.low is None or score.high is None:
        return 0.0
    return score.high - score.value if towards > 0 else score.value - score.low
