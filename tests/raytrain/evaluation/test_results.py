"""Stored scores: what is written is read back, and damage is detected."""

import json

import pyarrow.parquet as pq
import pytest

from data_prep.config import Source, Task
from raytrain.config.run_layout import RunLayout
from raytrain.evaluation.baselines import make_yardsticks
from raytrain.evaluation.examples import Example
from raytrain.evaluation.metrics import METRICS, metrics_for
from raytrain.evaluation.results import Stage, read_card, read_predictions, read_primary_scores, write_scores
from raytrain.evaluation.scoring import score_task
from raytrain.generation.requests import Generation, GenerationLimits, ModelRef
from raytrain_core.storage import CorruptError, open_store
from raytrain_core.storage.commit import read_manifest

LAYOUT = RunLayout("run")
MODEL = ModelRef("checkpoint", "runs/run/checkpoints/step-000500-a01", "d1", 500)
TASK = Task(name="reviews", type="rating", source=Source(uri="x.csv"))
EXAMPLES = [
    Example(f"r{i}", i % 2, f"Rate: {i}", (str(1 + i % 5),), {"labels": list("12345"), "label": str(1 + i % 5)})
    for i in range(10)
]
GENERATIONS = [Generation(str(1 + (i * i) % 5), 1, False, prompt_tokens=3) for i in range(9)] + [
    Generation(" ", 4, True, prompt_tokens=3)
]


def scored(stage="step-000500", task=TASK, examples=EXAMPLES, generations=GENERATIONS):
    return score_task(
        task,
        metrics_for(task),
        examples,
        generations,
        stage=Stage(stage, MODEL, "validation"),
        yardsticks=make_yardsticks(metrics_for(task), task.type, examples, ["1"]),
        limits=GenerationLimits(512, 8),
        seconds=1.23456,
    )


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


def test_the_fields_of_a_score_card(store):
    card, predictions = scored()
    write_scores(store, LAYOUT, card, predictions, fingerprint="f")
    body = json.loads(store.get("runs/run/scores/step-000500/reviews/scores.json"))
    correct = [int(a.text == e.targets[0]) for a, e in zip(GENERATIONS, EXAMPLES, strict=True)]
    assert set(body) == {
        "stage", "task", "type", "probe", "split", "step", "model", "rows", "scored", "primary_metric", "metrics",
        "by_template", "by_length", "by_label", "baselines", "protocol", "lengths", "seconds", "rows_digest",
        "prompts_digest", "confusion", "entity_types",
    }  # fmt: skip
    assert body["model"] == {"kind": "checkpoint", "uri": MODEL.uri, "digest": "d1"}
    assert (body["stage"], body["step"], body["split"], body["probe"]) == ("step-000500", 500, "validation", False)
    assert (body["rows"], body["scored"], body["primary_metric"]) == (10, 10, "accuracy")
    accuracy = body["metrics"]["accuracy"]
    assert accuracy["value"] == sum(correct) / 10
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert body["metrics"]["mae"]["better"] == "lower"
    assert body["by_template"] == {str(t): {"rows": 5, "value": pytest.approx(sum(correct[t::2]) / 5)} for t in (0, 1)}
    assert body["by_length"] == {"3-3": {"rows": 10, "value": accuracy["value"]}}
    assert {label: part["rows"] for label, part in body["by_label"].items()} == dict.fromkeys("12345", 2)
    assert body["lengths"] == {
        "prompt_tokens_mean": 3.0, "prompt_tokens_median": 3.0, "prompt_tokens_p95": 3.0, "prompt_tokens_max": 3.0,
        "prediction_tokens_mean": 1.3, "prediction_tokens_median": 1.0, "prediction_tokens_max": 4.0,
        "prediction_tokens_p95": pytest.approx(2.65),
        "prompt_at_limit": 0.0,
        "cut_off": 0.1,
        "empty": 0.1,
        "same_prediction": 0.4,
        "same_reference": 0.2,
    }  # fmt: skip
    assert accuracy["unparsable"] == 0.1
    assert body["confusion"]["labels"] == list("12345")
    counts = body["confusion"]["counts"]
    assert [len(row) for row in counts] == [6] * 5
    assert [sum(row) for row in counts] == [2] * 5
    assert sum(counts[i][i] for i in range(5)) == sum(correct)
    assert sum(row[-1] for row in counts) == 1
    assert body["entity_types"] == {}
    assert body["protocol"]["max_new_tokens"] == 8
    assert body["protocol"]["interval"] == (
        "95 % Bayesian bootstrap of rows with one unseen row, worst and best possible; 2,000 draws, seed 17"
    )
    assert set(body["protocol"]["metrics"]) == {
        "accuracy", "macro_f1", "within_one", "mae", "spearman", "no_label",
    }  # fmt: skip
    assert read_manifest(store, "runs/run/scores/step-000500/reviews").body == {
        "kind": "scores", "stage": "step-000500", "task": "reviews", "step": 500, "model_digest": "d1",
        "fingerprint": "f",
    }  # fmt: skip


