"""Attention within the segments of a packed row, computed in groups of neighbouring segments.

A group pads its segments to a common length. The groups of a row lie one behind the other in one
padded layout, so that one gather brings a whole row and all its heads into it and one brings it
back; linear layers never see a padded position.

Shape suffixes:
    N  tokens of one side (source or target) of a packed row
    M  positions of that side in the padded layout, over all groups
    G  segments in a group
    Q  padded query length of a group
    C  padded key (context) length of a group
    L  longest of those
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
from raytrain.training.model.limits import LARGEST_GROUP

# Cost of one more group on a CPU (about thirty operations a layer), in attended pairs.
GROUP_COST = 4096


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
    padded position of a packed token, `padding` the padded positions that hold no token. `start_M`
    is where the segment of a padded position begins, `width_M` how long it is padded. `sizes` are
    how many padded positions each group has. `masks` are (G, 1, 1, C), 0 at tokens and very
    negative at padding; None for a group without padding.
    """

    pad_index_M: Tensor
    unpad_index_N: Tensor
    padding: Tensor
    start_M: Tensor
    width_M: Tensor
    sizes: tuple[int, ...]
    masks: tuple[Tensor | None, ...]

    def to(self, dtype: torch.dtype, device: torch.device) -> PaddedLayout:
        """Moves the layout to `device`; boolean masks become additive ones of `dtype`."""
        masks = tuple(
            None if m is None else torch.zeros_like(m, dtype=dtype).masked_fill_(m, mask_value(dtype)).to(device)
            for m in self.masks
        )
        return PaddedLayout(
            self.pad_index_M.to(device),
            self.unpad_index_N.to(device),
            self.padding.to(device),
            self.start_M.to(device),
            self.width_M.to(device),
            self.sizes,
            masks,
        )


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
    pad_index_M, is_token_M = np.concatenate(pad_index).astype(np.int64), np.concatenate(is_token)
    at = np.flatnonzero(is_token_M)
    unpad_index_N = np.empty(len(at), np.int64)
    unpad_index_N[pad_index_M[at]] = at
    width_M = np.repeat(np.array(widths, np.int64), sizes)
    starts = np.cumsum([0, *sizes[:-1]])
    within_M = np.arange(len(width_M)) - np.repeat(starts, sizes)
    start_M = np.arange(len(width_M)) - within_M % width_M
    return PaddedLayout(
        torch.from_numpy(pad_index_M),
        torch.from_numpy(unpad_index_N),
        torch.from_numpy(np.flatnonzero(~is_token_M)),
        torch.from_numpy(start_M),
        torch.from_numpy(width_M),
        tuple(sizes),
        tuple(masks),
    )


def mask_value(dtype: torch.dtype) -> float:
    """A score so low that its weight is 0; two of them still add up without overflow."""
    return torch.finfo(dtype).min / 2


