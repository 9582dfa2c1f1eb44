"""Cross entropy over the vocabulary, computed in chunks of tokens, and its sums per task.

The (N, V) scores of all tokens are never held at once: their gradients are computed chunk by chunk
in the forward pass.

Shape suffixes:
    N  target tokens of a packed row
    n  tokens of one chunk
    D  model width
    V  vocabulary
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raytrain.training.model.limits import scored_tokens


@dataclass(frozen=True, slots=True)
class Objective:
    """What is minimised for a token.

    With scores x over a vocabulary of V, their log-sum-exp z, and label y:
    (1 - s) (z - x_y) + s (z - sum(x) / V) + c z², with s `label_smoothing` and c `z_loss`.
    """

    label_smoothing: float = 0.0
    z_loss: float = 0.0


CROSS_ENTROPY = Objective()


def token_losses(
    hidden_ND: Tensor,
    head_VD: Tensor,
    labels_N: Tensor,
    *,
    objective: Objective = CROSS_ENTROPY,
    weights_N: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns the summed objective of `hidden_ND @ head_VD.T` and each token's cross entropy (N,).

    The cross entropies carry no gradient. `weights_N` is what each token counts in the sum: 0 for
    positions that hold none. `chunk` tokens are computed at once. Scores and sums are at least
    fp32; the gradient of `head_VD` is summed in fp32 even if `hidden_ND` is bf16.
    """
    size = chunk or scored_tokens(head_VD.shape[0])
    total, losses_N = _ChunkedCrossEntropy.apply(hidden_ND, head_VD, labels_N, weights_N, objective, size)
    return total, losses_N


def sum_by_task(losses_N: Tensor, task_N: Tensor, tasks: int) -> Tensor:
    """Sums token losses by the number of their task: (tasks,), float64."""
    sums = torch.zeros(tasks, dtype=torch.float64, device=losses_N.device)
    return sums.index_add_(0, task_N, losses_N.double())


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 (autograd passes them by place)
        ctx: Any,
        hidden_ND: Tensor,
        head_VD: Tensor,
        labels_N: Tensor,
        weights_N: Tensor | None,
        objective: Objective,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        smoothing, squared = objective.label_smoothing, objective.z_loss
        precise = torch.promote_types(hidden_ND.dtype, torch.float32)
        losses_N = torch.empty(hidden_ND.shape[0], dtype=precise, device=hidden_ND.device)
        objective_N = losses_N if objective == CROSS_ENTROPY else torch.empty_like(losses_N)
        d_hidden_ND = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        d_head_VD = torch.zeros_like(head_VD, dtype=precise) if ctx.needs_input_grad[1] else None
        with torch.autocast(hidden_ND.device.type, enabled=False):
            cast_VD = head_VD.to(hidden_ND.dtype)
            for start in range(0, hidden_ND.shape[0], chunk):
                part = slice(start, start + chunk)
                scores_nV = (hidden_ND[part] @ cast_VD.t()).to(precise)
                labels_n1 = labels_N[part, None]
                max_n1 = scores_nV.amax(-1, keepdim=True)
                label_score_n1 = scores_nV.gather(1, labels_n1)
                mean_n1 = scores_nV.mean(-1, keepdim=True) if smoothing else label_score_n1
                scores_nV.sub_(max_n1).exp_()  # from here on in place: probabilities, then their gradient
                norm_n1 = scores_nV.sum(-1, keepdim=True)
                log_sum_n1 = norm_n1.log() + max_n1
                losses_N[part] = (log_sum_n1 - label_score_n1)[:, 0]
                if objective_N is not losses_N:
                    value_n1 = log_sum_n1 - (1 - smoothing) * label_score_n1 - smoothing * mean_n1
                    objective_N[part] = (value_n1 + squared * log_sum_n1**2)[:, 0]
                if d_hidden_ND is None and d_head_VD is None:
                    continue
                scores_nV.mul_((1 + 2 * squared * log_sum_n1) / norm_n1)
                scores_nV.scatter_add_(1, labels_n1, torch.full_like(label_score_n1, smoothing - 1.0))
                if smoothing:
                    scores_nV.sub_(smoothing / head_VD.shape[0])
                if weights_N is not None:
                    scores_nV.mul_(weights_N[part, None])
                slope_nV = scores_nV.to(hidden_ND.dtype)
                if d_hidden_ND is not None:
                    torch.mm(slope_nV, cast_VD, out=d_hidden_ND[part])
                if d_head_VD is None:
                    continue
                if d_head_VD.dtype == slope_nV.dtype:
                    d_head_VD.addmm_(slope_nV.t(), hidden_ND[part])
                else:
                    d_head_VD += slope_nV.t() @ hidden_ND[part]
        ctx.save_for_backward(d_hidden_ND, None if d_head_VD is None else d_head_VD.to(head_VD.dtype))
        ctx.mark_non_differentiable(losses_N)
        total = objective_N.sum() if weights_N is None else (objective_N * weights_N).sum()
        return total, losses_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        d_hidden_ND, d_head_VD = ctx.saved_tensors
        if d_hidden_ND is not None:
            d_hidden_ND = d_hidden_ND * gradient.to(d_hidden_ND.dtype)
        if d_head_VD is not None:
            d_head_VD = d_head_VD.mul_(gradient)
        return d_hidden_ND, d_head_VD, None, None, None, None
