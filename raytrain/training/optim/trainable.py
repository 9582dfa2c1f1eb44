"""Which parameters learn: all of them, those that are not frozen, or low-rank adapters beside frozen layers.

The rows that embedding and output layer have for pieces which preparation added to the vocabulary
learn in any case: no text that the model has ever seen used them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from raytrain.config.job import Lora, TrainingSpec
from raytrain.model import loading
from raytrain_core.errors import TrainingError

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration

ADAPTER = "default"
EMBEDDINGS = "shared.weight"


@dataclass(frozen=True, slots=True)
class Trainable:
    """The parameters that learn, by name; of those in `rows` only some rows do: (V, 1), 1 where a row learns."""

    parameters: dict[str, nn.Parameter]
    rows: dict[str, Tensor]


def choose(model: T5ForConditionalGeneration, training: TrainingSpec, new_rows: range = range(0)) -> Trainable:
    """Put adapters in their place, if the job wants them, and mark what learns.

    `new_rows` are the ids of the pieces that preparation added. TrainingError if nothing is left to
    learn, or if a part is to be frozen that the model has not got.
    """
    if "head" in training.freeze and loading.is_tied(model) and "embeddings" not in training.freeze:
        raise TrainingError(
            "training.freeze: this model's output layer is its embedding table, they can only be frozen together",
            hint="name embeddings too, or leave head out",
        )
    if training.method == "lora":
        _adapt(model, training.lora or Lora(), training.freeze, training.seed)
        learns = {name: "lora_" in name for name, _ in model.named_parameters()}
    else:
        frozen = tuple(_PREFIX[part] for part in training.freeze)
        learns = {name: not name.startswith(frozen) for name, _ in model.named_parameters()}
    rows = {}
    for name, parameter in model.named_parameters():
        if not learns[name] and name in (EMBEDDINGS, loading.HEAD) and len(new_rows):
            learns[name] = True
            rows[name] = torch.zeros(len(parameter), 1)
            rows[name][new_rows.start : new_rows.stop] = 1
        parameter.requires_grad_(learns[name])
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise TrainingError("training.freeze leaves nothing of this model to train")
    return Trainable(parameters, rows)


_PREFIX = {"embeddings": EMBEDDINGS, "head": "lm_head.", "encoder": "encoder.", "decoder": "decoder."}


def _adapt(model: Any, lora: Lora, freeze: list[Any], seed: int) -> None:
    """Adapters by peft, in the place of the linear layers that they stand beside."""
    from peft import LoraConfig, inject_adapter_in_model

    there = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if absent := [target for target in lora.targets if target not in there]:
        raise TrainingError(
            f"training.lora.targets: this model has no linear layers {', '.join(absent)}",
            hint="T5 v1.1 and FLAN-T5 have wi_0 and wi_1, T5 v1.0 has wi",
        )
    stacks = "|".join(stack for stack in ("encoder", "decoder") if stack not in freeze)
    made: Any = LoraConfig  # its alpha is annotated as a whole number, and is only divided
    config = made(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=rf"({stacks})\..*\.({'|'.join(lora.targets)})",
    )
    torch.manual_seed(seed)  # the same first values in every worker and after every restart
    inject_adapter_in_model(config, model, ADAPTER)


def merged(model: nn.Module, values: dict[str, Tensor], share: float = 1.0) -> dict[str, Tensor]:
    """Every weight under the name that it has in the stock model, adapters merged in; tensors may be the model's own.

    `values` take the place of the parameters of these names; of the adapters' difference `share` is
    added.
    """
    out: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" not in name:
                out[name.replace(".base_layer.", ".")] = values.get(name, parameter.detach())
        for name, module in model.named_modules():
            if not hasattr(module, "lora_A"):
                continue
            layer: Any = module
            low, high = (values[f"{name}.lora_{side}.{ADAPTER}.weight"] for side in "AB")
            difference = (high.float() @ low.float()) * (layer.scaling[ADAPTER] * share)
            base = out[f"{name}.weight"].float()
            out[f"{name}.weight"] = base + difference.to(base.device)
    return out