@dataclass(frozen=True, slots=True)
class HeadIndex:
    """Brings what `parts` joined projections make of the tokens of one side to the padded layout.

    There the heads of a segment lie one behind the other, so that a group is a batch of matrices,
    and the parts (such as query, key and value) follow each other.

    Shapes: `pad_index` (parts * M * H,) numbers vectors of K in the packed (N, parts * H * K);
    `unpad_index` (N * parts * H,) numbers those of the padded (parts, M * H, K); `padding` those
    of one part that hold no token. Packed tensors may have more rows than tokens: what is brought
    back to those is zero.
    """

    heads: int
    parts: int
    pad_index: Tensor
    unpad_index: Tensor
    padding: Tensor

    @classmethod
    def of(cls, layout: PaddedLayout, heads: int, parts: int) -> HeadIndex:
        """Returns the index, on the layout's device."""
        start_M, width_M, device = layout.start_M, layout.width_M, layout.start_M.device
        head_H, part_P = torch.arange(heads, device=device), torch.arange(parts, device=device)
        within_M = torch.arange(len(start_M), device=device) - start_M
        place_MH = (start_M * heads + within_M)[:, None] + width_M[:, None] * head_H
        packed_MHP = (layout.pad_index_M[:, None, None] * parts + part_P) * heads + head_H[:, None]
        pad_index = torch.empty_like(packed_MHP).view(-1, parts)
        pad_index[place_MH.flatten()] = packed_MHP.flatten(0, 1)
        unpad_NPH = place_MH[layout.unpad_index_N][:, None, :] + part_P[:, None] * place_MH.numel()
        return cls(heads, parts, pad_index.t().flatten(), unpad_NPH.flatten(), place_MH[layout.padding].flatten())

    def pad(self, x: Tensor) -> Tensor:
        """Packed (N, parts * H * K) to padded (parts, M * H, K); padding repeats a token."""
        vectors = x.reshape(len(x) * self.parts * self.heads, -1)
        return vectors.index_select(0, self.pad_index).view(self.parts, -1, vectors.shape[-1])

    def unpad(self, x: Tensor, rows: int) -> Tensor:
        """Padded (parts, M * H, K) to packed (`rows`, parts * H * K)."""
        out = x.new_empty(rows * self.parts * self.heads, x.shape[-1])
        torch.index_select(x.flatten(0, -2), 0, self.unpad_index, out=out[: len(self.unpad_index)])
        out[len(self.unpad_index) :].zero_()
        return out.view(rows, -1)


@dataclass(frozen=True, slots=True)
class GroupShape:
    """A group as a batch of matrices: its rows in the padded queries and keys, and their shapes."""

    segments: int
    queries: int
    keys: int
    query_rows: slice
    key_rows: slice
    mask_G11C: Tensor | None


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """What one kind of attention needs of a row: where tokens go, and the groups."""

    heads: int
    query: HeadIndex
    """Of the queries alone or, in self-attention, of queries, keys and values."""
    context: HeadIndex | None
    """Of keys and values, if they are those of the other side."""
    output: HeadIndex
    groups: tuple[GroupShape, ...]

    @classmethod
    def within(cls, side: PaddedLayout, segments: Sequence[int], heads: int, *, causal: bool = False) -> AttentionPlan:
        """Self-attention of one side.

        A causal mask, part of the bias, hides padding too, which comes after the tokens.
        """
        masks = [None] * len(segments) if causal else side.masks
        groups = _group_shapes(segments, side.sizes, side.sizes, masks, heads)
        return cls(heads, HeadIndex.of(side, heads, 3), None, HeadIndex.of(side, heads, 1), groups)

    @classmethod
    def across(cls, query: PaddedLayout, context: PaddedLayout, segments: Sequence[int], heads: int) -> AttentionPlan:
        """Attention of one side's tokens to the other side's."""
        groups = _group_shapes(segments, query.sizes, context.sizes, context.masks, heads)
        index = HeadIndex.of(query, heads, 1)
        return cls(heads, index, HeadIndex.of(context, heads, 2), index, groups)


