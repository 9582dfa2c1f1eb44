"""The adapter of a LoRA run as PEFT's files, and the proof that peft makes the run's model of it.

The factors lie in the checkpoint that became the run's model, next to the optimizer's state. Rows
of added tokens belong to them: the base model has never used those rows. Where output layer and
embedding are one table, PEFT keeps just these rows (trainable token indices). Where they are two,
it takes them for one table all the same and would put the embedding's rows into the output layer,
so the tables go along whole (modules to save).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytrain.config.training import Lora
from raytrain.export.agreement import prompts_of
from raytrain.export.exported_run import REPORT, copy_beside
from raytrain_core.errors import DataError, TrainingError, UsageError
from raytrain_core.storage.commit import fetch, read_manifest

if TYPE_CHECKING:
    from torch import Tensor

    from raytrain.export.exported_run import ExportedRun

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."  # PEFT's names of the model's own modules
_EMBEDDINGS = ("shared", "encoder.embed_tokens", "decoder.embed_tokens")
"""The modules of T5 that hold the embedding table; transformers keeps three of one table."""
_HEAD = "lm_head"
_TOLERANCE = 1e-3
"""Largest difference of a logit, as a share of the largest logit. Another order of sums is 1e-6."""
_BATCH, _ANSWER = 8, 32
"""Prompts in one forward pass, and tokens of the answers that they are given."""
_MERGED = "the merged model has it all: --format transformers"


@dataclass(frozen=True, slots=True)
class Tables:
    """Embedding and output layer of a model, (V, D); `head` is None where they are one table."""

    embedding: Tensor
    head: Tensor | None


def write_adapter(run: ExportedRun, out: Path) -> list[str]:
    """Writes the run's adapter to `out` as peft reads it; returns sentences for the model card.

    Raises UsageError if the run has none, DataError if its checkpoint or its base model is gone or
    changed, TrainingError if peft would not make the run's model of base and adapter.
    """
    from safetensors.torch import save_file

    from raytrain.export.card import base_model

    training = run.record.job.spec.training
    if training.method != "lora":
        raise UsageError(
            f"run {run.layout.name} trained weights, not adapters (training.method: {training.method})",
            hint="leave out --format adapter",
        )
    factors = _factors(run, out.parent / "checkpoint")
    model, base = _plain(run.model), _plain(_base_folder(run))
    tuned = _tables(model)
    rows = changed_rows(_tables(base), tuned)
    tensors = {f"{_PREFIX}{name.replace('.default.', '.')}": value for name, value in factors.items()}
    tensors |= _token_tensors(tuned, rows)
    name, revision = base_model(run.record.job, run.record.model_revision)
    config = _config(training.lora or Lora(), training.freeze, training.interpolation, tuned, rows)
    config |= {"base_model_name_or_path": name, "revision": revision}
    (out / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, out / ADAPTER_WEIGHTS)
    copy_beside(run.model, out)
    return _proven(run, model, base, out, rows=rows)


def changed_rows(base: Tables, tuned: Tables) -> list[int]:
    """Returns the ids of the tokens whose rows differ from the base model's in any table.

    Raises TrainingError if the tables have other shapes: a reader of the adapter would have to
    add rows to the base model first, which `resize_token_embeddings` gets wrong for untied T5.
    """
    pairs = [(base.embedding, tuned.embedding)]
    if (base.head is None) != (tuned.head is None):
        raise TrainingError("base model and tuned model do not both have an output layer of their own", hint=_MERGED)
    if base.head is not None and tuned.head is not None:
        pairs.append((base.head, tuned.head))
    ids: set[int] = set()
    for before, after in pairs:
        if before.shape != after.shape:
            raise TrainingError(
                f"the base model has embeddings of {len(before):,} tokens, the tuned model of {len(after):,}; "
                "PEFT cannot add rows to a base model",
                hint=_MERGED,
            )
        ids |= set((before != after).any(1).nonzero().flatten().tolist())
    return sorted(ids)


def _factors(run: ExportedRun, folder: Path) -> dict[str, Tensor]:
    """Returns the factors that were merged into the run's model, by the trainer's names."""
    from raytrain.training.checkpoint import OPTIMIZER_FILE, read_optimizer
    from raytrain.training.optim.weights import merged_factors

    prefix = run.manifest.body.get("checkpoint")
    manifest = read_manifest(run.store, str(prefix)) if prefix else None
    if manifest is None:
        raise DataError(
            f"run {run.layout.name}: the checkpoint that became its model is gone, and the adapter with it",
            hint=_MERGED,
        )
    state, _ = read_optimizer(fetch(run.store, manifest, folder, [OPTIMIZER_FILE]) / OPTIMIZER_FILE)
    return merged_factors(state)


def _base_folder(run: ExportedRun) -> Path:
    from raytrain.config.locations import cache_folder
    from raytrain.model import source

    record = run.record
    cache = cache_folder() / "models"
    folder = source.resolve(record.model_uri, store=run.store, base_folder=record.base_folder, cache=cache)
    if record.model_digest not in (None, source.digest(folder)):
        raise DataError(f"model {record.model_uri}: its files have changed since the run started", hint=_MERGED)
    return folder


def _token_tensors(tuned: Tables, rows: Sequence[int]) -> dict[str, Tensor]:
    if not rows:
        return {}
    if tuned.head is None:
        part = tuned.embedding[list(rows)]
        return {f"{_PREFIX}{name}.token_adapter.trainable_tokens_delta": part for name in _EMBEDDINGS}
    tables = dict.fromkeys(_EMBEDDINGS, tuned.embedding) | {_HEAD: tuned.head}
    return {f"{_PREFIX}{name}.weight": table for name, table in tables.items()}


def _config(lora: Lora, freeze: Sequence[str], share: float, tuned: Tables, rows: Sequence[int]) -> dict[str, Any]:
    """Returns the content of adapter_config.json; `share` of the adapters' difference counts."""
    from raytrain.training.optim.trainable import lora_config

    config = lora_config(lora, freeze)
    config.task_type, config.inference_mode = "SEQ_2_SEQ_LM", True
    config.lora_alpha = lora.alpha * share
    if rows and tuned.head is None:
        config.trainable_token_indices = {name.rpartition(".")[2]: list(rows) for name in _EMBEDDINGS}
    elif rows:
        config.modules_to_save = [*dict.fromkeys(name.rpartition(".")[2] for name in _EMBEDDINGS), _HEAD]
    content: Mapping[str, Any] = config.to_dict()
    return {name: sorted(value) if isinstance(value, set) else value for name, value in content.items()}


