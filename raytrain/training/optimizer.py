"""The optimizer, the gradients it takes as one buffer, and its state as named tensors (nothing is pickled)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from data_prep.errors import TrainingError
from raytrain.spec.document import Training

_BIAS = "relative_attention_bias"


def build(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Adafactor with FLAN's recipe (external rate, no scaling by the parameter), or fused AdamW.

    Weight decay is decoupled in both, and norms and biases (also T5's relative position biases) have none.
    """
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (others if parameter.ndim < 2 or _BIAS in name else decayed).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": training.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=training.learning_rate, betas=training.betas, fused=True)
    from transformers.optimization import Adafactor

    recipe: Any = Adafactor  # untyped in transformers
    optimizer: torch.optim.Optimizer = recipe(
        groups,
        lr=training.learning_rate,
        eps=(1e-30, 1e-3),
        clip_threshold=1.0,
        decay_rate=-0.8,
        beta1=None,
        scale_parameter=False,
        relative_step=False,
        warmup_init=False,
    )
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """For the next step, in every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class Gradients:
    """All gradients of a model in one fp32 buffer; each parameter's `.grad` is a view of it.

    So workers exchange, measure and scale them in one operation each, and a worker without a row of its own takes part
    with zeros.
    """

    def __init__(self, model: nn.Module) -> None:
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.buffer = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
        start = 0
        for parameter in parameters:
            if parameter.dtype != self.buffer.dtype:
                raise TrainingError(f"weights are {parameter.dtype}, but training needs them in fp32")
            parameter.grad = self.buffer[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()

    def clear(self) -> None:
        """To zero, for the next step."""
        self.buffer.zero_()

    def norm(self) -> float:
        """2-norm over all parameters."""
        return float(torch.linalg.vector_norm(self.buffer))

    def scale(self, factor: float) -> None:
        """Multiply all by `factor`."""
        self.buffer.mul_(factor)


def state(optimizer: torch.optim.Optimizer, model: nn.Module) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The optimizer's state as tensors and as plain numbers, by `<entry>/<parameter's name>`. No copies."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        for entry, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{entry}/{name}"] = value.detach()
            else:
                numbers[f"{entry}/{name}"] = value
    return tensors, numbers


def load_state(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor], numbers: Mapping[str, float]
) -> None:
    """Put back what `state` gave. TrainingError if it is the state of another model."""
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    values: list[tuple[str, Any]] = [*tensors.items(), *numbers.items()]
    for key, value in values:
        entry, _, name = key.partition("/")
        if name not in parameters:
            raise TrainingError(f"the optimizer's state is that of another model: there is no {name}")
        parameter = parameters[name]
        kept = value.to(parameter.device).clone() if isinstance(value, Tensor) else value
        optimizer.state[parameter][entry] = kept
