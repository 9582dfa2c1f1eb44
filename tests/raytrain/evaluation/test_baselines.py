"""Baselines: predictions without a model, scored on the rows that the model is scored on."""

import pytest

from raytrain.evaluation.baselines import (
    REFERENCES,
    baseline_predictions,
    lead,
    longest_sentence,
    most_frequent,
    score_baselines,
)
from raytrain.evaluation.examples import Example
from raytrain.evaluation.metrics import METRICS


def example(number, raw, target, **meta):
    return Example(f"r{number}", 0, f"Do it: {raw}", (target,), {"input": raw, **meta})


def test_most_frequent_training_target():
    assert most_frequent(["5", "4", "5"]) == "5"
    assert most_frequent(["b", "a"]) == "a"
    assert most_frequent([]) is None


@pytest.mark.parametrize(
    ("text", "first"),
    [("One. Two.", "One."), ("\n\n  Ann: hi\nBob: ho", "Ann: hi"), ("no end", "no end"), ("", ""),
     ("Why? Because!", "Why?")],
)  # fmt: skip
def test_lead_sentences(text, first):
    assert lead(text, 1) == first


def test_lead_three_and_the_longest_sentence():
    text = "Ann: hi.\nBob: how are you? I am well.\nAnn: so am I!"
    assert lead(text) == "Ann: hi. Bob: how are you? I am well."
    assert longest_sentence(text) == "Bob: how are you?"
    assert longest_sentence("\n") == ""


def test_references_are_scored_against_each_other():
    rows = [Example("a", 0, "x", ("yes", "Yes", "no"), {}), Example("b", 0, "y", ("one",), {})]
    scores = score_baselines(METRICS["exact_match"], "summarization", rows, [])
    assert scores[REFERENCES] == pytest.approx(2 / 3)
    assert set(scores) == {"lead-3", "longest-sentence", REFERENCES}
    assert REFERENCES not in score_baselines(METRICS["exact_match"], "summarization", rows[1:], [])


def test_choices_have_baselines_and_perplexity_has_none():
    rows = [Example("a", 0, "x", ("(A)",), {"choices": ["p", "q"]}), Example("b", 0, "y", ("(B)",), {})]
    assert score_baselines(METRICS["choice_accuracy"], "multiple-choice", rows, ["(A)"]) == {"most-frequent": 0.5}
    assert score_baselines(METRICS["perplexity"], "text", rows, ["(A)"]) == {}


def test_baselines_are_scored_on_the_same_rows():
    examples = [example(0, "x = 1;", "x = 1"), example(1, "return y;", "return y"), example(2, "z", "x = 1")]
    scores = score_baselines(METRICS["exact_match"], "code-translation", examples, ["x = 1", "x = 1", "q"])
    assert scores == {"copy": pytest.approx(2 / 3)}
    scores = score_baselines(METRICS["exact_match"], "question-answering", examples, ["x = 1", "x = 1", "q"])
    assert scores == {"most-frequent": pytest.approx(2 / 3)}


def test_copy_uses_the_raw_input_not_the_prompt():
    predictions = baseline_predictions("text", [example(0, "Ann left. Bob stayed.", "Ann left.")], ["s"])
    assert predictions == {"most-frequent": ["s"], "copy": ["Ann left. Bob stayed."]}
    assert "lead-3" not in baseline_predictions("ner", [example(0, "a", "b")], [])
    assert "most-frequent" not in baseline_predictions("ner", [example(0, "a", "b")], [])
