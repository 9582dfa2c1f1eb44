"""Cross entropy over the vocabulary without ever holding tokens times vocabulary, per task in the same pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Scores held at once (tokens times vocabulary): 32 MB in fp32, which stays near a processor's
# cache.
_SCORES = 1 << 23


@dataclass(frozen=True, slots=True)
class Objective:
    """What is minimised for a token with scores x, their log-sum-exp z, and the label y, over a vocabulary of V:

    (1 - s) (z - x_y) + s (z - sum(x) / V) + c z², with s `label_smoothing` and c `z_loss`.
    """

    label_smoothing: float = 0.0
    z_loss: float = 0.0


CROSS_ENTROPY = Objective()


def token_losses(
    hidden: Tensor,
    head: Tensor,
    labels: Tensor,
    *,
    objective: Objective = CROSS_ENTROPY,
    weights: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum of the objectives of `hidden @ head.T` against `labels`, and each token's cross entropy without gradient.

    `hidden` (N, d), `head` (V, d), `labels` (N,) int64, all of them real tokens; `weights` (N,) is
    what each counts in the sum. The gradients are computed chunk by chunk (`chunk` tokens at once)
    in the forward pass. Scores and sums are at least fp32; the gradient of `head` is summed in fp32
    too, also when `hidden` is bf16.
    """
    size = chunk or max(64, min(4096, _SCORES // head.shape[0]))
    total, each = _ChunkedCrossEntropy.apply(hidden, head, labels, weights, objective, size)
    return total, each


def sum_by_task(each: Tensor, task_of_token: Tensor, tasks: int) -> Tensor:
    """(N,) losses and (N,) task numbers to (tasks,) float64 sums."""
    sums = torch.zeros(tasks, dtype=torch.float64, device=each.device)
    return sums.index_add_(0, task_of_token, each.double())


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 (autograd passes them by place)
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        labels: Tensor,
        weights: Tensor | None,
        objective: Objective,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        smoothing, squared = objective.label_smoothing, objective.z_loss
        precise = torch.promote_types(hidden.dtype, torch.float32)
        each = torch.empty(hidden.shape[0], dtype=precise, device=hidden.device)
        aims = each if objective == CROSS_ENTROPY else torch.empty_like(each)
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        d_head = torch.zeros_like(head, dtype=precise) if ctx.needs_input_grad[1] else None
        with torch.autocast(hidden.device.type, enabled=False):
            cast = head.to(hidden.dtype)
            for start in range(0, hidden.shape[0], chunk):
                part = slice(start, start + chunk)
                scores = (hidden[part] @ cast.t()).to(precise)
                wanted_score = labels[part, None]
                top = scores.amax(-1, keepdim=True)
                right = scores.gather(1, wanted_score)
                mean = scores.mean(-1, keepdim=True) if smoothing else right
                scores.sub_(top).exp_()  # from here on in place: probabilities, then their gradient
                norm = scores.sum(-1, keepdim=True)
                log_sum = norm.log() + top
                each[part] = (log_sum - right)[:, 0]
                if aims is not each:
                    aim = log_sum - (1 - smoothing) * right - smoothing * mean + squared * log_sum**2
                    aims[part] = aim[:, 0]
                if d_hidden is None and d_head is None:
                    continue
                scores.mul_((1 + 2 * squared * log_sum) / norm)
                scores.scatter_add_(1, wanted_score, torch.full_like(right, smoothing - 1.0))
                if smoothing:
                    scores.sub_(smoothing / head.shape[0])
                if weights is not None:
                    scores.mul_(weights[part, None])
                slope = scores.to(hidden.dtype)
                if d_hidden is not None:
                    torch.mm(slope, cast, out=d_hidden[part])
                if d_head is None:
                    continue
                if d_head.dtype == slope.dtype:
                    d_head.addmm_(slope.t(), hidden[part])
                else:
                    d_head += slope.t() @ hidden[part]
        ctx.save_for_backward(d_hidden, None if d_head is None else d_head.to(head.dtype))
        ctx.mark_non_differentiable(each)
        total = aims.sum() if weights is None else (aims * weights).sum()
        return total, each

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        d_hidden, d_head = ctx.saved_tensors
        if d_hidden is not None:
            d_hidden = d_hidden * gradient.to(d_hidden.dtype)
        if d_head is not None:
            d_head = d_head.mul_(gradient)
        return d_hidden, d_head, None, None, None, None
