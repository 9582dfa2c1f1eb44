"""Baselines: predictions without a model, scored on the rows that the model is scored on."""

import pytest

from raytrain.evaluation.baselines import (
    agreement,
    baseline_predictions,
    baseline_stats,
    compare_with_baselines,
    lead,
    longest_sentence,
    make_yardsticks,
    most_frequent,
    references_score,
    with_own_answer,
)
from raytrain.evaluation.examples import Example
from raytrain.evaluation.metrics import METRICS
from raytrain.evaluation.row_stats import compute_row_stats


def scores(metric, *known):
    found = baseline_stats(METRICS[metric], *known)
    return {name: METRICS[metric].score(rows.stats) for name, rows in found.items()}


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


def test_people_are_scored_against_each_other_with_one_reference_less():
    rows = [Example("a", 0, "x", ("yes", "Yes", "no"), {}), Example("b", 0, "y", ("one",), {})]
    found = agreement(METRICS["exact_match"], rows)
    assert found.value == pytest.approx(2 / 3)
    assert (found.rows, found.references, found.against) == (1, 3, 2)
    assert found.low < found.value < found.high
    assert agreement(METRICS["exact_match"], rows[1:]) is None
    assert agreement(METRICS["perplexity"], rows) is None


def test_references_that_no_model_can_reach_are_told():
    """By ROUGE a reference without a word scores 0, whatever the answer."""
    rows = [Example("a", 0, "x", ("yes",), {}), Example("b", 0, "y", ("...",), {})]
    assert references_score(METRICS["rougeL"], rows) == 0.5
    assert references_score(METRICS["rougeL"], rows[:1]) is None
    assert references_score(METRICS["no_label"], rows) == 1.0
    assert references_score(METRICS["perplexity"], rows) is None
    assert make_yardsticks((METRICS["rougeL"],), "text", rows, []).references == {"rougeL": 0.5}


def test_choices_have_baselines_and_perplexity_has_none():
    rows = [Example("a", 0, "x", ("(A)",), {"choices": ["p", "q"]}), Example("b", 0, "y", ("(B)",), {})]
    assert scores("choice_accuracy", "multiple-choice", rows, ["(A)"]) == {"most-frequent": 0.5}
    assert scores("perplexity", "text", rows, ["(A)"]) == {}


def test_baselines_are_scored_on_the_same_rows():
    examples = [example(0, "x = 1;", "x = 1"), example(1, "return y;", "return y"), example(2, "z", "x = 1")]
    known = ["x = 1", "x = 1", "q"]
    assert scores("exact_match", "code-translation", examples, known)["copy"] < 1
    assert scores("exact_match", "question-answering", examples, known) == {"most-frequent": pytest.approx(2 / 3)}


def test_a_model_is_compared_with_a_baseline_row_by_row():
    """Always the commonest label: 60 of 100. A model that gives it, too, is not above it."""
    metric = METRICS["accuracy"]
    examples = [example(i, f"review {i}", "5" if i < 60 else "1") for i in range(100)]
    baselines = baseline_stats(metric, "rating", examples, ["5", "5", "1"])

    def compared(answers):
        model = compute_row_stats(metric, answers, [e.targets for e in examples], [e.meta for e in examples])
        return compare_with_baselines(metric, model, baselines)["most-frequent"]

    same = compared(["5"] * 100)
    assert (same.value, same.rows, same.difference, same.p) == (0.6, 100, 0.0, 1.0)
    better = compared(["5"] * 60 + ["1"] * 20 + ["5"] * 20)
    assert better.difference == pytest.approx(0.2)
    assert 0 < better.low < 0.2 < better.high
    assert better.p < 0.001
    assert compared(["1"] * 100).difference == pytest.approx(-0.2)


def test_copy_uses_the_raw_input_not_the_prompt():
    predictions = baseline_predictions("text", [example(0, "Ann left. Bob stayed.", "Ann left.")], ["s"])
    assert predictions == {"most-frequent": ["s"], "copy": ["Ann left. Bob stayed."]}
    assert "lead-3" not in baseline_predictions("ner", [example(0, "a", "b")], [])
    assert "most-frequent" not in baseline_predictions("ner", [example(0, "a", "b")], [])


def test_a_model_that_has_collapsed_to_one_answer_is_not_above_that_answer():
    """The label 4 is the commonest label of these rows but not of the training rows."""
    metric = METRICS["accuracy"]
    examples = [example(i, f"review {i}", "4" if i < 60 else "1") for i in range(100)]
    targets, metas = [e.targets for e in examples], [e.meta for e in examples]
    known = baseline_stats(metric, "rating", examples, ["5", "5", "1"])

    def compared(answers):
        model = compute_row_stats(metric, answers, targets, metas)
        return compare_with_baselines(metric, model, with_own_answer(known, metric, answers, targets, metas))

    collapsed = compared(["4"] * 100)
    assert {name: score.value for name, score in collapsed.items()} == {"most-frequent": 0.0, "own-answer": 0.6}
    assert collapsed["own-answer"].p == 1.0
    assert compared(["5"] * 100).keys() == {"most-frequent"}  # the same answer once
    assert compared([e.targets[0] for e in examples])["own-answer"].difference == pytest.approx(0.4)


def test_an_answer_that_is_rare_is_no_baseline():
    metric = METRICS["rougeL"]
    targets, metas = [[f"text {i}"] for i in range(20)], [{}] * 20
    assert with_own_answer({}, metric, [f"text {i}" for i in range(20)], targets, metas) == {}
    few = (targets[:8], metas[:8])  # of few rows an answer given once is no frequent one
    assert with_own_answer({}, metric, [f"text {i}" for i in range(8)], *few) == {}
    assert with_own_answer({}, metric, [], [], []) == {}
    assert with_own_answer({}, METRICS["perplexity"], ["a"] * 20, targets, metas) == {}
