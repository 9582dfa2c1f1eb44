import dataclasses
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from raytrain.config import FineTuneJob
from raytrain.config.run_layout import RunLayout
from raytrain.runs.record import RunRecord, read_record, write_record
from raytrain_core.errors import StorageError
from raytrain_core.storage import open_store


def job(**training: object) -> FineTuneJob:
    return FineTuneJob.model_validate(
        {
            "apiVersion": "raytrain.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": "tickets", "annotations": {"team": "support"}},
            "spec": {
                "model": "./model",
                "tasks": [
                    {"name": "notes", "type": "text", "source": {"uri": "a: b.csv"}, "templates": ["Sum #1:\n{input} "]}
                ],
                "training": {"steps": 3, **training},
            },
        }
    )


def test_a_record_reads_back_as_it_was_written(tmp_path: Path) -> None:
    store, layout = open_store(str(tmp_path)), RunLayout("tickets")
    record = RunRecord(job(gradientClip=None), tmp_path / "with space", shard_set="ab" * 32, model_digest="cd" * 32)
    write_record(store, layout, record)
    read = read_record(store, layout)
    assert read is not None
    assert dataclasses.replace(read, recorded_identity=None) == record
    assert read.job.spec.training.gradient_clip is None
    assert read.identity == record.identity


def test_a_prepared_run_keeps_the_identity_that_it_started_with(tmp_path: Path) -> None:
    """Another version, with a field more, computes another digest of the same job."""
    store, layout = open_store(str(tmp_path)), RunLayout("tickets")
    for shard_set, kept in (("ab" * 32, True), (None, False)):  # before that a mistake may be corrected
        record = RunRecord(job(), tmp_path, shard_set=shard_set, recorded_identity="ef" * 32)
        write_record(store, layout, record)
        read = read_record(store, layout)
        assert read is not None
        assert (read.identity == "ef" * 32) == kept


def test_steps_that_were_found_are_kept_beside_the_job(tmp_path: Path) -> None:
    store, layout = open_store(str(tmp_path)), RunLayout("tickets")
    record = RunRecord(job(steps=None, epochs=2.5), tmp_path)
    with pytest.raises(ValueError, match="once the data is prepared"):
        _ = record.job.spec.training.last_step
    settled = dataclasses.replace(record, steps=40)
    assert settled.job.spec.training.last_step == 40
    assert settled.identity == record.identity
    write_record(store, layout, settled)
    assert read_record(store, layout) == settled
    assert settled.written.spec.training.steps is None


@pytest.mark.parametrize("lengths", [{"steps": None}, {"steps": 3, "epochs": 1.0}, {"steps": 3, "tokens": 9}])
def test_training_has_one_length(lengths: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="one of steps, epochs and tokens"):
        job(**lengths)


def test_no_record_is_none(tmp_path: Path) -> None:
    assert read_record(open_store(str(tmp_path)), RunLayout("tickets")) is None


@pytest.mark.parametrize("text", ["a: [", "kind: FineTuneJob", "apiVersion: raytrain.dev/v9\nkind: FineTuneJob"])
def test_a_record_of_another_version_is_one_sentence(tmp_path: Path, text: str) -> None:
    store, layout = open_store(str(tmp_path)), RunLayout("tickets")
    store.put(layout.job, text.encode())
    with pytest.raises(StorageError, match=r"job\.yaml: not a job file that this version can read"):
        read_record(store, layout)
