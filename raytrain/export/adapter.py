"""A LoRA run's adapter in PEFT's format, to be loaded on top of its base model.

The rows of tokens that preparation added are part of it (`trainable_token_indices`): they were
trained too. What is written is loaded again with plain peft, and its logits are compared with those
of the exported model, in which the adapter is merged.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytrain.config.job import Lora
from raytrain.config.locations import cache_folder
from raytrain.export.ctranslate2 import REPORT
from raytrain_core.errors import TrainingError, UsageError

if TYPE_CHECKING:
    from raytrain.export.exported_run import ExportedRun

_OPTIMIZER_FILE, _ADAPTER = "optimizer.safetensors", "default"
_BESIDE = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
_TOLERANCE = 1e-3
_PROMPTS = ("Is {this} a line?\n\tyes", "summarize: ann and bob meet", "a  b   c")


def write_adapter(run: ExportedRun, out: Path, folder: Path) -> list[str]:
    """Writes the adapter to `out`; returns sentences about it.

    Raises UsageError for a run that trained all weights or that extended its base's vocabulary
    beyond its rows, TrainingError if the checkpoint is gone or the adapter does not give the
    exported model's logits.
    """
    from raytrain.model import vocabulary
    from raytrain.model.source import resolve

    job = run.record.job
    if job.spec.training.method != "lora":
        raise UsageError(
            f"run {run.layout.name} trained all weights (training.method: full): it has no adapter",
            hint="export it with --format transformers",
        )
    cache = cache_folder() / "models"
    base = resolve(run.record.model_uri, store=run.store, base_folder=run.record.base_folder, cache=cache)
    new_rows = vocabulary.new_rows(base)
    model = _peft_model(run, base, list(new_rows))
    _copy_values(model, _values(run, folder), run.model / "model.safetensors", list(new_rows))
    model.save_pretrained(out, save_embedding_layers=False)
    _name_base(run, out / "adapter_config.json")
    for name in _BESIDE:
        if (run.model / name).is_file():
            shutil.copyfile(run.model / name, out / name)
    largest = _largest_difference(base, run.model, out)
    if largest > _TOLERANCE:
        raise TrainingError(f"the adapter on its base gives other logits than the merged model, by {largest:.2g}")
    report = {"format": 1, "prompts": len(_PROMPTS), "largest_logit_difference": largest}
    (out / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return [
        f"Loaded by peft on its base, the largest difference to the merged model's logits was {largest:.1g} on "
        f"{len(_PROMPTS)} prompts (an observation, not an estimate).",
        *([f"The adapter holds the rows of {len(new_rows)} tokens that were added."] if len(new_rows) else []),
    ]


def _peft_model(run: ExportedRun, base: Path, new_rows: list[int]) -> Any:
    from peft import LoraConfig, get_peft_model

    training = run.record.job.spec.training
    lora = training.lora or Lora()
    stacks = "|".join(stack for stack in ("encoder", "decoder") if stack not in training.freeze)
    model = _plain(base)
    rows = model.get_input_embeddings().num_embeddings
    if new_rows and new_rows[-1] >= rows:
        raise UsageError(
            f"the base model has {rows:,} embedding rows, fewer than the {new_rows[-1] + 1:,} trained tokens: "
            "no adapter can add them",
            hint="export the merged model with --format transformers",
        )
    untyped: Any = LoraConfig
    # Interpolation scales the merged difference, as the scale does.
    config = untyped(
        r=lora.rank,
        lora_alpha=lora.alpha * training.interpolation,
        target_modules=rf"({stacks})\..*\.({'|'.join(lora.targets)})",
        task_type="SEQ_2_SEQ_LM",
        trainable_token_indices=dict.fromkeys(_tables(model), new_rows) if new_rows else None,
    )
    return get_peft_model(model, config)


def _tables(model: Any) -> list[str]:
    """The modules that hold the embedding; an output layer of its own is another table."""
    from raytrain.model.loading import is_tied

    return ["shared", "embed_tokens"] + ([] if is_tied(model) else ["lm_head"])


def _copy_values(model: Any, values: dict[str, Any], weights: Path, new_rows: list[int]) -> None:
    import torch
    from safetensors import safe_open

    left = dict(values)
    with torch.no_grad(), safe_open(weights, framework="pt") as exported:
        names = set(exported.keys())
        for name, parameter in model.named_parameters():
            plain = name.removeprefix("base_model.model.")
            if ".lora_" in name:
                parameter.copy_(left.pop(plain))
            elif "trainable_tokens_delta" in name:
                table = "lm_head.weight" if "lm_head" in name and "lm_head.weight" in names else "shared.weight"
                parameter.copy_(exported.get_tensor(table)[new_rows])
    if left:
        raise TrainingError(f"the checkpoint has adapters that the model has no place for: {next(iter(left))}")


def _values(run: ExportedRun, folder: Path) -> dict[str, Any]:
    """Returns the adapter's values of the exported checkpoint, averaged if the export is."""
    from safetensors import safe_open

    from raytrain_core.storage.commit import fetch, read_manifest

    prefix = str(run.manifest.body.get("checkpoint", ""))
    manifest = read_manifest(run.store, prefix) if prefix else None
    if manifest is None:
        raise TrainingError(
            f"run {run.layout.name}: the checkpoint that its model was made from is gone ({prefix or 'not recorded'})",
            hint="export the merged model with --format transformers",
        )
    path = fetch(run.store, manifest, folder / "checkpoint", [_OPTIMIZER_FILE]) / _OPTIMIZER_FILE
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if ".lora_" in name]  # noqa: SIM118 (it is no mapping)
        kind = "average/" if any(name.startswith("average/") for name in names) else "value/"
        return {name.removeprefix(kind): file.get_tensor(name) for name in names if name.startswith(kind)}


def _name_base(run: ExportedRun, path: Path) -> None:
    """Names base and revision; the folder in this machine's cache means nothing elsewhere."""
    config = json.loads(path.read_text(encoding="utf-8"))
    name, _, asked = run.record.job.spec.model.removeprefix("hf://").partition("@")
    config |= {"base_model_name_or_path": name, "revision": run.record.model_revision or asked or None}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _largest_difference(base: Path, merged: Path, adapter: Path) -> float:
    import torch
    from peft import PeftModel

    from data_prep.text.tokenizer import PAD, Tokenizer

    tokenizer = Tokenizer.from_folder(merged)
    one, two = PeftModel.from_pretrained(_plain(base), adapter).eval(), _plain(merged)
    largest = 0.0
    for ids in tokenizer.encode_batch(_PROMPTS, 64):
        row = torch.tensor([ids.tolist()])
        inputs = {"input_ids": row, "decoder_input_ids": torch.cat([torch.tensor([[PAD]]), row[:, :8]], dim=1)}
        with torch.inference_mode():
            largest = max(largest, float((one(**inputs).logits - two(**inputs).logits).abs().max()))
    return largest


def _plain(folder: Path) -> Any:
    """Loads a model as people without raytrain do."""
    import torch
    from transformers import AutoModelForSeq2SeqLM

    from raytrain.model.loading import quiet

    loader: Any = AutoModelForSeq2SeqLM
    with quiet():
        return loader.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
