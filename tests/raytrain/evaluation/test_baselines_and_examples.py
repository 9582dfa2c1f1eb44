from types import SimpleNamespace

import pytest

from data_prep.config import Source, Task
from raytrain.evaluation.baselines import (
    REFERENCES,
    baseline_predictions,
    lead,
    longest_sentence,
    most_frequent,
    score_baselines,
)
from raytrain.evaluation.chunks import split_into_chunks
from raytrain.evaluation.examples import Example, examples_from_rows, generation_request
from raytrain.evaluation.metrics import METRICS
from raytrain.generation.requests import GenerationRequest


def example(number, raw, target, **meta):
    return Example(f"r{number}", 0, f"Do it: {raw}", (target,), {"input": raw, **meta})


def test_most_frequent_answer_of_the_training_rows():
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


def test_references_against_each_other_are_no_hurdle_but_a_height():
    rows = [Example("a", 0, "x", ("yes", "Yes", "no"), {}), Example("b", 0, "y", ("one",), {})]
    scores = score_baselines(METRICS["exact_match"], "summarization", rows, [])
    assert scores[REFERENCES] == pytest.approx(2 / 3)
    assert set(scores) == {"lead-3", "longest-sentence", REFERENCES}
    assert REFERENCES not in score_baselines(METRICS["exact_match"], "summarization", rows[1:], [])


def test_a_choice_has_baselines_and_a_likelihood_has_none():
    rows = [Example("a", 0, "x", ("(A)",), {"choices": ["p", "q"]}), Example("b", 0, "y", ("(B)",), {})]
    assert score_baselines(METRICS["choice_accuracy"], "multiple-choice", rows, ["(A)"]) == {"most-frequent": 0.5}
    assert score_baselines(METRICS["perplexity"], "text", rows, ["(A)"]) == {}


def test_an_example_asks_for_its_target_and_its_choices():
    both = {"loss", "choice_losses"}
    assert generation_request(example(0, "x", "y"), both) == GenerationRequest("Do it: x", "y", ())
    choosing = example(0, "x", "(B)", choices=["p", "q"])
    assert generation_request(choosing, both).scored_texts == ("(B)", "(A)", "(B)")
    assert generation_request(choosing, {"loss"}).scored_texts == ("(B)",)
    assert generation_request(choosing, {"choice_losses"}).scored_texts == ("(A)", "(B)")
    assert generation_request(choosing, ()).scored_texts == ()  # no metric takes a likelihood: nothing is judged


def test_baselines_are_scored_on_the_same_rows():
    examples = [example(0, "x = 1;", "x = 1"), example(1, "return y;", "return y"), example(2, "z", "x = 1")]
    scores = score_baselines(METRICS["exact_match"], "code-translation", examples, ["x = 1", "x = 1", "q"])
    assert scores == {"copy": pytest.approx(2 / 3)}
    scores = score_baselines(METRICS["exact_match"], "question-answering", examples, ["x = 1", "x = 1", "q"])
    assert scores == {"most-frequent": pytest.approx(2 / 3)}


def test_copy_takes_the_raw_input_not_the_prompt():
    answers = baseline_predictions("text", [example(0, "Ann left. Bob stayed.", "Ann left.")], ["s"])
    assert answers == {"most-frequent": ["s"], "copy": ["Ann left. Bob stayed."]}
    assert "lead-3" not in baseline_predictions("ner", [example(0, "a", "b")], [])
    assert "most-frequent" not in baseline_predictions("ner", [example(0, "a", "b")], [])


def test_rows_become_examples():
    row = SimpleNamespace(id="a", template=2, input="Rate: bad", targets=["1"], meta={"input": "bad"})
    rating = Task(name="t", type="rating", source=Source(uri="x.csv"))
    [found] = examples_from_rows([row], rating)
    assert found == Example("a", 2, "Rate: bad", ("1",), {"input": "bad", "labels": ["1", "2", "3", "4", "5"]})
    assert found.raw_input == "bad"
    words = rating.model_copy(update={"labels": ["bad", "good"]})
    assert examples_from_rows([row], words)[0].meta["labels"] == ["bad", "good"]
    code = rating.model_copy(update={"type": "code-translation", "fields": {"to": "Python"}})
    assert examples_from_rows([row], code)[0].meta["language"] == "Python"
    assert "labels" not in examples_from_rows([row], rating.model_copy(update={"type": "text"}))[0].meta


def test_chunks_hold_every_example_once_longest_first():
    examples = [example(i, "x" * ((7 * i) % 23), "t") for i in range(50)]
    found = split_into_chunks(examples, 8)
    assert [len(p) for p in found] == [8] * 6 + [2]
    flat = [i for chunk in found for i in chunk]
    assert sorted(flat) == list(range(50))
    lengths = [len(examples[i].input) for i in flat]
    assert lengths == sorted(lengths, reverse=True)


def test_chunks_hold_the_same_examples_whatever_their_order():
    examples = [example(i, "x" * (i % 5), "t") for i in range(30)]

    def named(rows):
        return [[rows[i].id for i in chunk] for chunk in split_into_chunks(rows, 4)]

    assert named(examples) == named(examples[::-1])
