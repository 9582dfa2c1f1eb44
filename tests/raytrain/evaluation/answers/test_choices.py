"""Which option an answer names."""

import pytest

from raytrain.evaluation.answers.choices import choice_named
from raytrain.evaluation.metrics import METRICS

CHOICES = ["Cairo", "Paris", "C", "C"]


@pytest.mark.parametrize(
    "answer",
    ["(B)", "b", "B.", "B)", "[B]", "B:", "B. Paris", "(B) Paris.", "b) paris", "Paris", "paris.", "Answer: B",
     "The answer is (B).", "The correct answer is Paris", "option b", "**B**", "**(B)**"],
)  # fmt: skip
def test_letter_text_or_both_name_an_option(answer):
    assert choice_named(answer, CHOICES) == 1


@pytest.mark.parametrize(
    "answer", ["", "E", "B. Cairo", "A Paris", "(B) or (C)", "B, C", "not B", "Paris and Cairo", "(B", "Rome", "?"]
)
def test_several_options_or_none_are_unparsable(answer):
    assert choice_named(answer, CHOICES) is None
    assert METRICS["exact_match"].unreadable(answer, {"choices": CHOICES}) is True


def test_a_text_that_two_options_have_names_none_and_a_letter_is_a_letter():
    assert choice_named("x", ["x", "x"]) is None
    assert choice_named("A", ["B", "A"]) == 0


def test_an_option_without_known_choices_is_named_by_its_letter():
    metric = METRICS["exact_match"]
    for answer, right in (("b", 1), ("B)", 1), ("Answer: (B)", 1), ("-B", 0), ("", 0), ("A", 0), ("(B) or (C)", 0)):
        assert metric.value(answer, ["(B)"], {}) == right, answer
