"""A LoRA run's adapter: plain peft on the named base gives the exported model's answers."""

import json
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForSeq2SeqLM

from raytrain.config.job import Lora
from raytrain.config.run_layout import RunLayout
from raytrain.export.run_export import export_run
from raytrain.generation.requests import ModelRef
from raytrain.model.loading import load
from raytrain.model.source import digest
from raytrain.model.vocabulary import new_rows
from raytrain.runs.record import RunRecord, write_record
from raytrain.training.optim.weights import Weights
from raytrain_core.errors import UsageError
from raytrain_core.storage.commit import commit
from tests.support.tiny_t5 import save_tiny


def trained(world, name, tmp_path, rows=192, **changes):
    """Commits a checkpoint of a LoRA training with random values, and its export, as a run."""
    training = world.job.spec.training.model_copy(update={"method": "lora", "lora": Lora(rank=4), **changes})
    base = save_tiny(tmp_path / "base", vocabulary=rows)
    spec = world.job.spec.model_copy(update={"training": training, "model": str(base)})
    job = world.job.model_copy(update={"spec": spec})
    world = replace(world, job=job, layout=RunLayout(name), base=ModelRef("base", str(base), digest(base)))
    write_record(world.store, world.layout, RunRecord(job, world.folder, world.shard_set.digest))
    model = load(base, tokenizer_size=world.tokenizer.size)
    weights = Weights(model, training, new_rows(base))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in weights.values.values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    weights.after_step(0.0)
    files = {"model.safetensors": weights.export_state(), "optimizer.safetensors": weights.state()}
    for file, state in files.items():
        save_file({key: value.contiguous().clone() for key, value in state.items()}, tmp_path / file)
    prefix = world.layout.checkpoint(4, 1)
    paths = {file: tmp_path / file for file in files}
    manifest = commit(world.store, prefix, paths, {"kind": "checkpoint", "step": 4})
    world.export(ModelRef("checkpoint", prefix, manifest.file("model.safetensors").sha256, 4))
    return world


@pytest.mark.parametrize("changes", [{}, {"interpolation": 0.5, "ema": 0.5}])
def test_plain_peft_gives_the_exported_models_logits(finished, tmp_path, changes):
    world = trained(finished.world, f"lora-{len(changes)}", tmp_path, **changes)
    export_run(world.store, world.layout, to=str(tmp_path / "adapter"), form="adapter")
    export_run(world.store, world.layout, to=str(tmp_path / "merged"))
    base = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "base").eval()
    one = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    two = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "merged").eval()
    ids = torch.randint(3, world.tokenizer.size, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = [model(input_ids=ids, decoder_input_ids=ids[:, :5]).logits for model in (one, two)]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-4, rtol=1e-4)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tmp_path / "base")
    assert config["peft_type"] == "LORA"
    assert "library_name: peft" in (tmp_path / "adapter" / "README.md").read_text()


def test_a_run_that_trained_all_weights_has_no_adapter(finished):
    with pytest.raises(UsageError, match="trained all weights"):
        export_run(finished.store, finished.layout, to=str(finished.out), form="adapter")


def test_tokens_beyond_the_rows_of_the_base_are_refused(finished, tmp_path):
    world = trained(finished.world, "lora-small", tmp_path, rows=96)
    with pytest.raises(UsageError, match="the base model has 96 embedding rows"):
        export_run(world.store, world.layout, to=str(tmp_path / "adapter"), form="adapter")
