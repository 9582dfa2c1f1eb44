"""One model on two splits: more than chance, or not."""

import pytest

from raytrain.evaluation.results import MetricScore, ScoreCard
from raytrain.report.split_gap import split_gap


def card(split, value, half, digest="d", stage="after"):
    score = MetricScore(value, value - half, value + half, "higher")
    return ScoreCard(
        stage, "questions", "question-answering", True, split, 1250, {"digest": digest},
        rows=200, scored=200, primary_metric="exact_match", metrics={"exact_match": score},
    )  # fmt: skip


def test_a_difference_beyond_chance_is_told():
    found = split_gap(card("test", 0.485, 0.07), [card("validation", 0.315, 0.065, stage="step-001250")])
    assert found == (
        "The same model scores 31.5 on 200 validation rows and 48.5 on 200 test rows, a difference that chance does "
        "not explain: the splits hold different kinds of rows. Compare neither with the other."
    )


@pytest.mark.parametrize(
    "checkpoints",
    [
        [],
        [card("validation", 0.505, 0.07)],
        [card("validation", 0.34, 0.07)],
        [card("validation", 0.1, 0.01, digest="other")],
        [card("test", 0.1, 0.01)],
    ],
    ids=["no checkpoint", "within chance", "one of many tasks", "another model", "the same split"],
)
def test_nothing_is_said(checkpoints):
    assert split_gap(card("test", 0.45, 0.07), checkpoints) is None
