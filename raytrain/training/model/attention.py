"""Attention within the segments of a packed row, computed in groups of neighbouring segments.

A group pads its segments to a common length. The groups of a row lie one behind the other in one
padded layout, so that one gather brings a whole row into it and one brings it back; linear layers
never see a padded position.

Shape suffixes:
    N  tokens of one side (source or target) of a packed row
    M  positions of that side in the padded layout, over all groups
    G  segments in a group
    Q  padded query length of a group
    C  padded key (context) length of a group
    H  attention heads
    K  size of a head
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raytrain.training.data.batch import PackedBatch

# Cost of one more group on a CPU (about thirty operations a layer), in attended pairs.
GROUP_COST = 4096
# Scores of a group that still fit a processor's cache, in attended pairs a head.
LARGEST_GROUP = 1 << 18


@dataclass(frozen=True, slots=True)
class SegmentGroup:
    """Segments of a row, from number `first` on, padded to `source` and `target` tokens."""

    first: int
    segments: int
    source: int
    target: int


@dataclass(frozen=True, slots=True)
class PaddedLayout:
    """Maps the tokens of one side (source or target) to padded positions and back.

    `pad_index_M` holds the packed position whose value a padded position takes, `unpad_index_N` the
    padded position of a packed token. `sizes` are how many padded positions each group has. `masks`
    are (G, 1, 1, C), 0 at tokens and very negative at padding; None for a group without
    padding.
    """

    pad_index_M: Tensor
    unpad_index_N: Tensor
    sizes: tuple[int, ...]
    masks: tuple[Tensor | None, ...]

    def to(self, dtype: torch.dtype, device: torch.device) -> PaddedLayout:
        """Moves the layout to `device`; boolean masks become additive ones of `dtype`."""
        masks = (
            None if m is None else torch.zeros_like(m, dtype=dtype).masked_fill_(m, mask_value(dtype)).to(device)
            for m in self.masks
        )
        return PaddedLayout(self.pad_index_M.to(device), self.unpad_index_N.to(device), self.sizes, tuple(masks))


@dataclass(frozen=True, slots=True)
class RowLayout:
    """The groups of a row and the padded layouts of its two sides, on a device."""

    groups: tuple[SegmentGroup, ...]
    source: PaddedLayout
    target: PaddedLayout


def group_segments(source_lengths: npt.NDArray[np.int32], target_lengths: npt.NDArray[np.int32]) -> list[SegmentGroup]:
    """Splits segments, in their order, into groups.

    A segment joins the current group as long as the padding costs less than a new group would.
    """
    groups: list[SegmentGroup] = []
    first = 0
    source = target = cost = 0
    for i, (s, t) in enumerate(zip(source_lengths.tolist(), target_lengths.tolist(), strict=True)):
        wider, longer, count = max(source, s), max(target, t), i - first + 1
        joined = count * _attended_pairs(wider, longer)
        own = _attended_pairs(s, t)
        if count > 1 and (joined > cost + own + GROUP_COST or count * wider * wider > LARGEST_GROUP):
            groups.append(SegmentGroup(first, i - first, source, target))
            first, source, target, cost = i, s, t, own
        else:
            source, target, cost = wider, longer, joined
    if len(source_lengths):
        groups.append(SegmentGroup(first, len(source_lengths) - first, source, target))
    return groups


def row_layout(row: PackedBatch, *, dtype: torch.dtype, device: torch.device) -> RowLayout:
    """Computes the padded layout of a row; masks are of `dtype`."""
    groups = group_segments(row.source_lengths, row.target_lengths)
    source = _padded_layout(groups, [g.source for g in groups], row.source_offsets, row.source_lengths)
    target = _padded_layout(groups, [g.target for g in groups], row.target_offsets, row.target_lengths)
    return RowLayout(tuple(groups), source.to(dtype, device), target.to(dtype, device))


def _attended_pairs(source: int, target: int) -> int:
    return source * source + target * target + source * target


def _padded_layout(
    groups: Sequence[SegmentGroup],
    widths: Sequence[int],
    offsets: npt.NDArray[np.int32],
    lengths: npt.NDArray[np.int32],
) -> PaddedLayout:
    """On the CPU, with masks that are True at padding."""
    pad_index, is_token, masks, sizes = [], [], [], []
    for g, width in zip(groups, widths, strict=True):
        chosen = slice(g.first, g.first + g.segments)
        place = np.arange(width)
        inside = place < lengths[chosen, None]
        pad_index.append(np.where(inside, offsets[chosen, None] + place, offsets[chosen, None]).ravel())
        is_token.append(inside.ravel())
        masks.append(None if inside.all() else torch.from_numpy(~inside)[:, None, None, :])
        sizes.append(inside.size)
    pad_index_M = np.concatenate(pad_index).astype(np.int64)
    at = np.flatnonzero(np.concatenate(is_token))
    unpad_index_N = np.empty(len(at), np.int64)
    unpad_index_N[pad_index_M[at]] = at
    return PaddedLayout(torch.from_numpy(pad_index_M), torch.from_numpy(unpad_index_N), tuple(sizes), tuple(masks))


def mask_value(dtype: torch.dtype) -> float:
    """A score so low that its weight is 0; two of them still add up without overflow."""
    return torch.finfo(dtype).min / 2


def pad(x_N: Tensor, layout: PaddedLayout) -> Tensor:
    """Packed (N, ...) to padded (M, ...); padded positions repeat a token and get no gradient."""
    return _Pad.apply(x_N, layout.pad_index_M, layout.unpad_index_N)  # type: ignore[no-any-return]


def unpad(x_M: Tensor, layout: PaddedLayout) -> Tensor:
    """Padded (M, ...) to packed (N, ...)."""
    return _Unpad.apply(x_M, layout.unpad_index_N)  # type: ignore[no-any-return]


class _Pad(torch.autograd.Function):
    """`x_N[pad_index_M]`.

    Its gradient is a gather too: padded positions are masked, their gradient is zero.
    """

    @staticmethod
    def forward(ctx: Any, x_N: Tensor, pad_index_M: Tensor, unpad_index_N: Tensor) -> Tensor:
        ctx.save_for_backward(unpad_index_N)
        return x_N.index_select(0, pad_index_M)

    @staticmethod
    def backward(ctx: Any, grad_M: Tensor) -> tuple[Tensor, None, None]:
        (unpad_index_N,) = ctx.saved_tensors
        return grad_M.index_select(0, unpad_index_N), None, None


class _Unpad(torch.autograd.Function):
    """`x_M[unpad_index_N]`.

    Each token has one padded position: the gradient is copied, not summed.
    """

    @staticmethod
    def forward(ctx: Any, x_M: Tensor, unpad_index_N: Tensor) -> Tensor:
        ctx.save_for_backward(unpad_index_N)
        ctx.padded = x_M.shape[0]
        return x_M.index_select(0, unpad_index_N)

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor, None]:
        (unpad_index_N,) = ctx.saved_tensors
        grad_M = grad_N.new_zeros((ctx.padded, *grad_N.shape[1:]))
        return grad_M.index_copy_(0, unpad_index_N, grad_N), None


def attend(q_GQHK: Tensor, k_GCHK: Tensor, v_GCHK: Tensor, bias_HQC: Tensor | None, mask_G11C: Tensor | None) -> Tensor:
    """T5's attention (scores are not scaled) within the segments of one group, as (G * Q, H * K).

    Attention weights get no dropout.
    """
    G, Q, H, K = q_GQHK.shape
    C = k_GCHK.shape[1]
    q = q_GQHK.transpose(1, 2).reshape(G * H, Q, K)
    k = k_GCHK.permute(0, 2, 3, 1).reshape(G * H, K, C)
    v = v_GCHK.transpose(1, 2).reshape(G * H, C, K)
    scores_GHQC = torch.bmm(q, k).view(G, H, Q, C)
    if bias_HQC is not None:
        scores_GHQC += bias_HQC
    if mask_G11C is not None:
        scores_GHQC += mask_G11C
    weights = torch.softmax(scores_GHQC, -1).view(G * H, Q, C)
    out_GHQK = torch.bmm(weights, v).view(G, H, Q, K)
    return out_GHQK.transpose(1, 2).reshape(G * Q, H * K)
