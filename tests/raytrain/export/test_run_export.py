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
        ("somewhere", {"quantization": "int8"}, "has no effect with --format transformers"),
        ("somewhere", {"form": "onnx"}, "there is no ONNX export"),
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