def _group_shapes(
    segments: Sequence[int],
    query_sizes: Sequence[int],
    key_sizes: Sequence[int],
    masks: Sequence[Tensor | None],
    heads: int,
) -> tuple[GroupShape, ...]:
    shapes = []
    query = key = 0
    for count, queries, keys, mask in zip(segments, query_sizes, key_sizes, masks, strict=True):
        rows = slice(query * heads, (query + queries) * heads), slice(key * heads, (key + keys) * heads)
        shapes.append(GroupShape(count, queries // count, keys // count, *rows, mask))
        query, key = query + queries, key + keys
    return tuple(shapes)


def attend(plan: AttentionPlan, queries: Tensor, context: Tensor | None, bias_HLL: Tensor | None) -> Tensor:
    """T5's attention (scores are not scaled) within the segments of a packed row, as (N, H * K).

    `queries` are packed: in self-attention queries, keys and values of each token, (N, 3 * H * K);
    otherwise queries (N, H * K), and keys and values are `context` (tokens of the other side,
    2 * H * K). `bias_HLL` is added to the scores, of which a group takes what it is long. Attention
    weights get no dropout.
    """
    dtype = queries.dtype
    if queries.device.type == "cpu" and dtype == torch.bfloat16:
        # oneDNN compiles a bf16 product anew for each shape (3 to 15 ms; the product takes 0.3),
        # and every row has groups of other shapes. MKL's fp32 products are not compiled.
        queries = queries.float()
    context = None if context is None else context.to(queries.dtype)  # adapters may leave autocast
    return _Attend.apply(plan, queries, context, bias_HLL).to(dtype)  # type: ignore[no-any-return]


class _Attend(torch.autograd.Function):
    """One node of the graph for all groups of a row.

    The gradients of the groups are written to their places in one tensor: autograd would make and
    add up tensors as large as the row for each.
    """

    @staticmethod
    def forward(
        ctx: Any, plan: AttentionPlan, queries: Tensor, context: Tensor | None, bias_HLL: Tensor | None
    ) -> Tensor:
        with torch.autocast(queries.device.type, enabled=False):
            padded = [*plan.query.pad(queries)]
            if plan.context is not None and context is not None:
                padded += plan.context.pad(context)
            q, k, v = padded
            out, weights = torch.empty_like(q), []
            for group in plan.groups:
                q_part, k_part, v_part = _parts(group, q, k, v)
                scores = torch.bmm(q_part, k_part.transpose(1, 2))
                scores_GHQC = scores.view(group.segments, -1, group.queries, group.keys)
                if bias_HLL is not None:
                    scores_GHQC += bias_HLL[:, : group.queries, : group.keys]
                if group.mask_G11C is not None:
                    scores_GHQC += group.mask_G11C
                weights.append(torch.softmax(scores, -1))
                torch.bmm(weights[-1], v_part, out=out[group.query_rows].view_as(q_part))
            ctx.plan, ctx.tokens = plan, (len(queries), None if context is None else len(context))
            ctx.bias = None if bias_HLL is None else (bias_HLL.shape, bias_HLL.dtype)
            ctx.save_for_backward(q, k, v, *weights)
            return plan.output.unpad(out[None], len(queries))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor | None, Tensor | None]:
        plan: AttentionPlan = ctx.plan
        q, k, v, *weights = ctx.saved_tensors
        d_out = plan.output.pad(grad)[0].index_fill_(0, plan.output.padding, 0)
        d_query = torch.empty(plan.query.parts, *q.shape, dtype=q.dtype, device=q.device)
        d_context = None if plan.context is None else torch.empty(2, *k.shape, dtype=k.dtype, device=k.device)
        d_q, d_k, d_v = [*d_query] if d_context is None else [*d_query, *d_context]
        d_bias = None
        if ctx.needs_input_grad[3]:
            shape, dtype = ctx.bias
            d_bias = torch.zeros(shape, dtype=dtype, device=q.device)
        for group, p in zip(plan.groups, weights, strict=True):
            q_part, k_part, v_part = _parts(group, q, k, v)
            dq_part, dk_part, dv_part = _parts(group, d_q, d_k, d_v)
            d_part = d_out[group.query_rows].view_as(q_part)
            torch.bmm(p.transpose(1, 2), d_part, out=dv_part)
            d_weights = torch.bmm(d_part, v_part.transpose(1, 2))
            d_scores = torch._softmax_backward_data(d_weights, p, -1, p.dtype)
            if d_bias is not None:
                d_bias[:, : group.queries, : group.keys] += d_scores.view(
                    group.segments, -1, group.queries, group.keys
                ).sum(0)
            torch.bmm(d_scores, k_part, out=dq_part)
            torch.bmm(d_scores.transpose(1, 2), q_part, out=dk_part)
        tokens, others = ctx.tokens
        d_packed = None if d_context is None or plan.context is None else plan.context.unpad(d_context, others)
        return None, plan.query.unpad(d_query, tokens), d_packed, d_bias


def _parts(group: GroupShape, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Views of a group's queries (G * H, Q, K), keys and values (G * H, C, K)."""
    size = q.shape[-1]
    return (
        q[group.query_rows].view(-1, group.queries, size),
        k[group.key_rows].view(-1, group.keys, size),
        v[group.key_rows].view(-1, group.keys, size),
    )
