"""Examples: made from rows, and turned into generation requests."""

from types import SimpleNamespace

from data_prep.config import Source, Task
from raytrain.evaluation.examples import Example, examples_from_rows, generation_request
from raytrain.generation.requests import GenerationRequest


def example(number, raw, target, **meta):
    return Example(f"r{number}", 0, f"Do it: {raw}", (target,), {"input": raw, **meta})


def test_a_request_scores_the_target_and_the_choices_that_metrics_need():
    both = {"loss", "choice_losses"}
    assert generation_request(example(0, "x", "y"), both) == GenerationRequest("Do it: x", "y", ())
    row = example(0, "x", "(B)", choices=["p", "q"])
    assert generation_request(row, both).scored_texts == ("(B)", "(A)", "(B)")
    assert generation_request(row, {"loss"}).scored_texts == ("(B)",)
    assert generation_request(row, {"choice_losses"}).scored_texts == ("(A)", "(B)")
    assert generation_request(row, ()).scored_texts == ()  # no metric needs a loss


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


def test_rows_of_entities_know_the_types_of_all_rows():
    task = Task(name="t", type="ner", source=Source(uri="x.jsonl"), labels=["MISC", "PER"])
    rows = [
        SimpleNamespace(id=str(i), template=0, input="x", targets=[target], meta={})
        for i, target in enumerate(["PER: Ann", "none", "LOC: Rome | PER: Bob"])
    ]
    assert [e.meta["entity_types"] for e in examples_from_rows(rows, task)] == [["LOC", "MISC", "PER"]] * 3
