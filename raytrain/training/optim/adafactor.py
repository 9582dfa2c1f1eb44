"""Adafactor (Shazeer and Stern, 2018, arXiv:1804.04235) as FLAN's recipe has it: an external learning rate, no scaling
by the parameter, no momentum. The arithmetic is that of `transformers.Adafactor` with these settings; this one can
also take parameters whose rows lie over several workers, for which the second moment's columns are added up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from raytrain.training.optim.fsdp import Shards

EPSILON = 1e-30
DECAY = -0.8
CLIP = 1.0

COLUMNS = "exp_avg_sq_col"
"""The one entry of a parameter's state that is the same at every worker that holds some of its rows."""


class Adafactor(torch.optim.Optimizer):
    """Parameters are fp32.

    Of a matrix the second moment is kept as means of its rows and of its columns.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        shards: Shards | None = None,
        rows: Mapping[Tensor, int] | None = None,
    ) -> None:
        """Where `shards` are split, `rows` says how many rows each parameter has in all."""
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        self._shards, self._rows = shards or Shards(), rows or {}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every parameter; `closure` is not used."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group["lr"], group["weight_decay"])

    def _move(self, parameter: Tensor, gradient: Tensor, rate: float, decay: float) -> None:
        state, rows = self.state[parameter], self._rows.get(parameter, len(parameter))
        state["step"] = state.get("step", 0) + 1
        keep = 1.0 - state["step"] ** DECAY
        update = self._factors(state, gradient, keep, rows) if gradient.ndim > 1 else _root(state, gradient, keep)
        update.mul_(gradient)
        numbers = rows * parameter.shape[1:].numel()
        update.div_((self._norm(update) / (numbers**0.5 * CLIP)).clamp_(min=1.0)).mul_(rate)
        if decay:
            parameter.add_(parameter, alpha=-decay * rate)
        parameter.sub_(update)

    def _factors(self, state: dict[str, Any], gradient: Tensor, keep: float, total: int) -> Tensor:
        """One over the root of the second moment, as the outer product of its rows' and its columns' means."""
        squares = gradient**2 + EPSILON
        rows = _entry(state, "exp_avg_sq_row", squares.shape[:-1], squares)
        columns = _entry(state, COLUMNS, squares.shape[1:], squares)
        rows.mul_(keep).add_(squares.mean(dim=-1), alpha=1 - keep)
        if self._shards.split:
            means = self._shards.add_up(torch.cat([squares.sum(dim=0), rows.sum().view(1)])) / total
            mean_of_columns, mean_of_rows = means[:-1], means[-1:]
        else:
            mean_of_columns, mean_of_rows = squares.mean(dim=0), rows.mean(dim=-1, keepdim=True)
        columns.mul_(keep).add_(mean_of_columns, alpha=1 - keep)
        return torch.outer((rows / mean_of_rows).rsqrt_(), columns.rsqrt())

    def _norm(self, update: Tensor) -> Tensor:
        if not self._shards.split:
            return update.norm(2)  # type: ignore[no-any-return]
        return torch.sqrt(self._shards.add_up(update.pow(2).sum()))


def _root(state: dict[str, Any], gradient: Tensor, keep: float) -> Tensor:
    """One over the root of the second moment, each number's own."""
    second = _entry(state, "exp_avg_sq", gradient.shape, gradient)
    return torch.rsqrt(second.mul_(keep).add_(gradient**2 + EPSILON, alpha=1 - keep))


def _entry(state: dict[str, Any], name: str, shape: torch.Size, like: Tensor) -> Tensor:
    if name not in state:
        state[name] = like.new_zeros(shape)
    entry: Tensor = state[name]
    return entry
