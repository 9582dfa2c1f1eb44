from types import SimpleNamespace

import pytest

from data_prep.document.models import Source, Task
from raytrain.evaluation.baselines import baseline_answers, lead, most_frequent, score_baselines
from raytrain.evaluation.examples import Example, chunks, from_rows
from raytrain.evaluation.metrics import METRICS


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
def test_lead_sentence(text, first):
    assert lead(text) == first


def test_baselines_are_scored_on_the_same_rows():
    examples = [example(0, "x = 1;", "x = 1"), example(1, "return y;", "return y"), example(2, "z", "x = 1")]
    scores = score_baselines(METRICS["exact_match"], "code-translation", examples, ["x = 1", "x = 1", "q"])
    assert scores == {"most-frequent": pytest.approx(2 / 3), "copy": pytest.approx(2 / 3)}


def test_copy_takes_the_raw_input_not_the_prompt():
    answers = baseline_answers("summarization", [example(0, "Ann left. Bob stayed.", "Ann left.")], ["s"])
    assert answers == {"most-frequent": ["s"], "copy": ["Ann left. Bob stayed."], "lead": ["Ann left."]}
    assert "lead" not in baseline_answers("ner", [example(0, "a", "b")], [])
    assert "most-frequent" not in baseline_answers("ner", [example(0, "a", "b")], [])


def test_rows_become_examples():
    row = SimpleNamespace(id="a", template=2, input="Rate: bad", targets=["1"], meta={"input": "bad"})
    rating = Task(name="t", type="rating", source=Source(uri="x.csv"))
    [found] = from_rows([row], rating)
    assert found == Example("a", 2, "Rate: bad", ("1",), {"input": "bad", "labels": ["1", "2", "3", "4", "5"]})
    assert found.raw_input == "bad"
    words = rating.model_copy(update={"labels": ["bad", "good"]})
    assert from_rows([row], words)[0].meta["labels"] == ["bad", "good"]
    assert "labels" not in from_rows([row], rating.model_copy(update={"type": "text"}))[0].meta


def test_chunks_hold_every_example_once_longest_first():
    examples = [example(i, "x" * ((7 * i) % 23), "t") for i in range(50)]
    pieces = chunks(examples, 8)
    assert [len(p) for p in pieces] == [8] * 6 + [2]
    flat = [i for piece in pieces for i in piece]
    assert sorted(flat) == list(range(50))
    lengths = [len(examples[i].input) for i in flat]
    assert lengths == sorted(lengths, reverse=True)


def test_chunks_hold_the_same_examples_whatever_their_order():
    examples = [example(i, "x" * (i % 5), "t") for i in range(30)]

    def named(rows):
        return [[rows[i].id for i in piece] for piece in chunks(rows, 4)]

    assert named(examples) == named(examples[::-1])
