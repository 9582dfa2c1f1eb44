"""Inference of a T5: encodes prompts once, then decodes token by token or scores given targets.

The arithmetic is that of transformers in another order: projections of the same input are one
matrix product, the keys and values of all cross attentions are computed in one product when a
prompt is encoded, and on a CPU weights lie in oneDNN's blocked layout. Prompts are padded for
attention alone; products and norms see their tokens one after the other. So logits equal those of
transformers up to float32 rounding.

With bf16, products and attention are computed in bf16, and what adds up over layers stays in fp32:
the residual stream, the norms and the output layer, whose logits would tie in bf16.

Shapes are written as suffixes of tensor names:

    B  requests in a batch, or slots being decoded
    C  target texts scored in one pass
    S  source (prompt) length
    T  target length, or positions decoded so far
    L  decoder layers
    H  attention heads
    K  size of a head
    D  model width
    V  vocabulary
    N  tokens of all prompts or targets, without padding
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from raytrain.model.elementwise import gated_gelu, inverse_rms
from raytrain.model.families import scales_output

_SHAPE_TOKENS = 32
"""Prompts in bf16 on a CPU have a multiple of so many tokens: oneDNN compiles its products for each
new shape, which takes longer than a few tokens more."""
_CANDIDATES = 8  # tokens with the largest bf16 logits
_LOGIT_ROWS = 1024  # positions whose logits are held at once while targets are scored
MASK_VALUE = torch.finfo(torch.float32).min / 2


@dataclass(frozen=True, slots=True)
class EncoderOutput:
    """Encoded prompts: keys and values of all cross attentions, and a mask added to scores."""

    cross_L2BHSK: Tensor
    mask_B11S: Tensor


@dataclass(frozen=True, slots=True)
class _Packing:
    """Where the tokens of B prompts lie, padded to S and without padding."""

    shape: tuple[int, int]
    place_N: Tensor
    """The place of each token among the B x S padded ones; at the end some may come again."""
    token_M: Tensor
    """The token at each of the B x S padded places; padding has the one before it, or the first."""

    @staticmethod
    def of(is_token_BS: Tensor, multiple: int) -> "_Packing":
        """Returns that of a mask; the number of tokens is rounded up to a multiple."""
        is_token_M = is_token_BS.flatten()
        place_N = is_token_M.nonzero().flatten()
        again = -len(place_N) % multiple
        token_M = (is_token_M.cumsum(0) - 1).clamp_(min=0)
        count, length = is_token_BS.shape
        return _Packing((count, length), torch.cat([place_N, place_N[:1].expand(again)]), token_M)

    def pad(self, x_N: Tensor) -> Tensor:
        """From (N, width) to (B, S, width)."""
        return x_N.index_select(0, self.token_M).view(*self.shape, -1)

    def pack(self, x_BS: Tensor) -> Tensor:
        """From (B, S, width) to (N, width)."""
        return x_BS.flatten(0, 1).index_select(0, self.place_N)


class _Linear:
    """A product with a constant weight in `dtype`, packed where oneDNN supports it."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, dtype: torch.dtype = torch.float32) -> None:
        weight = weight.detach().to(dtype).contiguous()
        self._dtype = dtype
        self._bias = None if bias is None else bias.detach().to(dtype)
        self._packed = weight.device.type == "cpu" and _can_pack()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, None) if self._packed else weight

    def __call__(self, x: Tensor) -> Tensor:
        x = x.to(self._dtype)
        if self._packed:
            y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
            return y
        return F.linear(x, self._weight, self._bias)


def _can_pack() -> bool:
    backend: Any = torch.backends.mkldnn
    return backend.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class _Norm:
    def __init__(self, module: Any) -> None:
        self._weight, self._epsilon = module.weight.detach(), module.variance_epsilon

    def __call__(self, x: Tensor) -> Tensor:
        return (x * inverse_rms(x, self._epsilon)).mul_(self._weight)


