"""A T5 laid out for answering: every text is read once, then written token by token or judged in one pass.

The arithmetic is transformers' own in another order: projections that read the same input are one
product, the keys and values of all cross attentions are computed in one go when a text is read, and
on a CPU weights lie in oneDNN's blocked layout. So logits equal transformers' up to the rounding of
float32.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_HEAD_ROWS = 1024  # positions whose logits exist at once when targets are judged
NEVER = torch.finfo(torch.float32).min / 2


@dataclass(frozen=True, slots=True)
class Memory:
    """Texts that were read: cross keys and values, and which positions are real.

    `cross` has shape (layers, 2, texts, heads, length, size of a head), `mask` (texts, 1, 1,
    length) is added to scores.
    """

    cross: Tensor
    mask: Tensor


class _Linear:
    """A product with a weight that never changes, packed where oneDNN can."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        weight = weight.detach().contiguous()
        self._bias = None if bias is None else bias.detach()
        self._packed = weight.device.type == "cpu" and _can_pack()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, None) if self._packed else weight

    def __call__(self, x: Tensor) -> Tensor:
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
        return F.rms_norm(x, self._weight.shape, self._weight, self._epsilon)


class _FeedForward:
    """The last layer of a block, with T5 1.0's activation or 1.1's gate."""

    def __init__(self, layer: Any) -> None:
        dense = layer.DenseReluDense
        self._norm = _Norm(layer.layer_norm)
        self._gated = hasattr(dense, "wi_0")
        self._in = _Linear(torch.cat([dense.wi_0.weight, dense.wi_1.weight]) if self._gated else dense.wi.weight)
        self._out = _Linear(dense.wo.weight)
        self._act: Callable[[Tensor], Tensor] = dense.act
        if type(dense.act).__name__ == "NewGELUActivation":  # the same function, in one operation
            self._act = lambda x: F.gelu(x, approximate="tanh")

    def __call__(self, x: Tensor) -> Tensor:
        inner = self._in(self._norm(x))
        if self._gated:
            gate, value = inner.chunk(2, -1)
            return x + self._out(self._act(gate) * value)
        return x + self._out(self._act(inner))


class _SelfAttention:
    def __init__(self, layer: Any) -> None:
        attention = layer.SelfAttention
        self.norm = _Norm(layer.layer_norm)
        self.queries_keys_values = _Linear(
            torch.cat([attention.q.weight, attention.k.weight, attention.v.weight]),
        )
        self.out = _Linear(attention.o.weight)


class _CrossAttention:
    def __init__(self, layer: Any) -> None:
        self.norm = _Norm(layer.layer_norm)
        self.queries = _Linear(layer.EncDecAttention.q.weight)
        self.out = _Linear(layer.EncDecAttention.o.weight)


