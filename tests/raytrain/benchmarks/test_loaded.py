"""Rows that are drawn, where they come from, and what a score card says of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from raytrain.benchmarks import local_rows
from raytrain.benchmarks.loaded import LoadedBenchmark, draw
from raytrain.benchmarks.local_rows import configurations
from raytrain.evaluation.benchmark_rows import BenchmarkRows, longest_prompt
from raytrain.evaluation.metrics import find
from raytrain.evaluation.results import Stage
from raytrain.generation.generator import Generator
from raytrain.generation.requests import ModelRef
from raytrain_core.errors import DataError
from raytrain_core.storage import open_store
from tests.raytrain.benchmarks.conftest import PROMPT, arc_rows, boolq_rows, hellaswag_rows, write_rows

Load = Callable[..., LoadedBenchmark]


def test_a_draw_is_the_same_each_time_and_another_with_another_seed() -> None:
    sizes = {"a": 40, "b": 60}
    assert draw(sizes, 10, 17) == draw(sizes, 10, 17) != draw(sizes, 10, 18)
    assert sum(map(len, draw(sizes, 10, 17).values())) == 10
    assert draw(sizes, 1000, 17) == {"a": list(range(40)), "b": list(range(60))}


def test_a_group_reads_a_folder_for_each_task(tmp_path: Path, loaded: Load) -> None:
    for folder, seed in (("ARC-Easy", 1), ("ARC-Challenge", 2)):
        write_rows(tmp_path / "arc" / folder, {split: arc_rows(6, seed) for split in ("train", "validation", "test")})
    found = loaded("arc", tmp_path / "arc", examples=8)
    assert len(found.rows) == 8
    assert {row.task for row in found.rows} == {"arc_easy", "arc_challenge"}
    assert found.available == 12


def test_rows_of_a_bucket_are_downloaded(tmp_path: Path, loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_rows(tmp_path / "bucket", {split: arc_rows(5, 1) for split in ("train", "validation", "test")})
    opened = []
    monkeypatch.setattr(local_rows, "open_like", lambda store, uri: opened.append(uri) or open_store(str(folder)))
    found = loaded("arc_easy", "s3://bucket/rows")
    assert opened == ["s3://bucket/rows"]
    assert [row.target for row in found.rows] == [row.target for row in loaded("arc_easy", folder).rows]


def test_rows_of_another_format_are_refused(tmp_path: Path, loaded: Load) -> None:
    rows = write_rows(tmp_path / "rows", {split: arc_rows(4, 0) for split in ("train", "validation", "test")})
    with pytest.raises(DataError, match=r"the rows of the benchmark hellaswag cannot be loaded: .*'ctx_a'"):
        loaded("hellaswag", rows)
    with pytest.raises(DataError, match="has files of one data set, but arc has 2 tasks"):
        loaded("arc", rows)


def test_a_missing_split_is_named(tmp_path: Path, loaded: Load) -> None:
    rows = write_rows(tmp_path / "rows", {"train": hellaswag_rows(4, 0)})
    with pytest.raises(DataError, match="no column or split 'validation'"):
        loaded("hellaswag", rows)


def test_dev_and_validation_are_the_same_split(tmp_path: Path) -> None:
    write_rows(tmp_path, {"dev-00000-of-00001": [{}], "my_test": [{}], "notes": [{}]})
    assert set(configurations(tmp_path)[""]) == {"dev", "validation", "test"}


def test_a_score_card_states_rows_seed_shots_and_cuts(tmp_path: Path, loaded: Load, generator: Generator) -> None:
    found = loaded(
        "boolq", write_rows(tmp_path / "rows", {s: boolq_rows(9, 1) for s in ("train", "validation")}), seed=3
    )
    rows = BenchmarkRows(found)
    generations = generator.generate([row.request for row in found.rows])
    metrics = [metric for name in rows.task.metrics or () if (metric := find(name)) is not None]
    card, predictions = rows.score(metrics, generations, Stage("before", ModelRef("base", "m", "d"), "test"), 1.0)

    cut = sum(generation.prompt_cut for generation in generations)
    assert 0 < cut < 9
    assert card.protocol["cut_prompts"] == f"{cut} of 9 lost their beginning"
    assert card.protocol["rows"] == "9 of 9, drawn with seed 3"
    assert card.protocol["few_shot"] == "0"
    assert card.protocol["max_input_tokens"] == PROMPT
    assert card.primary_metric == "acc@lm-eval"
    assert card.value == pytest.approx(sum(row["acc"] for row in found.scores(generations)) / 9)
    assert [prediction.score for prediction in predictions] == [row["acc"] for row in found.scores(generations)]
    assert {prediction.prediction for prediction in predictions} <= {"yes", "no"}


def test_the_longest_prompt_is_what_the_model_states(tmp_path: Path, model_folder: Path) -> None:
    assert longest_prompt(model_folder) == 512  # of the tokenizer: the config states none
    (tmp_path / "config.json").write_text('{"n_positions": 256}')
    assert longest_prompt(tmp_path) == 256
    (tmp_path / "config.json").write_text("{}")
    assert longest_prompt(tmp_path) == 2048
