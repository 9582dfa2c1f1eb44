"""The model card: valid for the hub's reader, no number without its interval, no data."""

import re

import pytest
from huggingface_hub import ModelCard

from raytrain.export import card
from raytrain.export.card import base_model, model_card, with_interval
from raytrain.report.model import Interval, Metric


@pytest.fixture
def text(finished):
    return model_card(finished.store, finished.layout, "transformers", ["Converted."])


def test_the_hubs_reader_takes_it(text, tmp_path):
    (tmp_path / "README.md").write_text(text)
    read = ModelCard.load(tmp_path / "README.md", ignore_metadata_errors=False)
    assert read.data.library_name == "transformers"
    assert read.data.model_name == "taken-out"
    assert read.data.eval_results
    for result in read.data.eval_results:
        low, high = result.metric_args["interval"]
        assert low <= result.metric_value <= high
        assert f"95 % interval {low:g} to {high:g}" in result.metric_name
        assert result.dataset_split == "test"
    assert {result.dataset_name for result in read.data.eval_results} >= {"echo", "first (probe, not trained)"}


def test_every_score_in_its_tables_has_an_interval(text):
    tables = [text.split(f"## {head}")[1].split("\n## ")[0] for head in ("What training", "What was kept")]
    rows = [line for table in tables for line in table.splitlines() if line.startswith("| ")][0:]
    cells = [cell.strip() for row in rows for cell in row.split("|")[4:7]]
    scores = [cell for cell in cells if re.match(r"[−+±]?\d", cell)]
    assert len(scores) >= 9
    assert all(re.fullmatch(r"[−+±]?[\d.]+ \\\[[−+±]?[\d.]+, [−+±]?[\d.]+\]", score) for score in scores)


def test_without_an_interval_no_number():
    metric = Metric(name="x", label="X", better="higher", scale="percent")
    assert with_interval(Interval(value=0.5), metric) == "no interval known"
    assert with_interval(None, metric) == "not scored"


def test_it_says_nothing_about_the_owners_places_and_rows(text, finished):
    for place in (str(finished.world.folder), "echo.jsonl", "stars.csv", str(finished.store.uri)):
        assert place not in text
    for answer in ("not stated", "own files", "learningRate: 0.003", "Energy was not measured"):
        assert answer in text


def test_damaged_parts_are_counted_without_their_places(finished, monkeypatch):
    data = card.gather(finished.store, finished.layout)
    damaged = f"{finished.store.uri}/runs/taken-out/scores/before/echo/scores.json: damaged; it is left out."
    warnings = [*data.summary.warnings, damaged, "Not scored after training: x."]
    data = data.model_copy(
        update={"missing": warnings[-2:], "summary": data.summary.model_copy(update={"warnings": warnings})}
    )
    monkeypatch.setattr(card, "gather", lambda store, layout: data)
    text = card.model_card(finished.store, finished.layout, "transformers")
    assert str(finished.store.uri) not in text
    assert "scores.json" not in text  # in whatever way it is escaped
    assert "Parts of the run that could not be read for this card: 1." in text
    assert "Not scored after training: x." in text


@pytest.mark.parametrize(
    ("model", "known", "expected"),
    [
        ("google/flan-t5-base@main", "c" * 40, ("google/flan-t5-base", "c" * 40)),
        ("hf://google/flan-t5-base@v1", None, ("google/flan-t5-base", "v1")),
        ("./model", None, (None, None)),
        ("s3://bucket/model", None, (None, None)),
        ("run://samsum", None, (None, None)),
    ],
)
def test_the_base_model_is_named_if_it_is_a_hubs(finished, model, known, expected):
    spec = finished.world.job.spec.model_copy(update={"model": model})
    assert base_model(finished.world.job.model_copy(update={"spec": spec}), known) == expected
