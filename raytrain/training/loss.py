"""Cross entropy over the vocabulary without ever holding tokens times vocabulary, per task in the same pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Scores held at once (tokens times vocabulary): 32 MB in fp32, which stays near a processor's cache.
_SCORES = 1 << 23


def token_losses(hidden: Tensor, head: Tensor, labels: Tensor, *, chunk: int | None = None) -> tuple[Tensor, Tensor]:
    """Sum of the cross entropies of `hidden @ head.T` against `labels`, and each token's own, which has no gradient.

    `hidden` (N, d), `head` (V, d), `labels` (N,) int64, all of them real tokens. The gradients are computed chunk by
    chunk (`chunk` tokens at once) in the forward pass. Scores and sums are at least fp32; the gradient of `head` is
    summed in the precision of `head`, also when `hidden` is bf16.
    """
    size = chunk or max(64, min(4096, _SCORES // head.shape[0]))
    total, each = _ChunkedCrossEntropy.apply(hidden, head, labels, size)
    return total, each


def sum_by_task(each: Tensor, task_of_token: Tensor, tasks: int) -> Tensor:
    """(N,) losses and (N,) task numbers to (tasks,) float64 sums."""
    sums = torch.zeros(tasks, dtype=torch.float64, device=each.device)
    return sums.index_add_(0, task_of_token, each.double())


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, labels: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        precise = torch.promote_types(hidden.dtype, torch.float32)
        each = torch.empty(hidden.shape[0], dtype=precise, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if wanted else None
        d_head = torch.zeros_like(head) if wanted else None
        with torch.autocast(hidden.device.type, enabled=False):
            cast = head.to(hidden.dtype)
            for start in range(0, hidden.shape[0], chunk):
                part = slice(start, start + chunk)
                scores = (hidden[part] @ cast.t()).to(precise)
                wanted_score = labels[part, None]
                top = scores.amax(-1, keepdim=True)
                right = scores.gather(1, wanted_score)
                scores.sub_(top).exp_()  # from here on in place: probabilities, then their gradient
                norm = scores.sum(-1, keepdim=True)
                each[part] = (norm.log() + top - right)[:, 0]
                if d_hidden is None or d_head is None:
                    continue
                scores.div_(norm).scatter_add_(1, wanted_score, torch.full_like(right, -1.0))
                slope = scores.to(hidden.dtype)
                torch.mm(slope, cast, out=d_hidden[part])
                if d_head.dtype == slope.dtype:
                    d_head.addmm_(slope.t(), hidden[part])
                else:
                    d_head += slope.t() @ hidden[part]
        if d_hidden is not None and d_head is not None:
            ctx.save_for_backward(d_hidden, d_head)
        ctx.mark_non_differentiable(each)
        return each.sum(), each

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        d_hidden, d_head = ctx.saved_tensors
        return d_hidden * gradient.to(d_hidden.dtype), d_head.mul_(gradient), None, None