class _FeedForward:
    """The last layer of a block, with the activation of T5 1.0 or the gated one of T5 1.1."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        dense = layer.DenseReluDense
        self._norm = _Norm(layer.layer_norm)
        self._gated = hasattr(dense, "wi_0")
        first = torch.cat([dense.wi_0.weight, dense.wi_1.weight]) if self._gated else dense.wi.weight
        self._in = _Linear(first, dtype=dtype)
        self._out = _Linear(dense.wo.weight, dtype=dtype)
        self._act: Callable[[Tensor], Tensor] = dense.act
        self._is_gelu = type(dense.act).__name__ == "NewGELUActivation"

    def __call__(self, x: Tensor) -> Tensor:
        inner = self._in(self._norm(x))
        if not self._gated:
            return x + self._out(self._act(inner))
        if self._is_gelu:
            return x + self._out(gated_gelu(inner.flatten(0, -2))).view(x.shape)
        gate, value = inner.chunk(2, -1)
        return x + self._out(self._act(gate) * value)


class _SelfAttention:
    def __init__(self, layer: Any, heads: int, head_size: int, dtype: torch.dtype) -> None:
        attention = layer.SelfAttention
        self._heads, self._head_size = heads, head_size
        self._norm = _Norm(layer.layer_norm)
        self._qkv = _Linear(torch.cat([attention.q.weight, attention.k.weight, attention.v.weight]), dtype=dtype)
        self._out = _Linear(attention.o.weight, dtype=dtype)

    def __call__(self, x: Tensor, bias_BHTT: Tensor, packing: _Packing | None = None) -> Tensor:
        """Attention of every position to every other; the bias may have B = 1.

        `x` and what is returned have the shape (B, T, D), or (N, D) if they are packed.
        """
        qkv = self._qkv(self._norm(x))
        qkv_BT = qkv if packing is None else packing.pad(qkv)
        qkv_BT3HK = qkv_BT.view(*qkv_BT.shape[:2], 3, self._heads, self._head_size)
        q_BHTK, k_BHTK, v_BHTK = qkv_BT3HK.permute(2, 0, 3, 1, 4)
        mixed_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, attn_mask=bias_BHTT, scale=1.0)
        mixed_BT = _merge_heads(mixed_BHTK)
        return x + self._out(mixed_BT if packing is None else packing.pack(mixed_BT))

    def step(self, x_BD: Tensor, slots_B: Tensor, at_B: Tensor, cache_2BHTK: Tensor, bias_BH1T: Tensor) -> Tensor:
        """Attention of one new position per slot to the first T of the cache, shape (B, D).

        Writes the slots' keys and values into the cache at positions `at_B`.
        """
        length, (keys_BHTK, values_BHTK) = bias_BH1T.shape[-1], cache_2BHTK
        qkv_B3HK = self._qkv(self._norm(x_BD)).view(len(x_BD), 3, self._heads, self._head_size)
        q_BHK, k_BHK, v_BHK = qkv_B3HK.unbind(1)
        keys_BHTK[slots_B, :, at_B], values_BHTK[slots_B, :, at_B] = k_BHK, v_BHK
        mixed = _attend_one(q_BHK, keys_BHTK[:, :, :length], values_BHTK[:, :, :length], bias_BH1T)
        return x_BD + self._out(mixed)


class _CrossAttention:
    def __init__(self, layer: Any, heads: int, head_size: int, dtype: torch.dtype) -> None:
        self._heads, self._head_size = heads, head_size
        self._norm = _Norm(layer.layer_norm)
        self._queries = _Linear(layer.EncDecAttention.q.weight, dtype=dtype)
        self._out = _Linear(layer.EncDecAttention.o.weight, dtype=dtype)

    def __call__(self, x_CTD: Tensor, k_CHSK: Tensor, v_CHSK: Tensor, mask_C11S: Tensor) -> Tensor:
        """Attention of every target position to its source, shape (C, T, D)."""
        count, length, _ = x_CTD.shape
        q_CTHK = self._queries(self._norm(x_CTD)).view(count, length, self._heads, self._head_size)
        mixed_CHTK = F.scaled_dot_product_attention(
            q_CTHK.transpose(1, 2), k_CHSK, v_CHSK, attn_mask=mask_C11S, scale=1.0
        )
        return x_CTD + self._out(_merge_heads(mixed_CHTK))

    def step(self, x_BD: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, mask_B11S: Tensor) -> Tensor:
        """Attention of one position per slot to its source, shape (B, D)."""
        q_BHK = self._queries(self._norm(x_BD)).view(len(x_BD), self._heads, self._head_size)
        return x_BD + self._out(_attend_one(q_BHK, k_BHSK, v_BHSK, mask_B11S))


class _Head:
    """The output layer in fp32. Looks for the largest logits in bf16 first where that is faster."""

    def __init__(self, head: Any, dtype: torch.dtype, scale: float) -> None:
        self._weight_VD, self._bias_V, self._scale = head.weight.detach(), head.bias, scale
        self._exact = _Linear(self._weight_VD, self._bias_V)
        is_rounded = dtype == torch.bfloat16 and self._weight_VD.device.type == "cpu"
        self._rounded = _Linear(self._weight_VD, self._bias_V, dtype=dtype) if is_rounded else None

    def logits(self, x: Tensor) -> Tensor:
        """All logits, shape (..., V)."""
        return self._exact(self._scaled(x))

    def best(self, x_ND: Tensor) -> Tensor:
        """The token with the largest fp32 logit at each position, shape (N,).

        It is looked for among those with the largest bf16 logits, unless more than these are within
        what bf16 may round away. In a step of decoding, weights are read once for few positions, so
        half the bytes take about half the time.
        """
        x_ND = self._scaled(x_ND)
        if self._rounded is None:
            return self._exact(x_ND).max(dim=-1).indices
        rounded_NC, tokens_NC = self._rounded(x_ND).float().topk(min(_CANDIDATES, len(self._weight_VD)))
        margin_N = rounded_NC[:, 0].abs() * 2**-6  # four steps of bf16's 8 bits
        if bool((rounded_NC[:, -1] >= rounded_NC[:, 0] - margin_N).any()):
            return self._exact(x_ND).max(dim=-1).indices
        exact_NC = (self._weight_VD[tokens_NC] @ x_ND[:, :, None]).squeeze(-1)
        if self._bias_V is not None:
            exact_NC += self._bias_V[tokens_NC]
        return tokens_NC.gather(1, exact_NC.max(dim=-1, keepdim=True).indices).squeeze(1)

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self._scale == 1.0 else x * self._scale


class T5Engine:
    """A model of T5's families, given in fp32, for inference. Holds copies of its weights.

    `longest_input` and `longest_output` bound the lengths of prompts and of targets. `dtype` is
    that of products and attention: float32 or bfloat16.
    """

    def __init__(
        self, model: Any, *, longest_input: int, longest_output: int, dtype: torch.dtype = torch.float32
    ) -> None:
        config = model.config
        heads, size = config.num_heads, config.d_kv
        self.heads, self.head_size, self.layers = heads, size, config.num_decoder_layers
        self.start_token = 0 if config.decoder_start_token_id is None else int(config.decoder_start_token_id)
        encoder, decoder = model.encoder, model.decoder
        self.device = model.shared.weight.device
        self._shape_tokens = _SHAPE_TOKENS if dtype == torch.bfloat16 and self.device.type == "cpu" else 1
        self.dtype = dtype
        self._embedding_VD = model.shared.weight.detach()
        self._encoder = [
            (_SelfAttention(b.layer[0], heads, size, dtype), _FeedForward(b.layer[-1], dtype)) for b in encoder.block
        ]
        self._decoder = [
            (
                _SelfAttention(b.layer[0], heads, size, dtype),
                _CrossAttention(b.layer[1], heads, size, dtype),
                _FeedForward(b.layer[-1], dtype),
            )
            for b in decoder.block
        ]
        cross = [b.layer[1].EncDecAttention for b in decoder.block]
        self._cross_keys_values = _Linear(torch.cat([w for a in cross for w in (a.k.weight, a.v.weight)]), dtype=dtype)
        self._encoder_norm, self._decoder_norm = (_Norm(stack.final_layer_norm) for stack in (encoder, decoder))
        self._head = _Head(model.lm_head, dtype, config.d_model**-0.5 if scales_output(model) else 1.0)
        with torch.inference_mode():
            self._encoder_biases = _PositionBiases(encoder, longest_input + -longest_input % self._shape_tokens)
            self._decoder_biases = _PositionBiases(decoder, longest_output)

    def encode(self, ids_BS: Tensor, lengths_B: Tensor) -> EncoderOutput:
        """Encodes prompts of `lengths_B` tokens each, padded to S."""
        ids_BS = F.pad(ids_BS, (0, -ids_BS.shape[1] % self._shape_tokens))
        count, length = ids_BS.shape
        is_token_BS = torch.arange(length, device=self.device) < lengths_B[:, None]
        mask_BS = torch.zeros(is_token_BS.shape, device=self.device, dtype=self.dtype)
        mask_BS.masked_fill_(~is_token_BS, MASK_VALUE)
        mask_B11S = mask_BS[:, None, None, :]
        packing = None if bool(is_token_BS.all()) else _Packing.of(is_token_BS, self._shape_tokens)
        added_B11S = None if packing is None else mask_B11S
        biases_BHSS = self._encoder_biases.each(lambda bias: bias.square(length, added_B11S).to(self.dtype))
        ids = ids_BS if packing is None else ids_BS.flatten()[packing.place_N]
        x = F.embedding(ids, self._embedding_VD)
        for (attention, feed_forward), bias_BHSS in zip(self._encoder, biases_BHSS, strict=True):
            x = feed_forward(attention(x, bias_BHSS, packing))
        cross = self._cross_keys_values(self._encoder_norm(x))
        cross_BS = cross if packing is None else packing.pad(cross)
        cross_BSL2HK = cross_BS.view(count, length, self.layers, 2, self.heads, self.head_size)
        return EncoderOutput(cross_BSL2HK.permute(2, 3, 0, 4, 1, 5), mask_B11S)

    def score_targets(self, encoded: EncoderOutput, prompts_C: Tensor, ids_CT: Tensor, lengths_C: Tensor) -> Tensor:
        """Returns the loss of each target in nats, summed over its tokens, shape (C,).

        Target i is the first `lengths_C[i]` (at least 1) ids of row i; it belongs to prompt
        `prompts_C[i]` of `encoded`.
        """
        x_CTD = self._decode(encoded, prompts_C, ids_CT)
        is_token_CT = torch.arange(ids_CT.shape[1], device=self.device) < lengths_C[:, None]
        losses_CT = torch.zeros(ids_CT.shape, device=self.device)
        losses_CT[is_token_CT] = self._losses(x_CTD[is_token_CT], ids_CT[is_token_CT])
        return losses_CT.double().sum(dim=1)

    def score_greedy(
        self, encoded: EncoderOutput, prompts_C: Tensor, ids_CT: Tensor, lengths_C: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the losses of `score_targets`, and of each target whether it is the greedy one.

        Both have shape (C,). A target is greedy if each of its tokens has the largest logit.
        """
        x_CTD = self._decode(encoded, prompts_C, ids_CT)
        is_token_CT = torch.arange(ids_CT.shape[1], device=self.device) < lengths_C[:, None]
        losses_CT = torch.zeros(ids_CT.shape, device=self.device)
        missed_CT = torch.zeros_like(is_token_CT)
        ids_N = ids_CT[is_token_CT]
        losses_CT[is_token_CT] = self._losses(x_CTD[is_token_CT], ids_N)
        missed_CT[is_token_CT] = self._best(x_CTD[is_token_CT]) != ids_N
        return losses_CT.double().sum(dim=1), ~missed_CT.any(dim=1)

    def _decode(self, encoded: EncoderOutput, prompts_C: Tensor, ids_CT: Tensor) -> Tensor:
        """Runs the decoder over whole targets; returns its last layer's output, (C, T, D)."""
        length = ids_CT.shape[1]
        inputs_CT = torch.cat([torch.full_like(ids_CT[:, :1], self.start_token), ids_CT[:, :-1]], dim=1)
        causal_TT = torch.full((length, length), MASK_VALUE, device=self.device).triu_(1)
        biases_1HTT = self._decoder_biases.each(lambda bias: bias.square(length, causal_TT).to(self.dtype))
        mask_C11S = encoded.mask_B11S[prompts_C]
        x_CTD = F.embedding(inputs_CT, self._embedding_VD)
        for layer, (bias_1HTT, (attention, cross, feed_forward)) in enumerate(
            zip(biases_1HTT, self._decoder, strict=True)
        ):
            x_CTD = attention(x_CTD, bias_1HTT)
            k_BHSK, v_BHSK = encoded.cross_L2BHSK[layer]
            x_CTD = cross(x_CTD, k_BHSK[prompts_C], v_BHSK[prompts_C], mask_C11S)
            x_CTD = feed_forward(x_CTD)
        return x_CTD

    def next_tokens(self, tokens_B: Tensor, at_B: Tensor, cache: "KVCache", length: int, source_length: int) -> Tensor:
        """Returns the most likely next token of the first B slots, shape (B,); extends the cache.

        `tokens_B` are the slots' last tokens and `at_B` their positions (0 is the start token), all
        below `length`. No slot's prompt is longer than `source_length`. Whatever the cache holds
        beyond these lengths is ignored.
        """
        slots = len(tokens_B)
        slots_B = torch.arange(slots, device=self.device)
        positions_T = torch.arange(length, device=self.device)
        is_future_B1T = (positions_T > at_B[:, None])[:, None]
        biases_BHT = self._decoder_biases.each(
            lambda bias: bias.rows(at_B, length).masked_fill(is_future_B1T, MASK_VALUE).to(self.dtype)
        )
        mask_B11S = cache.mask_B11S[:slots, ..., :source_length]
        x_BD = F.embedding(tokens_B, self._embedding_VD)
        for layer, (bias_BHT, (attention, cross, feed_forward)) in enumerate(
            zip(biases_BHT, self._decoder, strict=True)
        ):
            x_BD = attention.step(x_BD, slots_B, at_B, cache.self_L2BHTK[layer, :, :slots], bias_BHT[:, :, None])
            keys_BHSK, values_BHSK = cache.cross_L2BHSK[layer, :, :slots, :, :source_length]
            x_BD = feed_forward(cross.step(x_BD, keys_BHSK, values_BHSK, mask_B11S))
        return self._head.best(self._decoder_norm(x_BD))

    def _losses(self, x_ND: Tensor, ids_N: Tensor) -> Tensor:
        """Cross entropy of each target token, shape (N,); computes few positions at a time."""
        parts = zip(torch.split(x_ND, _LOGIT_ROWS), torch.split(ids_N, _LOGIT_ROWS), strict=True)
        return torch.cat([F.cross_entropy(self._logits(x), ids, reduction="none") for x, ids in parts])

    def _best(self, x_ND: Tensor) -> Tensor:
        """The token with the largest logit at each position, shape (N,)."""
        return torch.cat([self._logits(x).argmax(dim=-1) for x in torch.split(x_ND, _LOGIT_ROWS)])

    def _logits(self, x: Tensor) -> Tensor:
        return self._head.logits(self._decoder_norm(x))


