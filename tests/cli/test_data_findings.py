"""`raytrain check` foretells what preparation does, and `raytrain data check` says what it did."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_job import write_job

from data_prep.document.models import SPLITS
from data_prep.prepare import Limits, prepare
from data_prep.shards import ShardSet
from data_prep.storage import open_store
from data_prep.tokenizer import Tokenizer
from raytrain import preview
from raytrain.check import check
from raytrain.cli import main
from raytrain.spec.layout import RunLayout
from raytrain.spec.load import load_job
from raytrain.spec.record import RunRecord, write_record


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShardSet:
    """A tiny document whose data is prepared; one row of a task is repeated."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAYTRAIN_STORAGE", raising=False)
    document = write_job(tmp_path)
    echo = Path("echo.jsonl").read_text().splitlines()
    Path("echo.jsonl").write_text("\n".join([*echo, echo[0]]) + "\n")
    loaded = load_job(document)
    training, store = loaded.job.spec.training, open_store("raytrain-storage")
    shards = prepare(
        loaded.job.spec.tasks,
        loaded.job.spec.mixture,
        store=store,
        tokenizer=Tokenizer.from_folder(tmp_path / "model"),
        limits=Limits(training.max_input_tokens, training.max_target_tokens),
        base_folder=loaded.base_folder,
    )
    record = RunRecord(loaded.job, loaded.base_folder, shard_set=shards.digest)
    write_record(store, RunLayout("tiny"), record)
    return shards


def test_check_foretells_preparation(prepared: ShardSet) -> None:
    (document,) = Path().glob("*.yaml")
    loaded = load_job(document)
    found = check(loaded.job, base_folder=loaded.base_folder)
    for task in found.tasks:
        splits = prepared.task(task.name).splits
        assert task.rows == {s: splits[s].examples for s in SPLITS if s in splits}, task.name
    assert {t.name: t.share for t in found.tasks if t.share is not None} == dict(prepared.rates)
    assert found.lengths_basis == "measured with the model's tokenizer"
    for task in found.tasks:
        first = next(iter(prepared.task(task.name).splits.values())).statistics
        assert task.target_tokens == pytest.approx(first["target_tokens"]["mean"], rel=0.2)
        if first["truncated_sources"] == 0:
            assert task.input_tokens == pytest.approx(first["source_tokens"]["mean"], rel=0.2)
        else:
            assert task.cut is not None and task.input_tokens is not None
            assert task.cut > 0
            assert task.input_tokens <= 48


def test_data_show_has_the_first_wording_of_preparation(prepared: ShardSet) -> None:
    from data_prep.shards import read_rows
    from data_prep.storage.cache import Cache

    (document,) = Path().glob("*.yaml")
    loaded, store = load_job(document), open_store("raytrain-storage")
    cache = Cache(Path("cache"), 1 << 30)
    stored = {row.input for split in SPLITS for row in read_rows(prepared, "echo", split, store, cache, None)}
    (echo,) = preview.show(loaded.job, base_folder=loaded.base_folder, task="echo", rows=20)
    assert {row.prompt for row in echo.rows} <= stored


def test_data_check(prepared: ShardSet, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "tiny"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"tiny: shard set {prepared.digest[:12]}"
    assert lines[2].split()[:3] == ["task", "split", "rows"]
    assert lines[3].split()[:2] == ["echo", "train"]
    assert "mixture: echo 50.0%, stars 50.0%" in lines
    assert main(["data", "check", "tiny", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {(s["task"], s["split"]): (s["rows"], s["wordings"]) for s in found["splits"]}
    assert rows == {
        (task.name, split): (part.examples, part.wordings)
        for task in prepared.tasks
        for split, part in task.splits.items()
    }
    assert sum(s["duplicates"] for s in found["splits"] if s["task"] == "echo") == 1


@pytest.mark.s3
def test_data_show_reads_sources_at_the_endpoint_of_the_storage(
    tmp_path: Path, s3: Any, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")  # only the document knows where the bucket is
    document = write_job(tmp_path)
    open_store(f"s3://{s3_bucket}", endpoint=s3.endpoint).upload("rows/echo.jsonl", tmp_path / "echo.jsonl")
    storage = f"  storage: {{uri: 's3://{s3_bucket}/work', endpoint: '{s3.endpoint}'}}\n  tasks:\n"
    text = document.read_text().replace("echo.jsonl", f"'s3://{s3_bucket}/rows'").replace("  tasks:\n", storage)
    document.write_text(text)
    loaded = load_job(document)
    (echo,) = preview.show(loaded.job, base_folder=loaded.base_folder, task="echo", rows=2)
    assert [row.where for row in echo.rows] == [f"s3://{s3_bucket}/rows/echo.jsonl:{n}" for n in (1, 2)]
    (found, *_) = check(loaded.job, base_folder=loaded.base_folder).tasks
    assert found.note == "unknown: 1 objects in a bucket are read when the run prepares"
