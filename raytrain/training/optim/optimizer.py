"""The optimizer, the gradients it takes as one buffer, and its state as named tensors (nothing is pickled)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from raytrain.config.job import TrainingSpec
from raytrain.training.optim.adafactor import COLUMNS, Adafactor
from raytrain.training.optim.fsdp import Shards
from raytrain_core.errors import TrainingError

_BIAS = "relative_attention_bias"


def build(
    parameters: Mapping[str, nn.Parameter],
    training: TrainingSpec,
    *,
    spared: Collection[str] = (),
    shards: Shards | None = None,
    rows: Mapping[str, int] | None = None,
) -> torch.optim.Optimizer:
    """Adafactor with FLAN's recipe (external rate, no scaling by the parameter), or fused AdamW.

    Weight decay is decoupled in both. Norms and biases (also T5's relative position biases) have
    none, nor have the parameters named in `spared`. Where `parameters` are this worker's `shards`,
    `rows` says how many rows each has.
    """
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in parameters.items():
        free = parameter.ndim < 2 or _BIAS in name or name in spared
        (others if free else decayed).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": training.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=training.learning_rate, betas=training.betas, fused=True)
    total: dict[Tensor, int] = {parameter: rows[name] for name, parameter in parameters.items()} if rows else {}
    return Adafactor(groups, lr=training.learning_rate, shards=shards, rows=total)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """For the next step, in every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class Gradients:
    """The gradients of all parameters in one fp32 buffer; each parameter's `.grad` is a view of it.

    So workers exchange, measure and scale them in one operation each, and a worker without a row of
    its own takes part with zeros. Where the model computes with other tensors (`used`: in bf16, or
    sharded) what comes to those is added to the buffer after each backward pass, so that many
    passes add up in fp32. Of `shards` the buffer holds this worker's, and what comes to them has
    been added up over the workers already.
    """

    def __init__(
        self,
        values: Mapping[str, nn.Parameter],
        used: Mapping[str, nn.Parameter] | None = None,
        rows: Mapping[str, Tensor] | None = None,
        shards: Shards | None = None,
    ) -> None:
        self._shards = shards or Shards()
        parameters = list(values.values())
        self.buffer = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
        self._rows: list[tuple[Tensor, Tensor]] = []
        start = 0
        for name, parameter in values.items():
            if parameter.dtype != self.buffer.dtype:
                raise TrainingError(f"weights are {parameter.dtype}, but training needs them in fp32")
            view = self.buffer[start : start + parameter.numel()].view_as(parameter)
            parameter.grad = view
            start += parameter.numel()
            if rows and name in rows:
                self._rows.append((view, rows[name]))
            if used is not None and used[name] is not parameter:
                parameter_used: Any = used[name]
                parameter_used.register_post_accumulate_grad_hook(_moves_into(view))

    def clear(self) -> None:
        """To zero, for the next step."""
        self.buffer.zero_()

    def norm(self) -> float:
        """2-norm over all parameters; of rows that do not learn the gradients are dropped first."""
        for view, mask in self._rows:
            view.mul_(mask)
        norm = torch.linalg.vector_norm(self.buffer)
        return float(self._shards.add_up(norm**2).sqrt() if self._shards.split else norm)

    def scale(self, factor: float) -> None:
        """Multiply all by `factor`."""
        self.buffer.mul_(factor)


def _moves_into(view: Tensor) -> Callable[[nn.Parameter], None]:
    def move(parameter: nn.Parameter) -> None:
        if parameter.grad is not None:
            view.add_(getattr(parameter.grad, "_local_tensor", parameter.grad))
            parameter.grad = None

    return move


def is_shared(entry: str) -> bool:
    """Whether every worker has this entry of the optimizer's state (`<entry>/<parameter's name>`) whole."""
    return entry.partition("/")[0] == COLUMNS


def state(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The optimizer's state as tensors and as plain numbers, by `<entry>/<parameter's name>`.

    No copies.
    """
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
    shards: Shards | None = None,
) -> None:
    """Put back what `state` gave, whole tensors; of `shards` this worker's rows. TrainingError if it is the state of
    another model."""
    optimizer.state.clear()
    values: list[tuple[str, Any]] = [*tensors.items(), *numbers.items()]
    for key, value in values:
        entry, _, name = key.partition("/")
        if name not in parameters:
            raise TrainingError(f"the optimizer's state is that of another model: there is no {name}")
        parameter = parameters[name]
        if isinstance(value, Tensor):
            mine = value if shards is None or is_shared(key) else shards.mine(value)
            optimizer.state[parameter][entry] = mine.to(parameter.device).clone()
        else:
            optimizer.state[parameter][entry] = value