def test_entities_are_counted_by_type():
    task = Task(name="news", type="ner", source=Source(uri="x.jsonl"))
    answers = {"PER: Ann | LOC: Rome": "PER: Ann | LOC: Oslo", "PER: Bob | LOC: Rome": "LOC: Rome | PE", "none": "Ann"}
    types = {"entity_types": ["LOC", "PER"]}
    examples = [Example(str(i), 0, "x", (target,), types) for i, target in enumerate(answers)]
    generations = [Generation(answer, 3, False, prompt_tokens=3) for answer in answers.values()]
    card, _ = scored(task=task, examples=examples, generations=generations)
    assert card.entity_types == {
        "LOC": {"rows": 2, "correct": 1, "predicted": 2, "expected": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5},
        "PER": {"rows": 2, "correct": 1, "predicted": 1, "expected": 2, "precision": 1, "recall": 0.5, "f1": 2 / 3},
        "": {"rows": 0, "correct": 0, "predicted": 2, "expected": 0, "precision": 0, "recall": 1, "f1": 0},
    }
    assert card.value == pytest.approx(2 * 2 / (5 + 4))
    assert card.metrics["f1"].unparsable == pytest.approx(1 / 3)
    assert card.confusion == {}


def test_card_and_predictions_are_read_back(store):
    card, predictions = scored()
    write_scores(store, LAYOUT, card, predictions, fingerprint="f")
    assert read_card(store, LAYOUT, "step-000500", "reviews") == card
    assert read_predictions(store, LAYOUT, "step-000500", "reviews") == predictions
    assert read_card(store, LAYOUT, "before", "reviews") is None
    assert read_predictions(store, LAYOUT, "before", "reviews") is None


def test_the_stored_statistics_give_the_score(store, tmp_path):
    card, predictions = scored()
    write_scores(store, LAYOUT, card, predictions, fingerprint="f")
    table = pq.read_table(tmp_path / "store/runs/run/scores/step-000500/reviews/predictions.parquet")
    assert {f.name: str(f.type) for f in table.schema} == {
        "id": "string", "template": "int32", "input": "string", "targets": "list<element: string>",
        "prediction": "string", "tokens": "int32", "score": "double", "stats": "list<element: double>",
    }  # fmt: skip
    stats = table.column("stats").to_pylist()
    metric = METRICS[card.primary_metric]
    assert metric.combine([sum(column) for column in zip(*stats, strict=True)]) == card.value
    assert [metric.combine(row) for row in stats] == table.column("score").to_pylist()


def test_unusual_texts_survive(store):
    texts = ["", "\n\t", "𝔘nïcode ✓", "a\x00b", '{"x": "</script>"}', "\ufdd0", "é" * 5000, "x", "y", "z"]
    task = TASK.model_copy(update={"type": "text"})
    card, predictions = scored(task=task, generations=[Generation(text, 3, False) for text in texts])
    write_scores(store, LAYOUT, card, predictions, fingerprint="f")
    assert [p.prediction for p in read_predictions(store, LAYOUT, "step-000500", "reviews")] == texts


def test_damage_is_detected(store):
    card, predictions = scored()
    manifest = write_scores(store, LAYOUT, card, predictions, fingerprint="f")
    for name, read in (("scores.json", read_card), ("predictions.parquet", read_predictions)):
        intact = store.get(manifest.key(name))
        store.put(manifest.key(name), intact[:-1])
        with pytest.raises(CorruptError, match=name):
            read(store, LAYOUT, "step-000500", "reviews")
        store.put(manifest.key(name), intact)


def test_primary_scores_of_checkpoints(store):
    rating, rating_rows = scored()
    mae, mae_rows = scored(task=TASK.model_copy(update={"name": "stars", "metrics": ["mae"]}))
    for stage, card, rows in (
        ("step-000500", rating, rating_rows),
        ("step-000500", mae, mae_rows),
        ("before", rating, rating_rows),
    ):
        write_scores(store, LAYOUT, type(card)(**{**_fields(card), "stage": stage}), rows, fingerprint="f")
    assert read_primary_scores(store, LAYOUT) == {500: {"reviews": rating.value, "stars": -mae.value}}
    store.put("runs/run/scores/step-000500/reviews/scores.json", b"{}")
    told = []
    assert read_primary_scores(store, LAYOUT, told.append) == {500: {"stars": -mae.value}}
    [message] = told
    assert "scores/step-000500/reviews/scores.json: not the bytes that were committed" in message


def _fields(card):
    return {name: getattr(card, name) for name in card.__dataclass_fields__}