def _merge_heads(x_BHTK: Tensor) -> Tensor:
    """Concatenates the heads, shape (B, T, H x K)."""
    count, heads, length, size = x_BHTK.shape
    return x_BHTK.transpose(1, 2).reshape(count, length, heads * size)


def _attend_one(q_BHK: Tensor, keys_BHTK: Tensor, values_BHTK: Tensor, bias_BH1T: Tensor) -> Tensor:
    """Attention of one query per slot, shape (B, H x K)."""
    mixed_BH1K = F.scaled_dot_product_attention(
        q_BHK[:, :, None], keys_BHTK, values_BHTK, attn_mask=bias_BH1T, scale=1.0
    )
    return mixed_BH1K.reshape(len(q_BHK), -1)


class _PositionBiases:
    """Relative position biases of a stack: one for all its layers, or, in UMT5, one each."""

    def __init__(self, stack: Any, length: int) -> None:
        attentions = [block.layer[0].SelfAttention for block in stack.block]
        self._own = [_PositionBias(a, length) for a in attentions if a.has_relative_attention_bias]
        self._layers = len(attentions)

    def each(self, make: Callable[["_PositionBias"], Tensor]) -> Iterator[Tensor]:
        """Yields for each layer what `make` makes of its bias; what all share is made once."""
        return repeat(make(self._own[0]), self._layers) if len(self._own) == 1 else map(make, self._own)


