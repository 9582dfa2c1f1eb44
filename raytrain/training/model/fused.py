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

_HALF = (torch.bfloat16, torch.float16)


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
        rstd_N1 = precise.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(x_ND, weight_D, rstd_N1)
        return (precise * rstd_N1).mul_(weight_D).to(dtype)

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


class _GatedGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, joined: Tensor) -> Tensor:
        ctx.save_for_backward(joined)
        gate_NF, linear_NF = joined.chunk(2, -1)
        return torch.nn.functional.gelu(gate_NF, approximate="tanh").mul_(linear_NF)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_NF: Tensor) -> Tensor:
        (joined,) = ctx.saved_tensors
        gate_NF, linear_NF = joined.chunk(2, -1)
        d_joined = torch.empty_like(joined)
        d_gate_NF, d_linear_NF = d_joined.chunk(2, -1)
        torch.mul(torch.nn.functional.gelu(gate_NF, approximate="tanh"), grad_NF, out=d_linear_NF)
        torch.ops.aten.gelu_backward.grad_input(grad_NF * linear_NF, gate_NF, approximate="tanh", grad_input=d_gate_NF)
        return d_joined


def joined_linear(modules: Sequence[nn.Module], x: Tensor) -> Tensor:
    """`torch.cat([module(x) for module in modules], -1)`, of plain linear layers as one product."""
    if all(type(module) is nn.Linear and module.bias is None for module in modules):
        weights: Any = [module.weight for module in modules]
        return nn.functional.linear(x, torch.cat(weights))
    return torch.cat([module(x) for module in modules], -1)
