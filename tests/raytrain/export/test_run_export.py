"""Taking a model out to a folder: verified, resumed, and never over something else."""

import hashlib
import json

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

from raytrain.config.run_layout import RunLayout
from raytrain.export.bundle import LISTING
from raytrain.export.run_export import export_run
from raytrain.runs.record import RunRecord, write_record
from raytrain_core.errors import DataError, StorageError, UsageError
from raytrain_core.storage import LocalStore, open_store


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_folder_that_plain_transformers_reads(finished):
    placed = export_run(finished.store, finished.layout, to=str(finished.out))
    model = AutoModelForSeq2SeqLM.from_pretrained(finished.out)
    tokenizer = AutoTokenizer.from_pretrained(finished.out)
    inputs = tokenizer("say abc", return_tensors="pt")
    assert inputs.input_ids[0].tolist() == finished.world.tokenizer.encode_batch(["say abc"], 48)[0].tolist()
    with torch.inference_mode():
        assert model.generate(**inputs, max_new_tokens=4).shape[0] == 1
    assert GenerationConfig.from_pretrained(finished.out).num_beams == 1
    listing = json.loads((finished.out / LISTING).read_text())
    assert listing["run"] == finished.layout.name
    found = {name: hashlib.sha256(data).hexdigest() for name, data in contents(finished.out).items() if name != LISTING}
    assert {one["name"]: one["sha256"] for one in listing["files"]} == found
    assert set(placed.written) == set(found)


def test_the_same_command_again_verifies(finished):
    first = export_run(finished.store, finished.layout, to=str(finished.out))
    again = export_run(finished.store, finished.layout, to=str(finished.out))
    assert again.written == ()
    assert set(again.kept) == set(first.written)


def test_an_interrupted_export_is_continued(finished, monkeypatch):
    upload, done = LocalStore.upload, []

    def dying(self, key, path, **options):
        if len(done) == 2:
            raise StorageError("the disk is full")
        done.append(key)
        return upload(self, key, path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "upload", dying)
        with pytest.raises(StorageError, match="disk is full"):
            export_run(finished.store, finished.layout, to=str(finished.out))
    assert not (finished.out / LISTING).exists()
    placed = export_run(finished.store, finished.layout, to=str(finished.out))
    assert set(placed.kept) == set(done)
    assert (finished.out / LISTING).is_file()


def test_other_content_is_replaced_only_by_force(finished):
    export_run(finished.store, finished.layout, to=str(finished.out))
    (finished.out / "README.md").write_text("my own words")
    with pytest.raises(UsageError, match=r"other content than the export: README\.md"):
        export_run(finished.store, finished.layout, to=str(finished.out))
    assert (finished.out / "README.md").read_text() == "my own words"
    placed = export_run(finished.store, finished.layout, to=str(finished.out), force=True)
    assert placed.written == ("README.md",)


def test_a_damaged_file_is_found(finished):
    export_run(finished.store, finished.layout, to=str(finished.out))
    weights = finished.out / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UsageError, match=r"model\.safetensors"):
        export_run(finished.store, finished.layout, to=str(finished.out))


def test_files_of_an_earlier_export_do_not_stay(finished):
    export_run(finished.store, finished.layout, to=str(finished.out), form="ctranslate2")
    with pytest.raises(UsageError, match=r"files of an earlier export: conversion-report\.json, model\.bin"):
        export_run(finished.store, finished.layout, to=str(finished.out))
    placed = export_run(finished.store, finished.layout, to=str(finished.out), force=True)
    assert "model.bin" in placed.removed
    assert not (finished.out / "model.bin").exists()


@pytest.mark.parametrize("name", ["adapter_config.json", "pytorch_model.bin", "model-00002-of-00002.safetensors"])
def test_never_beside_another_model(finished, name):
    finished.out.mkdir()
    (finished.out / name).write_text("{}")
    with pytest.raises(UsageError, match="files of another model"):
        export_run(finished.store, finished.layout, to=str(finished.out), force=True)
    assert [path.name for path in finished.out.iterdir()] == [name]


def test_other_files_are_left_alone_and_counted(finished):
    finished.out.mkdir()
    (finished.out / "notes.txt").write_text("mine")
    assert export_run(finished.store, finished.layout, to=str(finished.out)).others == 1
    assert (finished.out / "notes.txt").read_text() == "mine"


def test_a_damaged_model_in_storage_is_not_exported(finished):
    path = finished.store.path(f"{finished.layout.model}/model.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    try:
        with pytest.raises(StorageError, match="sha256"):
            export_run(finished.store, finished.layout, to=str(finished.out))
    finally:
        path.write_bytes(data)
    assert not finished.out.exists()


def test_a_run_without_a_model(finished_world, tmp_path):
    world = finished_world
    write_record(world.store, RunLayout("fresh"), RunRecord(world.job, world.folder))
    with pytest.raises(DataError, match="has no tuned model yet"):
        export_run(world.store, RunLayout("fresh"), to=str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("to", "options", "message"),
    [
        ("hf://only-a-name", {}, "names no repository"),
        ("hf://org/name@a", {"revision": "b"}, "give one of them"),
        ("somewhere", {"tag": "v1"}, "are for a hub"),
        ("https://example.org/x", {}, "unsupported kind of storage"),
        ("", {}, "is empty"),
    ],
)
def test_places_that_are_none(finished, to, options, message):
    with pytest.raises(UsageError, match=message):
        export_run(finished.store, finished.layout, to=to, **options)


def test_not_into_the_storage_of_the_runs(finished):
    with pytest.raises(UsageError, match="inside of the storage"):
        export_run(finished.store, finished.layout, to=f"{finished.store.uri}/models")


@pytest.mark.s3
def test_a_bucket(finished, s3_uri):
    export_run(finished.store, finished.layout, to=f"{s3_uri}/model")
    bucket = open_store(f"{s3_uri}/model")
    assert {stat.key for stat in bucket.list("")} >= {"model.safetensors", "README.md", LISTING}
    bucket.delete(["README.md", LISTING])  # as if it had been interrupted
    placed = export_run(finished.store, finished.layout, to=f"{s3_uri}/model")
    assert placed.written == ("README.md",)
