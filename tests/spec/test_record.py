from pathlib import Path

import pytest

from data_prep.errors import StorageError
from data_prep.storage import open_store
from raytrain.spec import FineTuneJob
from raytrain.spec.layout import RunLayout
from raytrain.spec.record import RunRecord, read_record, write_record


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
    assert read == record
    assert read is not None and read.job.spec.training.gradient_clip is None  # null is not the default here
    assert read.identity == record.identity


def test_no_record_is_none(tmp_path: Path) -> None:
    assert read_record(open_store(str(tmp_path)), RunLayout("tickets")) is None


@pytest.mark.parametrize("text", ["a: [", "kind: FineTuneJob", "apiVersion: raytrain.dev/v9\nkind: FineTuneJob"])
def test_a_record_of_another_version_is_one_sentence(tmp_path: Path, text: str) -> None:
    store, layout = open_store(str(tmp_path)), RunLayout("tickets")
    store.put(layout.document, text.encode())
    with pytest.raises(StorageError, match=r"job\.yaml: not a document that this version reads"):
        read_record(store, layout)
