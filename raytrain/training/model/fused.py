"""T5's norm and gated activation as one node of the graph each, and joined linear layers.

Written out of single operations, they and their gradients read and write a tensor as large as the
activations some forty times a layer; memory, not arithmetic, is what that takes.

Shape suffixes:
    N  tokens of a packed row
    D  model width
    F  width of the feed-forward layer
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from raytrain.model import elementwise
from raytrain.model.elementwise import CUBE, SLOPE, inverse_rms, multiply, precise, rows


def norm(module: nn.Module, x_ND: Tensor) -> Tensor:
    """`module(x_ND)`; under autocast in the dtype that the linear layer behind it would cast to.

    Modules other than T5's RMS norm are called.
    """
    eps = getattr(module, "variance_epsilon", None)
    if eps is None:
        return module(x_ND)  # type: ignore[no-any-return]
    weight: Any = module.weight
    kind = x_ND.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    return _RmsNorm.apply(x_ND, weight, eps, dtype)  # type: ignore[no-any-return]


class _RmsNorm(torch.autograd.Function):
    """x / sqrt(mean(x²) + eps) * weight (Zhang and Sennrich 2019, arXiv:1910.07467).

    Computed in fp32 at least.
    """

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_D: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        rstd_N1 = inverse_rms(x_ND, eps)
        ctx.save_for_backward(x_ND, weight_D, rstd_N1)
        normed: Tensor = (precise(x_ND) * rstd_N1).mul_(weight_D)
        return normed.to(dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        x_ND, weight_D, rstd_N1 = ctx.saved_tensors
        x, weight, grad = precise(x_ND), precise(weight_D), precise(grad_ND)
        product_ND = grad * x
        d_weight = None
        if ctx.needs_input_grad[1]:
            d_weight = torch.mv(product_ND.t(), rstd_N1[:, 0]).to(weight_D.dtype)
        along_N1 = torch.mv(product_ND, weight)[:, None].mul_(rstd_N1**3).div_(-len(weight))
        d_x = torch.mul(grad, weight, out=product_ND).mul_(rstd_N1).addcmul_(x, along_N1)
        return d_x.to(x_ND.dtype), d_weight, None, None


def gated_gelu(joined: Tensor) -> Tensor:
    """gelu(a) * b in GELU's tanh approximation, of a and b joined to (N, 2 * F)."""
    return _GatedGelu.apply(joined)  # type: ignore[no-any-return]


class _GatedGelu(torch.autograd.Function):
    """Its gradient is computed in blocks of tokens too."""

    @staticmethod
    def forward(ctx: Any, joined: Tensor) -> Tensor:
        ctx.save_for_backward(joined)
        return elementwise.gated_gelu(joined)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_NF: Tensor) -> Tensor:
        (joined,) = ctx.saved_tensors
        d_joined, size = torch.empty_like(joined), rows(joined)
        for out, block, grad in zip(d_joined.split(size), joined.split(size), grad_NF.split(size), strict=True):  # type: ignore[no-untyped-call]
            gate, linear = precise(block).chunk(2, -1)
            d_gate, d_linear = out.chunk(2, -1)
            square = gate * gate
            share = (square * CUBE).add_(SLOPE).mul_(gate).sigmoid_()
            passed = precise(grad) * share
            multiply(passed, gate, d_linear)
            slope = square.mul_(3 * CUBE).add_(SLOPE).mul_(gate)
            slope.addcmul_(slope, share, value=-1).add_(1)
            multiply(passed.mul_(linear), slope, d_gate)
        return d_joined


def joined_linear(modules: Sequence[nn.Module], x: Tensor) -> Tensor:
    """`torch.cat([module(x) for module in modules], -1)`, of plain linear layers as one product."""
    if all(type(module) is nn.Linear and module.bias is None for module in modules):
        weights: Any = [module.weight for module in modules]
        return nn.functional.linear(x, torch.cat(weights))
    return torch.cat([module(x) for module in modules], -1)
