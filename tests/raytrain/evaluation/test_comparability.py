"""Scores are compared only if they are of the same rows, read and scored in the same way."""

from dataclasses import replace

import pytest

from raytrain.evaluation.comparability import conditions, obstacles
from raytrain.evaluation.examples import Example
from raytrain.evaluation.results import ScoreCard
from raytrain.evaluation.scoring import prompts_digest, rows_digest

CARD = ScoreCard(
    "after", "notes", "summarization", False, "test", 1, {"digest": "d"}, 10, 10, "rougeL",
    protocol={"metrics": {"rougeL": "v1"}, "decoding": "greedy", "max_input_tokens": 512, "max_new_tokens": 64,
              "precision": "fp32", "references": "best of several"},
    rows_digest="a", prompts_digest="b",
)  # fmt: skip


def test_equal_conditions_can_be_compared():
    other = replace(CARD, model={"digest": "another"}, split="test", baselines={}, seconds=2.0)
    assert obstacles(CARD, other) == []
    assert conditions(CARD) == conditions(other)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rows_digest": "c"}, "other rows"),
        ({"prompts_digest": "c"}, "other prompts"),
        ({"rows": 9}, "number of rows: 10 and 9"),
        ({"primary_metric": "rouge1"}, "metric: rougeL and rouge1"),
        ({"protocol": {**CARD.protocol, "metrics": {"rougeL": "v2"}}}, "another version"),
        ({"protocol": {**CARD.protocol, "decoding": "4 beams"}}, "decoding: greedy and 4 beams"),
        ({"protocol": {**CARD.protocol, "max_input_tokens": 160}}, "max input tokens: 512 and 160"),
        ({"protocol": {**CARD.protocol, "max_new_tokens": 8}}, "max new tokens: 64 and 8"),
        ({"protocol": {**CARD.protocol, "references": "the first"}}, "references: best of several and the first"),
    ],
)
def test_each_other_condition_is_named(change, reason):
    assert any(reason in found for found in obstacles(CARD, replace(CARD, **change)))


def test_rows_that_are_not_known_cannot_be_compared():
    unknown = replace(CARD, rows_digest="")
    assert obstacles(unknown, unknown) == ["it is not known which rows were scored"]


def test_the_digest_of_rows_covers_inputs_references_and_labels_but_not_templates():
    row = Example("r", 0, "Rate: fine", ("4",), {"input": "fine", "labels": ["1", "4"]})
    same = Example("r", 1, "Stars? fine", ("4",), {"input": "fine", "labels": ["1", "4"]})
    assert rows_digest([row]) == rows_digest([same])
    assert prompts_digest([row]) != prompts_digest([same])
    assert rows_digest([row, same]) == rows_digest([same, row])
    for other in (
        replace(row, id="s"),
        replace(row, targets=("1",)),
        replace(row, targets=("4", "1")),
        replace(row, meta={**row.meta, "input": "bad"}),
        replace(row, meta={**row.meta, "labels": ["1", "2", "4"]}),
    ):
        assert rows_digest([other]) != rows_digest([row])
