"""The packed forward pass with torch's flex attention: one call for an entire row.

A candidate for GPUs, which `benchmarks.gpu` compares with the groups of
`raytrain.training.model.attention`; it becomes part of training where it has been measured to be
faster. Flex attention has no backward pass on a CPU (torch 2.15), so on a CPU only its forward pass
can be compared; the gradients are compared under `-m gpu`.

Shape suffixes:
    S  source tokens of the packed row
    T  target tokens of the packed row
    N  S or T, whichever side is meant
    D  model width
    H  attention heads
    K  size of a head
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from raytrain.training.model.attention import PaddedLayout, RowLayout
from raytrain.training.model.fused import norm
from raytrain.training.model.packed_t5 import DeviceBatch, PackedT5


@dataclass(frozen=True, slots=True)
class TokenPlaces:
    """Of each packed token: the segment that it is in, and its position there."""

    segment_N: Tensor
    position_N: Tensor

    @classmethod
    def of(cls, side: PaddedLayout, layout: RowLayout, *, source: bool) -> TokenPlaces:
        """Reads the places from the padded layout."""
        index_N = side.unpad_index_N
        segment_N, position_N = torch.empty_like(index_N), torch.empty_like(index_N)
        starts = accumulate(side.sizes, initial=0)
        for start, group in zip(starts, layout.groups, strict=False):  # the last start is the end
            length = group.source if source else group.target
            inside = (index_N >= start) & (index_N < start + group.segments * length)
            offset = index_N[inside] - start
            segment_N[inside] = group.first + offset // length
            position_N[inside] = offset % length
        return cls(segment_N, position_N)


@dataclass(frozen=True, slots=True)
class FlexMasks:
    """Which tokens attend to which, and where each token is."""

    source: TokenPlaces
    target: TokenPlaces
    encoder: BlockMask
    decoder: BlockMask
    cross: BlockMask

    @classmethod
    def of(cls, layout: RowLayout) -> FlexMasks:
        """Returns the masks of one row."""
        source = TokenPlaces.of(layout.source, layout, source=True)
        target = TokenPlaces.of(layout.target, layout, source=False)

        def mask(query: TokenPlaces, key: TokenPlaces, *, causal: bool = False) -> BlockMask:
            def attends(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
                same = query.segment_N[q] == key.segment_N[k]
                return same & (q >= k) if causal else same

            sizes = len(query.segment_N), len(key.segment_N)
            return create_block_mask(attends, None, None, *sizes, device=query.segment_N.device)

        return cls(source, target, mask(source, source), mask(target, target, causal=True), mask(target, source))


class FlexT5(PackedT5):
    """`PackedT5` whose attention is flex attention."""

    def _encode(self, batch: DeviceBatch, x_SD: Tensor) -> Tensor:
        stack, masks = self.model.encoder, FlexMasks.of(batch.layout)
        bias = bias_by_distance(stack, int(masks.source.position_N.max()) + 1)
        x_SD = stack.dropout(x_SD)
        for layer in self._encoder:
            x_SD = layer(x_SD, (masks.source, masks.encoder), bias)
        return stack.dropout(norm(stack.final_layer_norm, x_SD))  # type: ignore[no-any-return]

    def _decode(self, batch: DeviceBatch, x_TD: Tensor, encoded_SD: Tensor) -> Tensor:
        stack, masks = self.model.decoder, FlexMasks.of(batch.layout)
        bias = bias_by_distance(stack, int(masks.target.position_N.max()) + 1)
        x_TD = stack.dropout(x_TD)
        for layer in self._decoder:
            x_TD = layer(x_TD, encoded_SD, ((masks.target, masks.decoder), masks.cross), bias)
        return stack.dropout(norm(stack.final_layer_norm, x_TD))  # type: ignore[no-any-return]

    def _self_attention(self, layer: Any, x_ND: Tensor, plan: Any, bias_HLL: Tensor) -> Tensor:
        attention, normed_ND = layer.SelfAttention, norm(layer.layer_norm, x_ND)
        places, mask = plan
        position_N, longest = places.position_N, (bias_HLL.shape[1] + 1) // 2

        def add_bias(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            biased: Tensor = score + bias_HLL[h, position_N[k] - position_N[q] + longest - 1]
            return biased

        projections = (attention.q, attention.k, attention.v)
        q_1HNK, k_1HNK, v_1HNK = (self._heads(project(normed_ND)) for project in projections)
        out = self._attend(q_1HNK, k_1HNK, v_1HNK, add_bias, mask)
        return x_ND + layer.dropout(attention.o(out))  # type: ignore[no-any-return]

    def _cross_attention(self, layer: Any, x_TD: Tensor, encoded_SD: Tensor, plan: Any) -> Tensor:
        attention = layer.EncDecAttention
        q_1HTK = self._heads(attention.q(norm(layer.layer_norm, x_TD)))
        k_1HSK, v_1HSK = (self._heads(project(encoded_SD)) for project in (attention.k, attention.v))
        out = self._attend(q_1HTK, k_1HSK, v_1HSK, None, plan)
        return x_TD + layer.dropout(attention.o(out))  # type: ignore[no-any-return]

    def _heads(self, x: Tensor) -> Tensor:
        """(N, H * K) to (1, H, N, K)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(0, 1)[None]  # type: ignore[no-untyped-call,no-any-return]

    def _attend(
        self, q_1HNK: Tensor, k_1HNK: Tensor, v_1HNK: Tensor, add_bias: Callable[..., Tensor] | None, mask: BlockMask
    ) -> Tensor:
        """Returns (N, H * K)."""
        flex = _compiled() if q_1HNK.is_cuda else flex_attention
        out_1HNK: Tensor = flex(q_1HNK, k_1HNK, v_1HNK, score_mod=add_bias, block_mask=mask, scale=1.0)
        return out_1HNK[0].transpose(0, 1).flatten(1)


def bias_by_distance(stack: Any, length: int) -> Tensor:
    """Returns the relative position bias by distance (key - query): (H, 2 * length - 1).

    Distances begin with -(length - 1).
    """
    bias = stack.block[0].layer[0].SelfAttention.compute_bias(length, length)[0]
    return torch.cat([bias[:, 1:, 0].flip(-1), bias[:, 0, :]], dim=-1)


@functools.cache
def _compiled() -> Any:
    return torch.compile(flex_attention, dynamic=True)
