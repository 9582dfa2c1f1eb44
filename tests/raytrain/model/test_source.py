"""A model's URI resolves to a local folder, or to an error that says what is wrong."""

import json
import shutil

import pytest

from raytrain.config.run_layout import RunLayout
from raytrain.model.source import check_folder, digest, resolve
from raytrain_core.errors import TrainingError, UsageError
from raytrain_core.storage import StorageLocation, open_store
from raytrain_core.storage.commit import commit
from tests.support.tiny_t5 import save_tiny


@pytest.fixture
def model(tmp_path):
    return save_tiny(tmp_path / "models" / "base")


def test_a_folder_is_found_from_the_job(model, tmp_path):
    for uri in ("models/base", "./models/base", str(model), f"file://{model}"):
        assert resolve(uri, store=None, base_folder=tmp_path, cache=tmp_path / "cache") == model


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(TrainingError, match=r"model ./nowhere: there is no folder .*nowhere"):
        resolve("./nowhere", store=None, base_folder=tmp_path, cache=tmp_path)


def test_a_file_instead_of_a_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="is a file"):
        resolve("file", store=None, base_folder=tmp_path, cache=tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "no config.json"),
        ("config.json", "{", "cannot read"),
        ("config.json", "[]", "is not a JSON object"),
        ("config.json", json.dumps({"model_type": "bart"}), "'bart', which has BART's layers"),
        ("model.safetensors", None, "no model.safetensors"),
        ("tokenizer.json", None, "no tokenizer.json"),
    ],
)
def test_what_is_missing_is_named(model, tmp_path, name, content, message):
    (model / name).unlink()
    if content is not None:
        (model / name).write_text(content)
    with pytest.raises(TrainingError, match=message):
        resolve("models/base", store=None, base_folder=tmp_path, cache=tmp_path)


def test_a_pickle_is_not_read(model, tmp_path):
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(TrainingError, match=r"pytorch_model.bin is a pickle"):
        resolve("models/base", store=None, base_folder=tmp_path, cache=tmp_path)


def test_the_model_of_an_earlier_run(model, tmp_path):
    store = open_store(str(tmp_path / "storage"))
    files = {path.name: path for path in model.iterdir()}
    commit(store, RunLayout("first").model, files, {"kind": "model"}, guard=None)
    found = resolve("run://first", store=store, base_folder=tmp_path, cache=tmp_path / "cache")
    assert digest(found) == digest(model)
    assert resolve("run://first", store=store, base_folder=tmp_path, cache=tmp_path / "cache") == found


def test_a_run_without_a_model(tmp_path):
    store = open_store(str(tmp_path / "storage"))
    with pytest.raises(TrainingError, match="no finished model of a run named first"):
        resolve("run://first", store=store, base_folder=tmp_path, cache=tmp_path)
    with pytest.raises(UsageError, match="storage of that run is not known"):
        resolve("run://first", store=None, base_folder=tmp_path, cache=tmp_path)


def test_the_hub_out_of_reach(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TrainingError, match="google/flan-t5-nothing: the hub cannot be reached"):
        resolve("google/flan-t5-nothing", store=None, base_folder=tmp_path, cache=tmp_path)


def test_the_digest_names_the_weights(model, tmp_path):
    before = digest(model)
    assert before == digest(save_tiny(tmp_path / "again"))
    assert before != digest(save_tiny(tmp_path / "other", seed=5))


@pytest.mark.s3
def test_a_folder_in_a_bucket(model, tmp_path, s3_uri):
    store = open_store(f"{s3_uri}/models/base")
    for path in model.iterdir():
        store.upload(path.name, path)
    found = resolve(f"{s3_uri}/models/base", store=None, base_folder=tmp_path, cache=tmp_path / "cache")
    assert digest(found) == digest(model)
    with pytest.raises(TrainingError, match=r"no config.json under it"):
        resolve(f"{s3_uri}/models/nothing", store=None, base_folder=tmp_path, cache=tmp_path / "cache")


@pytest.mark.s3
def test_a_model_in_a_bucket_is_read_at_the_endpoint_of_the_storage(model, tmp_path, s3, s3_uri, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL")  # only the job knows where the bucket is
    store = open_store(StorageLocation(uri=f"{s3_uri}/storage", endpoint=s3.endpoint, region=s3.region))
    bucket = open_store(StorageLocation(uri=f"{s3_uri}/models/base", endpoint=s3.endpoint))
    for path in model.iterdir():
        bucket.upload(path.name, path)
    found = resolve(f"{s3_uri}/models/base", store=store, base_folder=tmp_path, cache=tmp_path / "cache")
    assert digest(found) == digest(model)


ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "google/flan-t5-small"}


def test_an_adapter_alone_is_named_with_its_base(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps(ADAPTER))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"only an adapter of google/flan-t5-small, not a full model") as error:
        check_folder(tmp_path, "mine")
    assert "merge_and_unload" in error.value.hint


@pytest.mark.parametrize("content", [json.dumps(ADAPTER), "{}", "no JSON", "[1]"])
def test_an_adapter_next_to_full_weights_is_refused_before_anything_is_trained(model, content):
    check_folder(model, "mine")
    (model / "adapter_config.json").write_text(content)
    with pytest.raises(TrainingError, match="holds a full model and an adapter"):
        check_folder(model, "mine")


def test_quantized_weights_are_refused_before_anything_is_prepared(model):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"quantization_config": {"load_in_8bit": True}}))
    with pytest.raises(TrainingError, match="its weights are quantized"):
        check_folder(model, "base")


def test_a_shard_that_the_index_names_must_be_there(model):
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    files = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    with pytest.raises(TrainingError, match=r"names model-00002-of-00002\.safetensors, which is not in"):
        check_folder(model, "mine")
    shutil.copyfile(model / "model-00001-of-00002.safetensors", model / "model-00002-of-00002.safetensors")
    check_folder(model, "mine")
    (model / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(TrainingError, match="is not an index of weights"):
        check_folder(model, "mine")
