"""What `raytrain submit` uploads, and the job that it submits."""

import json

import pytest

from data_prep.prepare import PrepLimits, prepare
from data_prep.text.tokenizer_folder import read_tokenizer
from raytrain.cluster.upload import upload_sources
from raytrain_core.errors import DataError, UsageError
from raytrain_core.storage import open_store
from tests.support.job_mapping import job_from
from tests.support.tiny_t5 import tiny_tokenizer

ROWS = "".join(json.dumps({"input": f"say number {i}", "target": f"number {i}"}) + "\n" for i in range(40))


def _job(**source):
    return job_from(
        {
            "apiVersion": "raytrain.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": "sent"},
            "spec": {
                "model": "google/flan-t5-small",
                "tasks": [{"name": "say", "type": "text", "source": source}],
                "training": {"steps": 1},
            },
        }
    )


@pytest.fixture
def here(tmp_path):
    folder = tmp_path / "here"
    (folder / "data").mkdir(parents=True)
    (folder / "data/train.jsonl").write_text(ROWS)
    (folder / "data/dev.jsonl").write_text(ROWS.replace("number", "figure"))
    (folder / "alone.jsonl").write_text(ROWS)
    return folder


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "bucket"))


def _send(job, here, store):
    said: list[str] = []
    return upload_sources(job, here, store, said.append), said


def test_a_folder_is_uploaded_once(here, store):
    sent, said = _send(_job(uri="data"), here, store)
    uri = sent.spec.tasks[0].source.uri
    assert uri.startswith(f"{store.uri}/uploads/")
    keys = sorted(stat.key.rsplit("/", 1)[1] for stat in store.list("uploads/"))
    assert keys == ["00000-validation-dev.jsonl", "00001-train-train.jsonl", "manifest.json"]
    assert len(said) == 1
    assert "2 files" in said[0]
    again, said = _send(_job(uri="data"), here, store)
    assert (again, said) == (sent, [])
    (here / "data/dev.jsonl").write_text(ROWS.replace("number", "amount"))
    changed, said = _send(_job(uri="data"), here, store)
    assert changed.spec.tasks[0].source.uri != uri
    assert said


def test_a_file_to_be_split_stays_a_single_file(here, store):
    sent, _ = _send(_job(uri="alone.jsonl"), here, store)
    assert sent.spec.tasks[0].source.uri.endswith("/files/alone.jsonl")


def test_splits_keep_their_names(here, store):
    sent, _ = _send(_job(splits={"train": "data/train.jsonl", "test": "s3://elsewhere/test.jsonl"}), here, store)
    splits = sent.spec.tasks[0].source.splits
    assert splits["train"].startswith(f"{store.uri}/uploads/")
    assert splits["test"] == "s3://elsewhere/test.jsonl"


@pytest.mark.parametrize("source", [{"uri": "data"}, {"uri": "alone.jsonl"}, {"splits": {"train": "data/train.jsonl"}}])
def test_preparation_of_uploaded_files_yields_the_same_shards(here, store, tmp_path, source):
    tokenizer = read_tokenizer(tiny_tokenizer(tmp_path / "tokenizer"))
    job = _job(**source)
    sent, _ = _send(job, here, store)
    digests = {
        prepare(
            each.spec.tasks,
            each.spec.mixture,
            store=open_store(str(tmp_path / f"shards-{i}")),
            tokenizer=tokenizer,
            limits=PrepLimits(64, 32),
            base_folder=here,
        ).digest
        for i, each in enumerate((job, sent))
    }
    assert len(digests) == 1


def test_a_local_model_is_uploaded_without_pickles(here, store):
    model = here / "model"
    model.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "optimizer.pt"):
        (model / name).write_text(name)
    job = _job(uri="data")
    job = job.model_copy(update={"spec": job.spec.model_copy(update={"model": "./model"})})
    sent, _ = _send(job, here, store)
    folder = sent.spec.model.removeprefix(f"{store.uri}/")
    names = sorted(stat.key.rsplit("/", 1)[1] for stat in store.list(f"{folder}/"))
    assert names == ["config.json", "model.safetensors", "tokenizer.json"]


def test_missing_files_are_reported(here, store):
    with pytest.raises(DataError, match="nowhere"):
        _send(_job(uri="nowhere.jsonl"), here, store)
    job = _job(uri="data")
    with pytest.raises(UsageError, match=r"\./missing"):
        _send(job.model_copy(update={"spec": job.spec.model_copy(update={"model": "./missing"})}), here, store)
