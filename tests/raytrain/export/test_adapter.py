"""A LoRA run as a PEFT adapter: peft makes the run's model of it and of the base model."""

import json
from dataclasses import replace
from hashlib import sha256

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from raytrain.config.run_layout import RunLayout
from raytrain.export.adapter import Tables, changed_rows
from raytrain.export.run_export import export_run
from raytrain.generation.requests import ModelRef
from raytrain.model import vocabulary
from raytrain.model.loading import load
from raytrain.model.source import digest
from raytrain.runs.record import RunRecord, write_record
from raytrain.training.checkpoint_writer import CheckpointOrigin, write_checkpoint
from raytrain.training.optim import weights
from raytrain.training.trainer import Trainer
from raytrain_core.errors import DataError, TrainingError, UsageError
from raytrain_core.storage.commit import read_manifest
from tests.support.prepared_run import make_world
from tests.support.tiny_loader import TASKS, tiny_loader, train
from tests.support.tiny_t5 import logits, save_tiny

peft = pytest.importorskip("peft")
LORA = {"method": "lora", "lora": {"rank": 4, "targets": ["q", "v", "wo"]}, "steps": 4, "optimizer": "adafactor"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("lora"))


@pytest.fixture
def lora_run(prepared, tmp_path, monkeypatch, request):
    """Returns a function that trains adapters on a small model and commits what a run does."""
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path / "cache"))

    def make(*, tied=False, rows=192, model="./base", revision=None, **changes):
        base = save_tiny(tmp_path / "base", tied=tied, vocabulary=rows)
        training = prepared.job.spec.training
        training = type(training).model_validate({**training.model_dump(exclude_none=True), **LORA, **changes})
        spec = prepared.job.spec.model_copy(update={"training": training, "model": model})
        layout = RunLayout(f"run-{sha256(request.node.nodeid.encode()).hexdigest()[:12]}")
        world = replace(prepared, job=prepared.job.model_copy(update={"spec": spec}), layout=layout)
        world = replace(world, base=ModelRef("base", str(base), digest(base)))
        record = RunRecord(world.job, tmp_path, world.shard_set.digest, world.base.digest, None, revision)
        write_record(world.store, world.layout, record)
        new = vocabulary.new_rows(base)
        trainer = Trainer(load(base, tokenizer_size=world.tokenizer.size), training, TASKS, new_rows=new)
        _, snapshots, _ = train(tiny_loader(), trainer)
        origin = CheckpointOrigin(1, {"kind": "checkpoint"}, {})
        ref = write_checkpoint(world.store, world.layout, origin, snapshots[-1])
        weights_digest = read_manifest(world.store, ref.prefix).file("model.safetensors").sha256
        world.export(ModelRef("checkpoint", ref.prefix, weights_digest, ref.step))
        return world

    return make


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("changes", [{}, {"ema": 0.8, "interpolation": 0.5, "freeze": ["decoder"]}])
def test_peft_gives_the_runs_logits_added_tokens_too(lora_run, tmp_path, tied, changes):
    world = lora_run(tied=tied, **changes)
    export_run(world.store, world.layout, to=str(tmp_path / "merged"))
    export_run(world.store, world.layout, to=str(tmp_path / "out"), form="adapter")

    base = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "base").eval()
    before = logits(base)
    adapted = peft.PeftModel.from_pretrained(base, tmp_path / "out").eval()
    merged = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "merged").eval()
    assert (logits(merged) - before).abs().max() > 1e-3
    assert torch.allclose(logits(adapted), logits(merged), atol=1e-5)
    new = torch.arange(96, world.tokenizer.size)[None]
    with torch.no_grad():
        found, wanted = (one(input_ids=new, labels=new).logits for one in (adapted, merged))
        assert torch.allclose(found, wanted, atol=1e-5)
        again = adapted.merge_and_unload()(input_ids=new, labels=new).logits
    assert torch.allclose(again, wanted, atol=1e-5)
    ids = AutoTokenizer.from_pretrained(tmp_path / "out")("say a\nb").input_ids
    assert ids == world.tokenizer.encode_batch(["say a\nb"], 48)[0].tolist()

    report = json.loads((tmp_path / "out" / "conversion-report.json").read_text())
    assert report["largest_difference"] < 1e-4
    assert report["token_rows"] == world.tokenizer.size - 96
    card = (tmp_path / "out" / "README.md").read_text()
    assert "library_name: peft" in card
    assert f"Rows of {report['token_rows']} added tokens" in card


def test_a_base_model_of_the_hub_is_named_with_its_revision(lora_run, tmp_path, hub):
    files = {path.name: path.read_bytes() for path in save_tiny(tmp_path / "base", vocabulary=192).iterdir()}
    commit = hub.add("org/tiny", files)
    world = lora_run(model="org/tiny@main", revision=commit)
    hub.repositories["org/tiny"].commit({})  # the branch has moved
    export_run(world.store, world.layout, to=str(tmp_path / "out"), form="adapter")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/tiny", commit)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base_model: org/tiny\n" in card
    assert "base_model_relation: adapter\n" in card


def test_a_folder_of_this_machine_is_not_named(lora_run, tmp_path):
    world = lora_run()
    export_run(world.store, world.layout, to=str(tmp_path / "out"), form="adapter")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (None, None)
    texts = [path.read_text() for path in (tmp_path / "out").iterdir() if path.suffix in (".json", ".md")]
    assert str(tmp_path) not in "".join(texts)


def test_a_run_without_adapters(finished):
    with pytest.raises(UsageError, match="trained weights, not adapters"):
        export_run(finished.store, finished.layout, to=str(finished.out), form="adapter")


def test_a_base_model_that_has_too_few_rows_or_is_another_now(lora_run, tmp_path):
    world = lora_run(rows=96)
    with pytest.raises(TrainingError, match="PEFT cannot add rows") as refused:
        export_run(world.store, world.layout, to=str(tmp_path / "out"), form="adapter")
    assert "--format transformers" in refused.value.hint
    save_tiny(tmp_path / "base", seed=5)
    with pytest.raises(DataError, match="have changed since the run started"):
        export_run(world.store, world.layout, to=str(tmp_path / "out"), form="adapter")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_is_gone(lora_run, tmp_path):
    world = lora_run()
    world.store.delete([stat.key for stat in world.store.list(world.layout.checkpoints)])
    with pytest.raises(DataError, match="the checkpoint that became its model is gone"):
        export_run(world.store, world.layout, to=str(tmp_path / "out"), form="adapter")


def test_an_adapter_of_which_peft_makes_another_model_is_refused(lora_run, tmp_path, monkeypatch):
    world = lora_run()
    merged_factors = weights.merged_factors

    def doubled(state):
        return {name: 2 * factor for name, factor in merged_factors(state).items()}

    monkeypatch.setattr(weights, "merged_factors", doubled)
    with pytest.raises(TrainingError, match="does not make the run's model"):
        export_run(world.store, world.layout, to=str(tmp_path / "out"), form="adapter")


def test_changed_rows_of_any_table():
    base = Tables(torch.zeros(5, 2), torch.zeros(5, 2))
    tuned = Tables(torch.zeros(5, 2), torch.zeros(5, 2))
    assert changed_rows(base, tuned) == []
    tuned.embedding[1, 1] = 1
    assert tuned.head is not None
    tuned.head[4, 0] = 1
    assert changed_rows(base, tuned) == [1, 4]