class Inference:
    """A T5ForConditionalGeneration in fp32, for reading, writing and judging texts.

    Holds copies of its weights.
    """

    def __init__(self, model: Any, *, longest_input: int, longest_output: int) -> None:
        config = model.config
        self.heads, self.size, self.layers = config.num_heads, config.d_kv, config.num_decoder_layers
        self.start = 0 if config.decoder_start_token_id is None else int(config.decoder_start_token_id)
        self.vocabulary = int(model.lm_head.weight.shape[0])
        encoder, decoder = model.encoder, model.decoder
        self.device = model.shared.weight.device
        self._embedding = model.shared.weight.detach()
        self._encoder = [(_SelfAttention(b.layer[0]), _FeedForward(b.layer[-1])) for b in encoder.block]
        self._decoder = [
            (_SelfAttention(b.layer[0]), _CrossAttention(b.layer[1]), _FeedForward(b.layer[-1])) for b in decoder.block
        ]
        cross = [b.layer[1].EncDecAttention for b in decoder.block]
        self._cross = _Linear(torch.cat([w for a in cross for w in (a.k.weight, a.v.weight)]))
        self._encoder_norm, self._decoder_norm = (_Norm(stack.final_layer_norm) for stack in (encoder, decoder))
        self._head = _Linear(model.lm_head.weight, model.lm_head.bias)
        self._scale = config.d_model**-0.5 if config.scale_decoder_outputs else 1.0
        with torch.inference_mode():
            self._encoder_bias = _Bias(encoder, longest_input)
            self._decoder_bias = _Bias(decoder, longest_output)

    def read(self, ids: Tensor, lengths: Tensor) -> Memory:
        """Texts of shape (texts, length), of `lengths` real tokens each; at most `longest_input` long."""
        texts, length = ids.shape
        real = torch.arange(length, device=self.device) < lengths[:, None]
        mask = torch.zeros(real.shape, device=self.device).masked_fill_(~real, NEVER)[:, None, None, :]
        bias = self._encoder_bias.square(length)
        if not bool(real.all()):
            bias = bias + mask
        x = F.embedding(ids, self._embedding)
        for attention, feed_forward in self._encoder:
            parts = attention.queries_keys_values(attention.norm(x)).view(texts, length, 3, self.heads, self.size)
            q, k, v = parts.permute(2, 0, 3, 1, 4)
            x = x + attention.out(self._joined(F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)))
            x = feed_forward(x)
        cross = self._cross(self._encoder_norm(x)).view(texts, length, self.layers, 2, self.heads, self.size)
        return Memory(cross.permute(2, 3, 0, 4, 1, 5), mask)

    def judge(self, memory: Memory, texts: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
        """Loss in nats, summed over its tokens, of each target, shape (targets,).

        Target i, row i of `targets` (padded behind its `lengths[i]`, at least 1, at most
        `longest_output`), is an answer to text `texts[i]` of the memory.
        """
        count, length = targets.shape
        written = torch.cat([torch.full_like(targets[:, :1], self.start), targets[:, :-1]], dim=1)
        future = torch.full((length, length), NEVER, device=self.device).triu_(1)
        bias = self._decoder_bias.square(length) + future  # what is behind a target cannot be seen from it
        mask = memory.mask[texts]
        x = F.embedding(written, self._embedding)
        for layer, (attention, cross, feed_forward) in enumerate(self._decoder):
            parts = attention.queries_keys_values(attention.norm(x)).view(count, length, 3, self.heads, self.size)
            q, k, v = parts.permute(2, 0, 3, 1, 4)
            x = x + attention.out(self._joined(F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)))
            q = cross.queries(cross.norm(x)).view(count, length, self.heads, self.size).transpose(1, 2)
            k, v = memory.cross[layer, 0][texts], memory.cross[layer, 1][texts]
            x = x + cross.out(self._joined(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)))
            x = feed_forward(x)
        real = torch.arange(length, device=self.device) < lengths[:, None]
        losses = torch.zeros(targets.shape, device=self.device)
        hidden_parts, wanted_parts = (torch.split(part[real], _HEAD_ROWS) for part in (x, targets))
        losses[real] = torch.cat(
            [
                F.cross_entropy(self._logits(hidden), wanted, reduction="none")
                for hidden, wanted in zip(hidden_parts, wanted_parts, strict=True)
            ]
        )
        return losses.double().sum(dim=1)

    def write(self, tokens: Tensor, at: Tensor, cache: "Cache", written: int, length: int) -> Tensor:
        """Logits of the next token of the first slots, shape (slots, vocabulary); keys and values join the cache.

        `tokens` are the last ones of these slots, `at` their places (0 is the start), of which none
        reaches `written`; no slot's text is longer than `length`. What lies beyond in the cache is
        not looked at.
        """
        slots = len(tokens)
        rows = torch.arange(slots, device=self.device)
        past = torch.arange(written, device=self.device)
        bias = self._decoder_bias.rows(at, written).masked_fill((past > at[:, None])[:, None], NEVER)
        mask = cache.mask[:slots, ..., :length]
        x = F.embedding(tokens, self._embedding)
        for layer, (attention, cross, feed_forward) in enumerate(self._decoder):
            parts = attention.queries_keys_values(attention.norm(x)).view(slots, 3, self.heads, self.size)
            q, k, v = parts.unbind(1)
            keys, values = cache.own[layer, :, :slots]
            keys[rows, :, at], values[rows, :, at] = k, v
            x = x + attention.out(_look(q, keys[:, :, :written], values[:, :, :written], bias[:, :, None]))
            q = cross.queries(cross.norm(x)).view(slots, self.heads, self.size)
            keys, values = cache.cross[layer, :, :slots]
            x = x + cross.out(_look(q, keys[:, :, :length], values[:, :, :length], mask))
            x = feed_forward(x)
        return self._logits(x)

    def _logits(self, hidden: Tensor) -> Tensor:
        x = self._decoder_norm(hidden)
        return self._head(x if self._scale == 1.0 else x * self._scale)

    def _joined(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], self.heads * self.size)


def _look(q: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """Attention of one query a slot, shape (slots, heads x size)."""
    found = F.scaled_dot_product_attention(q[:, :, None], keys, values, attn_mask=bias, scale=1.0)
    return found.reshape(len(q), -1)


class _Bias:
    """A stack's relative position bias, which depends on the distance of key and query alone."""

    def __init__(self, stack: Any, length: int) -> None:
        compute = stack.block[0].layer[0].SelfAttention.compute_bias
        behind, ahead = compute(length, 1)[0, :, :, 0], compute(1, length)[0, :, 0, :]
        self._zero = length - 1
        self._table = torch.cat([behind.flip(1), ahead[:, 1:]], dim=1).detach()  # (heads, -length < distance < length)

    def square(self, length: int) -> Tensor:
        """Every key from every query, shape (1, heads, length, length)."""
        places = torch.arange(length, device=self._table.device)
        return self._table[:, self._zero + places[None] - places[:, None]][None]

    def rows(self, at: Tensor, length: int) -> Tensor:
        """The first `length` keys from queries at some places, shape (queries, heads, length)."""
        places = torch.arange(length, device=self._table.device)
        return self._table[:, self._zero + places[None] - at[:, None]].transpose(0, 1)


class Cache:
    """Keys and values of `slots` answers being written, and of the texts that they answer."""

    def __init__(self, model: Inference, slots: int, *, written: int, length: int) -> None:
        def empty(positions: int) -> Tensor:
            shape = (model.layers, 2, slots, model.heads, positions, model.size)
            return torch.zeros(shape, device=model.device)

        self.own, self.cross = empty(written), empty(length)
        self.mask = torch.full((slots, 1, 1, length), NEVER, device=model.device)

    def take(self, slot: int, memory: Memory, text: int, length: int) -> None:
        """Let `slot` answer text number `text` of a memory, `length` tokens long."""
        self.cross[:, :, slot, :, :length] = memory.cross[:, :, text, :, :length]
        self.mask[slot] = NEVER
        self.mask[slot, ..., :length] = 0.0

    def move(self, source: int, target: int, *, written: int, length: int) -> None:
        """Let slot `target` go on with what `source` holds: `written` tokens, on a text of `length`."""
        self.own[:, :, target, :, :written] = self.own[:, :, source, :, :written]
        self.cross[:, :, target, :, :length] = self.cross[:, :, source, :, :length]
        self.mask[target] = self.mask[source]