def _proven(run: ExportedRun, model: Any, base: Any, out: Path, *, rows: Sequence[int]) -> list[str]:
    """Compares logits of base and adapter, as peft reads them, with those of the run's model.

    Writes the report; peft changes `base`.
    """
    import peft

    prompts, tokenizer, source = prompts_of(run.store, run.record)
    if not prompts:
        raise DataError("there are no rows to compare logits on", hint="the run's data has no test or validation rows")
    texts = [ids.tolist() for ids in tokenizer.encode_batch(prompts, run.record.job.spec.training.max_input_tokens)]
    if rows:
        texts.append(list(rows))  # no prompt may have an added token
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tied tables; the comparison decides
        adapted = peft.PeftModel.from_pretrained(base, str(out)).eval()
    apart = largest = 0.0
    for start in range(0, len(texts), _BATCH):
        wanted, found = (_logits(one, texts[start : start + _BATCH]) for one in (model, adapted))
        apart = max(apart, float((found - wanted).abs().max()))
        largest = max(largest, float(wanted.abs().max()))
    if not apart <= _TOLERANCE * largest:
        raise TrainingError(
            f"peft {peft.__version__} does not make the run's model of base and adapter: on {len(prompts)} prompts "
            f"logits differ by up to {apart:.3g}, the largest is {largest:.3g}",
            hint=_MERGED,
        )
    report = {"format": 1, "peft": peft.__version__, "prompts": len(prompts), "rows": source, "token_rows": len(rows)}
    report |= {"largest_difference": apart, "largest_logit": largest}
    (out / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    added = f" Rows of {len(rows)} added tokens go along with it." if rows else ""
    return [
        f"An adapter (LoRA), to be put on the base model.{added}",
        f"On {len(prompts)} prompts ({source}) the logits of base and adapter, read by peft {peft.__version__}, differ "
        f"from those of the merged model by at most {apart:.2g}; the largest logit is {largest:.3g}.",
    ]


def _logits(model: Any, batch: Sequence[Sequence[int]]) -> Tensor:
    """Returns the logits (B, L, V) of answers to a batch of prompts.

    The answers are the prompts' own first tokens, so that added tokens occur in them too.
    """
    import torch

    longest = max(len(ids) for ids in batch)
    tokens = torch.zeros(len(batch), longest, dtype=torch.long)  # 0 pads
    mask = torch.zeros_like(tokens)
    for row, ids in enumerate(batch):
        tokens[row, : len(ids)] = torch.tensor(ids)
        mask[row, : len(ids)] = 1
    with torch.inference_mode():
        logits: Tensor = model(input_ids=tokens, attention_mask=mask, decoder_input_ids=tokens[:, :_ANSWER]).logits
    return logits


def _plain(folder: Path) -> Any:
    """Loads a model as a reader without raytrain does."""
    import torch
    from transformers import AutoModelForSeq2SeqLM

    from raytrain.model.loading import quiet

    with quiet():
        return AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()


def _tables(model: Any) -> Tables:
    from raytrain.model.loading import is_tied

    return Tables(model.shared.weight.detach(), None if is_tied(model) else model.lm_head.weight.detach())
