"""Suggestions for mistyped names."""

import pytest

from raytrain_core.text import closest, did_you_mean


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("rougel", ["rouge1", "rougeL"], "rougeL"),  # case
        ("batch_tokens", ["batchTokens", "steps"], "batchTokens"),
        ("few-shot", ["fewShot"], "fewShot"),
        ("stepps", ["epochs", "steps"], "steps"),
        ("star", ["stars", "notes"], "stars"),
        ("a-b", ["aB", "a_b"], "aB"),  # equally similar: the first
        ("zzzz", ["steps"], None),
        ("x", [], None),
    ],
)
def test_the_closest_name(name, known, expected):
    assert closest(name, known) == expected


def test_a_suggestion_completes_a_message():
    assert did_you_mean("ecko", iter(["echo", "stars"])) == ", did you mean echo?"
    assert did_you_mean("ecko", ["stars"]) == ""
