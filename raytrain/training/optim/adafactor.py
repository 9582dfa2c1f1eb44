"""Adafactor (Shazeer and Stern, 2018, arXiv:1804.04235) with FLAN's settings.

That is: an external learning rate, no scaling by the parameter, no momentum. The arithmetic is that
of `transformers.Adafactor` with these settings. In addition, parameters may be sharded by rows over
several workers: column sums of the second moment are then all-reduced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from raytrain.training.optim.fsdp import Sharding

EPSILON = 1e-30
DECAY = -0.8
CLIP = 1.0

COLUMNS = "exp_avg_sq_col"
"""The entry of a parameter's state that is replicated on every worker.

All others are sharded by rows.
"""


class Adafactor(torch.optim.Optimizer):
    """Adafactor for fp32 parameters.

    The second moment of a matrix is kept as the means of its rows and of its columns.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        sharding: Sharding | None = None,
        rows: Mapping[Tensor, int] | None = None,
    ) -> None:
        """`rows` are the total rows of each parameter, needed if `sharding` is active."""
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        self._sharding, self._rows = sharding or Sharding(), rows or {}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Updates every parameter that has a gradient; `closure` is ignored."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group["lr"], group["weight_decay"])

    def _update(self, parameter: Tensor, gradient: Tensor, rate: float, decay: float) -> None:
        state, rows = self.state[parameter], self._rows.get(parameter, len(parameter))
        state["step"] = state.get("step", 0) + 1
        keep = 1.0 - state["step"] ** DECAY
        update = (
            self._inverse_root_factored(state, gradient, keep, rows)
            if gradient.ndim > 1
            else _inverse_root(state, gradient, keep)
        )
        update.mul_(gradient)
        elements = rows * parameter.shape[1:].numel()
        update.div_((self._norm(update) / (elements**0.5 * CLIP)).clamp_(min=1.0)).mul_(rate)
        if decay:
            parameter.add_(parameter, alpha=-decay * rate)
        parameter.sub_(update)

    def _inverse_root_factored(self, state: dict[str, Any], gradient: Tensor, keep: float, total: int) -> Tensor:
        """Returns 1 / sqrt(second moment), as the outer product of its row and column means."""
        squares = gradient**2 + EPSILON
        rows = _entry(state, "exp_avg_sq_row", squares.shape[:-1], squares)
        columns = _entry(state, COLUMNS, squares.shape[1:], squares)
        rows.mul_(keep).add_(squares.mean(dim=-1), alpha=1 - keep)
        if self._sharding.active:
            means = self._sharding.all_reduce(torch.cat([squares.sum(dim=0), rows.sum().view(1)])) / total
            mean_of_columns, mean_of_rows = means[:-1], means[-1:]
        else:
            mean_of_columns, mean_of_rows = squares.mean(dim=0), rows.mean(dim=-1, keepdim=True)
        columns.mul_(keep).add_(mean_of_columns, alpha=1 - keep)
        return torch.outer((rows / mean_of_rows).rsqrt_(), columns.rsqrt())

    def _norm(self, update: Tensor) -> Tensor:
        if not self._sharding.active:
            return update.norm(2)  # type: ignore[no-any-return]
        return torch.sqrt(self._sharding.all_reduce(update.pow(2).sum()))


def _inverse_root(state: dict[str, Any], gradient: Tensor, keep: float) -> Tensor:
    """Returns 1 / sqrt(second moment), element by element."""
    second = _entry(state, "exp_avg_sq", gradient.shape, gradient)
    return torch.rsqrt(second.mul_(keep).add_(gradient**2 + EPSILON, alpha=1 - keep))


def _entry(state: dict[str, Any], name: str, shape: torch.Size, like: Tensor) -> Tensor:
    if name not in state:
        state[name] = like.new_zeros(shape)
    entry: Tensor = state[name]
    return entry
