"""T5's norm and gated activation as one node of the graph each, and joined linear layers.

Written out of single operations, they and their gradients read and write a tensor as large as the
activations some forty times a layer; memory, not arithmetic, is what that takes.

Shape suffixes:
    N  tokens of a packed row
    D  model width
    F  width of the feed-forward layer
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

_HALF = (torch.bfloat16, torch.float16)
_BLOCK = 1 << 19  # elements: 2 MB in fp32


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
        precise = _precise(x_ND)
        length_N1 = torch.linalg.vector_norm(precise, dim=-1, keepdim=True)
        rstd_N1 = length_N1.square_().div_(x_ND.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x_ND, weight_D, rstd_N1)
        normed: Tensor = (precise * rstd_N1).mul_(weight_D)
        return normed.to(dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        x_ND, weight_D, rstd_N1 = ctx.saved_tensors
        precise, weight, grad = _precise(x_ND), _precise(weight_D), _precise(grad_ND)
        product_ND = grad * precise
        d_weight = None
        if ctx.needs_input_grad[1]:
            d_weight = torch.mv(product_ND.t(), rstd_N1[:, 0]).to(weight_D.dtype)
        along_N1 = torch.mv(product_ND, weight)[:, None].mul_(rstd_N1**3).div_(-len(weight))
        d_x = torch.mul(grad, weight, out=product_ND).mul_(rstd_N1).addcmul_(precise, along_N1)
        return d_x.to(x_ND.dtype), d_weight, None, None


def _precise(x: Tensor) -> Tensor:
    return x.float() if x.dtype in _HALF else x


def gated_gelu(joined: Tensor) -> Tensor:
    """gelu(a) * b in GELU's tanh approximation, of a and b joined to (N, 2 * F)."""
    return _GatedGelu.apply(joined)  # type: ignore[no-any-return]


# sigmoid(a * (_SLOPE + _CUBE * a²)) * a is GELU's tanh approximation (Hendrycks and Gimpel 2016,
# arXiv:1606.08415): (1 + tanh(x)) / 2 = sigmoid(2 * x).
_SLOPE = 2 * math.sqrt(2 / math.pi)
_CUBE = 0.044715 * _SLOPE


class _GatedGelu(torch.autograd.Function):
    """Computed in fp32 at least, a block of tokens at once: what lies between stays in the cache.

    `torch.nn.functional.gelu` takes a processor four times as long as the products here.
    """

    @staticmethod
    def forward(ctx: Any, joined: Tensor) -> Tensor:
        ctx.save_for_backward(joined)
        out_NF = joined.new_empty(len(joined), joined.shape[1] // 2)
        for out, block in zip(out_NF.split(_rows(joined)), joined.split(_rows(joined)), strict=True):  # type: ignore[no-untyped-call]
            gate, linear = _precise(block).chunk(2, -1)
            value = (gate * gate).mul_(_CUBE).add_(_SLOPE).mul_(gate).sigmoid_().mul_(gate)
            _multiply(value, linear, out)
        return out_NF

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_NF: Tensor) -> Tensor:
        (joined,) = ctx.saved_tensors
        d_joined, size = torch.empty_like(joined), _rows(joined)
        for out, block, grad in zip(d_joined.split(size), joined.split(size), grad_NF.split(size), strict=True):  # type: ignore[no-untyped-call]
            gate, linear = _precise(block).chunk(2, -1)
            d_gate, d_linear = out.chunk(2, -1)
            square = gate * gate
            share = (square * _CUBE).add_(_SLOPE).mul_(gate).sigmoid_()
            passed = _precise(grad) * share
            _multiply(passed, gate, d_linear)
            slope = square.mul_(3 * _CUBE).add_(_SLOPE).mul_(gate)
            slope.addcmul_(slope, share, value=-1).add_(1)
            _multiply(passed.mul_(linear), slope, d_gate)
        return d_joined


def _multiply(left: Tensor, right: Tensor, out: Tensor) -> None:
    if out.dtype == left.dtype:
        torch.mul(left, right, out=out)
    else:
        out.copy_(left * right)


def _rows(joined: Tensor) -> int:
    """Tokens of which a few tensors fit a processor's cache; all of them on a GPU."""
    return max(1, _BLOCK // joined.shape[1] if joined.device.type == "cpu" else len(joined))


def joined_linear(modules: Sequence[nn.Module], x: Tensor) -> Tensor:
    """`torch.cat([module(x) for module in modules], -1)`, of plain linear layers as one product."""
    if all(type(module) is nn.Linear and module.bias is None for module in modules):
        weights: Any = [module.weight for module in modules]
        return nn.functional.linear(x, torch.cat(weights))
    return torch.cat([module(x) for module in modules], -1)
