"""Which parameters are trained: all, those that are not frozen, or low-rank adapters.

The rows of embedding and output layer for tokens that preparation added to the vocabulary are
trained in any case: no text that the model has ever seen used them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from raytrain.config.training import Lora, TrainingSpec
from raytrain.model import loading
from raytrain_core.errors import TrainingError

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration

ADAPTER = "default"
EMBEDDINGS = "shared.weight"


@dataclass(frozen=True, slots=True)
class TrainableParams:
    """The parameters that are trained, by name.

    Of those in `row_masks` only some rows are: masks are (V, 1), 1 where a row is trained.
    """

    params: dict[str, nn.Parameter]
    row_masks: dict[str, Tensor]


def trainable_params(
    model: T5ForConditionalGeneration, training: TrainingSpec, new_rows: range = range(0)
) -> TrainableParams:
    """Inserts adapters if the job asks for LoRA, and sets `requires_grad` on what is trained.

    `new_rows` are the ids of the tokens that preparation added. TrainingError if nothing is left to
    train, or if a part should be frozen that the model does not have.
    """
    if "head" in training.freeze and loading.is_tied(model) and "embeddings" not in training.freeze:
        raise TrainingError(
            "training.freeze: this model's output layer is its embedding table; they can only be frozen together",
            hint="add embeddings, or remove head",
        )
    if training.method == "lora":
        _insert_adapters(model, training.lora or Lora(), training.freeze, training.seed)
        trained = {name: "lora_" in name for name, _ in model.named_parameters()}
    else:
        frozen = tuple(_PREFIX[part] for part in training.freeze)
        trained = {name: not name.startswith(frozen) for name, _ in model.named_parameters()}
    row_masks = {}
    for name, parameter in model.named_parameters():
        if not trained[name] and name in (EMBEDDINGS, loading.HEAD) and len(new_rows):
            trained[name] = True
            row_masks[name] = torch.zeros(len(parameter), 1)
            row_masks[name][new_rows.start : new_rows.stop] = 1
        parameter.requires_grad_(trained[name])
    params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not params:
        raise TrainingError("training.freeze leaves nothing of this model to train")
    return TrainableParams(params, row_masks)


_PREFIX = {"embeddings": EMBEDDINGS, "head": "lm_head.", "encoder": "encoder.", "decoder": "decoder."}


def _insert_adapters(model: Any, lora: Lora, freeze: Sequence[str], seed: int) -> None:
    """Replaces linear layers by peft's adapters around them."""
    from peft import inject_adapter_in_model

    present = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if absent := [target for target in lora.targets if target not in present]:
        raise TrainingError(
            f"training.lora.targets: this model has no linear layers {', '.join(absent)}",
            hint="T5 v1.1 and FLAN-T5 have wi_0 and wi_1, T5 v1.0 has wi",
        )
    torch.manual_seed(seed)  # the same initial values on every worker and after every restart
    inject_adapter_in_model(lora_config(lora, freeze), model, ADAPTER)


def lora_config(lora: Lora, freeze: Sequence[str]) -> Any:
    """Returns peft's LoraConfig of a job's adapters; stacks in `freeze` get none."""
    from peft import LoraConfig

    stacks = "|".join(stack for stack in ("encoder", "decoder") if stack not in freeze)
    untyped: Any = LoraConfig  # alpha is annotated as an integer, but is only divided
    return untyped(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=rf"({stacks})\..*\.({'|'.join(lora.targets)})",
    )


def merged(model: nn.Module, values: dict[str, Tensor], share: float = 1.0) -> dict[str, Tensor]:
    """Returns every weight of the stock model, adapters merged in; tensors may be the model's own.

    `values` replace the parameters of these names. `share` of the adapters' difference is added.
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
