"""T5's norm and gated activation, in few operations on large tensors, for training and inference.

Memory, not arithmetic, is what they take. Computed in fp32 at least.

Shape suffixes:
    N  tokens
    D  model width
    F  width of the feed-forward layer
"""

import math

import torch
from torch import Tensor

_HALF = (torch.bfloat16, torch.float16)
_BLOCK = 1 << 19  # elements: 2 MB in fp32

# sigmoid(a * (SLOPE + CUBE * a²)) * a is GELU's tanh approximation (Hendrycks and Gimpel 2016,
# arXiv:1606.08415): (1 + tanh(x)) / 2 = sigmoid(2 * x).
SLOPE = 2 * math.sqrt(2 / math.pi)
CUBE = 0.044715 * SLOPE


def precise(x: Tensor) -> Tensor:
    """`x`, in fp32 if it has half the bits."""
    return x.float() if x.dtype in _HALF else x


def inverse_rms(x_ND: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean(x²) + eps) of every token, shape (N, 1); leading dimensions may be more."""
    length_N1 = torch.linalg.vector_norm(precise(x_ND), dim=-1, keepdim=True)
    rms_N1: Tensor = length_N1.square_().div_(x_ND.shape[-1]).add_(eps).rsqrt_()
    return rms_N1


def gated_gelu(joined: Tensor) -> Tensor:
    """gelu(a) * b in GELU's tanh approximation, of a and b joined to (N, 2 * F).

    A block of tokens at once, so that what lies between stays in the cache:
    `torch.nn.functional.gelu` takes a processor four times as long as the products here.
    """
    out_NF = joined.new_empty(len(joined), joined.shape[1] // 2)
    for out, block in zip(out_NF.split(rows(joined)), joined.split(rows(joined)), strict=True):  # type: ignore[no-untyped-call]
        gate, linear = precise(block).chunk(2, -1)
        value = (gate * gate).mul_(CUBE).add_(SLOPE).mul_(gate).sigmoid_().mul_(gate)
        multiply(value, linear, out)
    return out_NF


def multiply(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Writes the product to `out`, rounded to its dtype."""
    if out.dtype == left.dtype:
        torch.mul(left, right, out=out)
    else:
        out.copy_(left * right)


def rows(joined: Tensor) -> int:
    """Tokens of which a few tensors fit a processor's cache; all of them on a GPU."""
    return max(1, _BLOCK // joined.shape[1] if joined.device.type == "cpu" else len(joined))
