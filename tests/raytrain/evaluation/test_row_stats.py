"""A row that a metric fails on is left out of that metric, and the reason is kept."""

import pytest

from data_prep.config import Source, Task
from raytrain.evaluation import scoring
from raytrain.evaluation.baselines import Yardsticks
from raytrain.evaluation.examples import Example
from raytrain.evaluation.forgetting import compare
from raytrain.evaluation.metrics import METRICS, MeanMetric
from raytrain.evaluation.results import Stage
from raytrain.evaluation.row_stats import compute_row_stats
from raytrain.evaluation.scoring import length_ranges, score_task
from raytrain.generation.requests import Generation, GenerationLimits, ModelRef


class Delicate(MeanMetric):
    """Fails on an empty prediction."""

    name = "delicate"
    protocol = "by hand"

    def value(self, prediction, targets, meta):
        return float(len(prediction) / len(prediction))


EXAMPLES = [Example(f"r{i}", 0, f"say {i}", ("x",), {}) for i in range(4)]
STAGE = Stage("after", ModelRef("base", "m", "d"), "test")
TASK = Task(name="t", type="text", source=Source(uri="x"))


def scored(metrics, texts):
    generations = [Generation(text, 1, False) for text in texts]
    return score_task(
        TASK,
        metrics,
        EXAMPLES,
        generations,
        stage=STAGE,
        yardsticks=Yardsticks(),
        limits=GenerationLimits(8, 8),
        seconds=0.0,
    )


def test_rows_that_a_metric_fails_on_are_left_out_and_counted():
    card, predictions = scored([Delicate(), METRICS["exact_match"]], ["x", "", "y", ""])
    assert (card.rows, card.scored, card.value) == (4, 2, 1.0)
    assert card.metrics["delicate"].error == "ZeroDivisionError: division by zero"
    assert card.metrics["exact_match"].rows == 4
    assert card.metrics["exact_match"].error is None
    assert [p.score for p in predictions] == [1.0, None, 1.0, None]
    assert [len(p.stats) for p in predictions] == [2, 0, 2, 0]
    assert card.by_template == {"0": {"rows": 2, "value": 1.0}}


def test_a_primary_metric_that_fails_on_all_rows_does_not_affect_the_others():
    card, predictions = scored([Delicate(), METRICS["exact_match"]], ["", "", "", ""])
    assert (card.value, card.scored, card.error) == (None, 0, None)
    assert "ZeroDivisionError" in card.metrics["delicate"].error
    assert card.metrics["exact_match"].value == 0.0
    assert card.by_template == card.by_length == card.by_label == {}
    assert [p.score for p in predictions] == [None] * 4
    assert type(card).from_json(card.to_json()) == card


class NoGroups(Delicate):
    """Scores all rows together only."""

    def by_label(self, predictions, targets, metas, stats):
        raise KeyError("label")


def test_a_breakdown_that_fails_is_told_and_loses_no_score(monkeypatch):
    monkeypatch.setattr(scoring, "length_ranges", lambda lengths: ["no number"] * 2)
    card, _ = scored([NoGroups()], ["x", "", "y", "z"])
    assert card.value == 1.0
    assert card.by_template == {"0": {"rows": 3, "value": 1.0}}
    assert card.by_length == card.by_label == {}
    assert set(card.unmade) == {"by_length", "by_label"}
    assert card.unmade["by_label"] == "KeyError: 'label'"
    assert type(card).from_json(card.to_json()) == card


def test_only_rows_that_both_have_are_compared():
    metric = Delicate()
    _, before = scored([metric], ["x", "", "y", "z"])
    _, after = scored([metric], ["", "x", "y", "z"])
    assert compare(metric, before, after).rows == 2


def test_a_metric_whose_losses_are_missing_is_left_out():
    card, _ = scored([METRICS["exact_match"], METRICS["perplexity"]], ["x"] * 4)
    assert set(card.metrics) == {"exact_match"}


def test_the_reason_of_the_first_failing_row_is_kept():
    found = compute_row_stats(Delicate(), ["", "x"], [["x"], []], [{}, {}])
    assert found.scored.tolist() == [False, False]
    assert found.per_row() == [(), ()]
    assert found.reason.startswith("ZeroDivisionError")


@pytest.mark.parametrize(
    ("lengths", "names"),
    [([1, 2, 3, 4], ["1-1", "2-2", "3-3", "4-4"]), ([5, 5, 5], ["5-5"] * 3), ([7], ["7-7"]),
     ([10, 20, 30, 40, 50, 60, 70, 80], ["10-20"] * 2 + ["21-40"] * 2 + ["41-60"] * 2 + ["61-80"] * 2)],
)  # fmt: skip
def test_lengths_are_cut_at_quartiles(lengths, names):
    assert length_ranges(lengths) == names
