"""The optimizer, its gradients in one buffer, and its state as named tensors (not pickled)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from raytrain.config.training import TrainingSpec
from raytrain.training.optim.adafactor import COLUMNS, Adafactor
from raytrain.training.optim.fsdp import Sharding
from raytrain_core.errors import TrainingError

_BIAS = "relative_attention_bias"


def build(
    parameters: Mapping[str, nn.Parameter],
    training: TrainingSpec,
    *,
    no_decay: Collection[str] = (),
    sharding: Sharding | None = None,
    rows: Mapping[str, int] | None = None,
) -> torch.optim.Optimizer:
    """Builds Adafactor with FLAN's settings, or fused AdamW.

    Weight decay is decoupled in both. It is not applied to norms, biases (T5's relative position
    biases included) and the parameters named in `no_decay`. `rows` are the total rows of each
    parameter, needed if `sharding` is active.
    """
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in parameters.items():
        free = parameter.ndim < 2 or _BIAS in name or name in no_decay
        (others if free else decayed).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": training.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=training.learning_rate, betas=training.betas, fused=True)
    total: dict[Tensor, int] = {parameter: rows[name] for name, parameter in parameters.items()} if rows else {}
    return Adafactor(groups, lr=training.learning_rate, sharding=sharding, rows=total)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class Gradients:
    """The gradients of all parameters in one fp32 buffer; each parameter's `.grad` is a view of it.

    So they are all-reduced, measured and scaled in one operation each, and a worker without a row
    takes part with zeros. Where the model computes with other tensors (`used`: in bf16, or sharded)
    their gradients are added to the buffer after each backward pass, so that passes accumulate in
    fp32. Of a sharded model the buffer holds this worker's rows, already reduced over the workers.
    `row_masks` are the rows that learn, of parameters of which only some do.
    """

    def __init__(
        self,
        values: Mapping[str, nn.Parameter],
        used: Mapping[str, nn.Parameter] | None = None,
        row_masks: Mapping[str, Tensor] | None = None,
        sharding: Sharding | None = None,
    ) -> None:
        self._sharding = sharding or Sharding()
        parameters = list(values.values())
        self.buffer = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
        self._masked: list[tuple[Tensor, Tensor]] = []
        start = 0
        for name, parameter in values.items():
            if parameter.dtype != self.buffer.dtype:
                raise TrainingError(f"weights are {parameter.dtype}, but training needs fp32")
            view = self.buffer[start : start + parameter.numel()].view_as(parameter)
            parameter.grad = view
            start += parameter.numel()
            if row_masks and name in row_masks:
                self._masked.append((view, row_masks[name]))
            if used is not None and used[name] is not parameter:
                parameter_used: Any = used[name]
                parameter_used.register_post_accumulate_grad_hook(_accumulate_into(view))

    def clear(self) -> None:
        """Sets all gradients to zero, for the next step."""
        self.buffer.zero_()

    def norm(self) -> float:
        """Clears the gradients of rows that are not trained.

        Returns the 2-norm over all parameters.
        """
        for view, mask in self._masked:
            view.mul_(mask)
        norm = torch.linalg.vector_norm(self.buffer)
        return float(self._sharding.all_reduce(norm**2).sqrt() if self._sharding.active else norm)

    def scale(self, factor: float) -> None:
        """Multiplies all gradients by `factor`."""
        self.buffer.mul_(factor)


def _accumulate_into(view: Tensor) -> Callable[[nn.Parameter], None]:
    def accumulate(parameter: nn.Parameter) -> None:
        if parameter.grad is not None:
            view.add_(getattr(parameter.grad, "_local_tensor", parameter.grad))
            parameter.grad = None

    return accumulate


def is_replicated(entry: str) -> bool:
    """Returns whether every worker holds this entry of the state completely."""
    return entry.partition("/")[0] == COLUMNS


def state(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Returns the state as tensors (not copied) and numbers, by `<entry>/<parameter name>`."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, float] = {}
    for name, parameter in parameters.items():
        for entry, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{entry}/{name}"] = value.detach()
            else:
                numbers[f"{entry}/{name}"] = value
    return tensors, numbers


def load_state(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    tensors: Mapping[str, Tensor],
    numbers: Mapping[str, float],
    sharding: Sharding | None = None,
) -> None:
    """Restores what `state` returned, from complete tensors.

    TrainingError if it is the state of another model.
    """
    optimizer.state.clear()
    values: list[tuple[str, Any]] = [*tensors.items(), *numbers.items()]
    for key, value in values:
        entry, _, name = key.partition("/")
        if name not in parameters:
            raise TrainingError(f"the optimizer's state is that of another model: there is no parameter {name}")
        parameter = parameters[name]
        if isinstance(value, Tensor):
            local = value if sharding is None or is_replicated(key) else sharding.local(value)
            optimizer.state[parameter][entry] = local.to(parameter.device).clone()
        else:
            optimizer.state[parameter][entry] = value