class _PositionBias:
    """Relative position bias of a layer; it depends only on the distance of key and query."""

    def __init__(self, attention: Any, length: int) -> None:
        compute = attention.compute_bias
        behind, ahead = compute(length, 1)[0, :, :, 0], compute(1, length)[0, :, 0, :]
        self._zero = length - 1  # column of distance 0; columns run from -(length - 1) to length - 1
        self._table = torch.cat([behind.flip(1), ahead[:, 1:]], dim=1).detach()

    def square(self, length: int, mask: Tensor | None = None) -> Tensor:
        """Returns the bias of keys for queries, shape (1, H, length, length), plus `mask`."""
        positions = torch.arange(length, device=self._table.device)
        bias_1HTT = self._table[:, self._zero + positions[None] - positions[:, None]][None]
        return bias_1HTT if mask is None else bias_1HTT + mask

    def rows(self, at_B: Tensor, length: int) -> Tensor:
        """Returns the bias of the first `length` keys for queries at `at_B`, as (B, H, length)."""
        positions = torch.arange(length, device=self._table.device)
        return self._table[:, self._zero + positions[None] - at_B[:, None]].transpose(0, 1)


class KVCache:
    """Self- and cross-attention keys and values of `slots` requests that are being decoded.

    There is room for `target_length` generated tokens and `source_length` prompt tokens per slot.
    """

    def __init__(self, engine: T5Engine, slots: int, *, target_length: int, source_length: int) -> None:
        def empty(positions: int) -> Tensor:
            shape = (engine.layers, 2, slots, engine.heads, positions, engine.head_size)
            return torch.zeros(shape, device=engine.device, dtype=engine.dtype)

        self.self_L2BHTK, self.cross_L2BHSK = empty(target_length), empty(source_length)
        masked = {"fill_value": MASK_VALUE, "dtype": engine.dtype, "device": engine.device}
        self.mask_B11S = torch.full((slots, 1, 1, source_length), **masked)

    def fill(self, slot: int, encoded: EncoderOutput, prompt: int, source_length: int) -> None:
        """Puts prompt number `prompt` of `encoded`, `source_length` tokens long, into `slot`."""
        self.cross_L2BHSK[:, :, slot, :, :source_length] = encoded.cross_L2BHSK[:, :, prompt, :, :source_length]
        self.mask_B11S[slot] = MASK_VALUE
        self.mask_B11S[slot, ..., :source_length] = 0.0

    def move(self, source: int, target: int, *, target_length: int, source_length: int) -> None:
        """Copies slot `source`, with `target_length` tokens generated so far, to slot `target`."""
        self.self_L2BHTK[:, :, target, :, :target_length] = self.self_L2BHTK[:, :, source, :, :target_length]
        self.cross_L2BHSK[:, :, target, :, :source_length] = self.cross_L2BHSK[:, :, source, :, :source_length]
        self.mask_B11S[target] = self.mask_B11S[source]
