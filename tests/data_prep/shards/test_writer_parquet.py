"""The text parts are plain Parquet: whatever reads that reads them."""

import json
from dataclasses import replace

import pytest

from data_prep.shards import task_sources
from tests.support.data_prep_bench import LIMITS, make_task, numbered

COLUMNS = ["id", "task", "split", "template", "input", "targets", "meta"]


@pytest.fixture
def files(bench, monkeypatch):
    """The train parts of the first variant."""
    monkeypatch.setattr(task_sources, "ROWS_OF_A_UNIT", 7)
    bench.write("rows/train.jsonl", [row | {"target": [row["target"], "another"]} for row in numbered(20)])
    bench.write("rows/validation.jsonl", numbered(3, 100))
    bench.write("rows/test.jsonl", numbered(3, 200))
    shard_set = bench.prepare(make_task(source={"uri": "rows"}), limits=replace(LIMITS, max_input_tokens=200))
    return [str(bench.store.path(pair.text.key)) for pair in shard_set.split("notes", "train").parts[0]]


def check(rows):
    assert [list(row) for row in rows] == [COLUMNS] * 20
    inputs = [row["input"] for row in numbered(20)]
    assert [json.loads(row["meta"])["input"] for row in rows] == inputs
    assert all(text[:8] in row["input"] for text, row in zip(inputs, rows, strict=True))  # long ones are cut
    assert [list(row["targets"]) for row in rows] == [[row["target"], "another"] for row in numbered(20)]
    assert {(row["task"], row["split"]) for row in rows} == {("notes", "train")}


def test_pandas(files):
    import pandas

    check(pandas.concat(map(pandas.read_parquet, files)).to_dict("records"))


def test_duckdb(files):
    import duckdb

    table = duckdb.sql(f"select * from read_parquet({files!r})").to_arrow_table()
    check(table.to_pylist())


def test_datasets(files, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    check(list(datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))))


@pytest.mark.ray
def test_ray_data(files):
    import ray

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        rows = ray.data.read_parquet(files).take_all()
    finally:
        ray.shutdown()
    check([{name: row[name] for name in COLUMNS} for row in rows])
