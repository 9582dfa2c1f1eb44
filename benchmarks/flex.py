"""The flat forward with torch's flex attention: one call over a whole row instead of one for each group of segments.

A candidate for GPUs, which `benchmarks.gpu` times beside the groups of
`raytrain.training.model.attention`; it becomes part of training where it has been measured to be
faster. Flex attention has no backward pass on a CPU (torch 2.15), so only its forward can be held
against the other one there; the gradients are, under `-m gpu`.

Shapes: N tokens of a row (S source, T target), H heads of width D, L the longest segment.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from raytrain.training.model.attention import Layout, Side
from raytrain.training.model.packed_t5 import DeviceBatch, PackedT5


@dataclass(frozen=True, slots=True)
class Places:
    """Of each flat token (N,): which segment it is in, and where in it."""

    segment: Tensor
    position: Tensor

    @classmethod
    def of(cls, side: Side, layout: Layout, *, source: bool) -> Places:
        """Read off the padded layout."""
        segment, position = torch.empty_like(side.back), torch.empty_like(side.back)
        for start, group in zip(side.starts, layout.groups, strict=True):
            length = group.source if source else group.target
            inside = (side.back >= start) & (side.back < start + group.segments * length)
            offset = side.back[inside] - start
            segment[inside] = group.first + offset // length
            position[inside] = offset % length
        return cls(segment, position)


@dataclass(frozen=True, slots=True)
class Masks:
    """Who sees whom, and where each token stands."""

    source: Places
    target: Places
    encoder: BlockMask
    decoder: BlockMask
    cross: BlockMask

    @classmethod
    def of(cls, layout: Layout) -> Masks:
        """Of one row."""
        s, t = Places.of(layout.source, layout, source=True), Places.of(layout.target, layout, source=False)

        def mask(query: Places, key: Places, *, causal: bool = False) -> BlockMask:
            def sees(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
                same = query.segment[q] == key.segment[k]
                return same & (q >= k) if causal else same

            sizes = len(query.segment), len(key.segment)
            return create_block_mask(sees, None, None, *sizes, device=query.segment.device)

        return cls(s, t, mask(s, s), mask(t, t, causal=True), mask(t, s))


class FlexT5(PackedT5):
    """`FlatT5` whose attention is flex attention."""

    def _encode(self, batch: DeviceBatch) -> Tensor:
        stack, masks = self.model.encoder, Masks.of(batch.layout)
        bias = distances(stack, int(masks.source.position.max()) + 1)
        x = stack.dropout(stack.embed_tokens(batch.source))
        for layer in self._encoder:
            x = layer(x, masks, bias)
        return stack.dropout(stack.final_layer_norm(x))  # type: ignore[no-any-return]

    def _decode(self, batch: DeviceBatch, memory: Tensor) -> Tensor:
        stack, masks = self.model.decoder, Masks.of(batch.layout)
        bias = distances(stack, int(masks.target.position.max()) + 1)
        x = stack.dropout(stack.embed_tokens(batch.decoder_input))
        for layer in self._decoder:
            x = layer(x, memory, masks, bias)
        return stack.dropout(stack.final_layer_norm(x))  # type: ignore[no-any-return]

    def _self_attention(self, layer: Any, x: Tensor, where: Any, biases: Any, *, encoder: bool) -> Tensor:
        attention, normed = layer.SelfAttention, layer.layer_norm(x)
        position = (where.source if encoder else where.target).position
        longest = (biases.shape[1] + 1) // 2

        def add(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return score + biases[h, position[k] - position[q] + longest - 1]

        parts = (self._heads(part(normed)) for part in (attention.q, attention.k, attention.v))
        return attention.o(self._attend(*parts, add, where.encoder if encoder else where.decoder))  # type: ignore[no-any-return]

    def _cross_attention(self, layer: Any, x: Tensor, memory: Tensor, where: Any) -> Tensor:
        attention = layer.EncDecAttention
        query = self._heads(attention.q(layer.layer_norm(x)))
        key, value = (self._heads(part(memory)) for part in (attention.k, attention.v))
        return attention.o(self._attend(query, key, value, None, where.cross))  # type: ignore[no-any-return]

    def _heads(self, x: Tensor) -> Tensor:
        """(N, H * D) to (1, H, N, D)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(0, 1)[None]  # type: ignore[no-untyped-call,no-any-return]

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, add: Callable[..., Tensor] | None, mask: BlockMask
    ) -> Tensor:
        flex = _compiled() if query.is_cuda else flex_attention
        mixed: Tensor = flex(query, key, value, score_mod=add, block_mask=mask, scale=1.0)
        return mixed[0].transpose(0, 1).flatten(1)


def distances(stack: Any, length: int) -> Tensor:
    """The relative position bias by distance (key - query), (H, 2 * length - 1), from -(length - 1) up."""
    whole = stack.block[0].layer[0].SelfAttention.compute_bias(length, length)[0]
    return torch.cat([whole[:, 1:, 0].flip(-1), whole[:, 0, :]], dim=-1)


@functools.cache
def _compiled() -> Any:
    return torch.compile(flex_attention, dynamic=True)
