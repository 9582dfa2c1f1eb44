"""Attention inside the segments of a flat row, in groups of neighbouring segments of similar length.

Shapes: N tokens of a row, G segments of a group, L its longest segment, P padded positions of all
groups, H heads, D their width. A group is a slice of the padded layout, so that one gather brings a
whole row into it and one brings it back; linear layers never see a padded position.
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

# What one more group costs on a CPU (some thirty operations a layer), in attended pairs.
GROUP_COST = 4096
# Scores of a group that still fit a processor's cache, in attended pairs a head.
LARGEST_GROUP = 1 << 18


@dataclass(frozen=True, slots=True)
class Group:
    """Segments `first` ..

    `first + segments - 1` of a row, padded to `source` and `target` tokens.
    """

    first: int
    segments: int
    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Side:
    """Where the tokens of one side (source or target) stand in the padded layout.

    `where` (P,) is the flat position that a padded position takes its value from, `back` (N,) the
    padded position of a flat token. `starts` are the groups' first padded positions. `masks` are
    (G, 1, 1, L), 0 where there is a token and very low on padding, or None where a group has no
    padding.
    """

    where: Tensor
    back: Tensor
    starts: tuple[int, ...]
    masks: tuple[Tensor | None, ...]

    def on(self, dtype: torch.dtype, device: torch.device) -> Side:
        """The same on a device, its masks (True on padding) as numbers of `dtype` to be added to scores."""
        masks = (
            None if m is None else torch.zeros_like(m, dtype=dtype).masked_fill_(m, lowest(dtype)).to(device)
            for m in self.masks
        )
        return Side(self.where.to(device), self.back.to(device), self.starts, tuple(masks))


@dataclass(frozen=True, slots=True)
class Layout:
    """The groups of a row, on a device."""

    groups: tuple[Group, ...]
    source: Side
    target: Side


def group(source_lengths: npt.NDArray[np.int32], target_lengths: npt.NDArray[np.int32]) -> list[Group]:
    """Cut segments, in their order, into groups: one more is taken in while that costs less than a new group."""
    groups: list[Group] = []
    first = 0
    source = target = cost = 0
    for i, (s, t) in enumerate(zip(source_lengths.tolist(), target_lengths.tolist(), strict=True)):
        wider, longer, count = max(source, s), max(target, t), i - first + 1
        joined = count * _pairs(wider, longer)
        if count > 1 and (joined > cost + _pairs(s, t) + GROUP_COST or count * wider * wider > LARGEST_GROUP):
            groups.append(Group(first, i - first, source, target))
            first, source, target, cost = i, s, t, _pairs(s, t)
        else:
            source, target, cost = wider, longer, joined
    if len(source_lengths):
        groups.append(Group(first, len(source_lengths) - first, source, target))
    return groups


def layout(row: PackedBatch, *, dtype: torch.dtype, device: torch.device) -> Layout:
    """The padded layout of a row; masks are of `dtype`."""
    groups = group(row.source_lengths, row.target_lengths)
    source = _side(groups, [g.source for g in groups], row.source_offsets, row.source_lengths)
    target = _side(groups, [g.target for g in groups], row.target_offsets, row.target_lengths)
    return Layout(tuple(groups), source.on(dtype, device), target.on(dtype, device))


def _pairs(source: int, target: int) -> int:
    return source * source + target * target + source * target


def _side(
    groups: Sequence[Group],
    widths: Sequence[int],
    offsets: npt.NDArray[np.int32],
    lengths: npt.NDArray[np.int32],
) -> Side:
    """On the CPU, with masks that are True on padding."""
    where, masks, starts, start = [], [], [], 0
    real = []
    for g, width in zip(groups, widths, strict=True):
        chosen = slice(g.first, g.first + g.segments)
        place = np.arange(width)
        inside = place < lengths[chosen, None]
        where.append(np.where(inside, offsets[chosen, None] + place, offsets[chosen, None]).ravel())
        real.append(inside.ravel())
        masks.append(None if inside.all() else torch.from_numpy(~inside)[:, None, None, :])
        starts.append(start)
        start += inside.size
    taken = np.concatenate(where).astype(np.int64)
    at = np.flatnonzero(np.concatenate(real))
    back = np.empty(len(at), np.int64)
    back[taken[at]] = at
    return Side(torch.from_numpy(taken), torch.from_numpy(back), tuple(starts), tuple(masks))


def lowest(dtype: torch.dtype) -> float:
    """A number that no score outweighs, and of which two still add up without overflow."""
    return torch.finfo(dtype).min / 2


def spread(x: Tensor, side: Side) -> Tensor:
    """Flat (N, ...) to padded (P, ...); padded positions repeat a token and get no gradient."""
    return _Spread.apply(x, side.where, side.back)  # type: ignore[no-any-return]


def collect(x: Tensor, side: Side) -> Tensor:
    """Padded (P, ...) to flat (N, ...)."""
    return _Collect.apply(x, side.back)  # type: ignore[no-any-return]


class _Spread(torch.autograd.Function):
    """`x[where]` whose gradient is a gather too: what comes to padded positions is zero (they are masked)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, where: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return x.index_select(0, where)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (back,) = ctx.saved_tensors
        return gradient.index_select(0, back), None, None


class _Collect(torch.autograd.Function):
    """`x[back]`; every flat token has one padded position, so the gradient is copied, not added up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        ctx.padded = x.shape[0]
        return x.index_select(0, back)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (back,) = ctx.saved_tensors
        out = gradient.new_zeros((ctx.padded, *gradient.shape[1:]))
        return out.index_copy_(0, back, gradient), None


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, mask: Tensor | None) -> Tensor:
    """T5's attention (no scaling) of one group: (G, Lq, H, D) and twice (G, Lk, H, D) to (G * Lq, H * D).

    `bias` is (H, Lq, Lk), `mask` (G, 1, 1, Lk) or None. Attention weights get no dropout.
    """
    segments, queries, heads, width = query.shape
    keys = key.shape[1]
    q = query.transpose(1, 2).reshape(segments * heads, queries, width)
    k = key.permute(0, 2, 3, 1).reshape(segments * heads, width, keys)
    v = value.transpose(1, 2).reshape(segments * heads, keys, width)
    scores = torch.bmm(q, k).view(segments, heads, queries, keys)
    if bias is not None:
        scores += bias
    if mask is not None:
        scores += mask
    weights = torch.softmax(scores, -1).view(segments * heads, queries, keys)
    mixed = torch.bmm(weights, v).view(segments, heads, queries, width)
    return mixed.transpose(1, 2).reshape(segments * queries, heads * width)
