"""T5's forward over a flat row: linear layers see real tokens only, attention stays inside segments.

It runs on the stock `T5ForConditionalGeneration`: its own embedding, norm, linear and dropout
modules are called, so that adapters put in their place work, and gradients land in its parameters.
Only the order of the sums differs from transformers' forward. Attention weights get no dropout;
everything else that T5 drops is dropped.

Shapes: S source tokens, T target tokens of the row, d the model's width, H heads of width D.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from raytrain.training.data.batch import PackedBatch
from raytrain.training.model.attention import Layout, Side, attend, collect, layout, lowest, spread
from raytrain.training.model.loss import CROSS_ENTROPY, Objective, sum_by_task, token_losses

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration


@dataclass(frozen=True, slots=True)
class DeviceBatch:
    """A row on a device: `source` (S,), `decoder_input`, `labels` and `task_of_token` (T,), all int64."""

    source: Tensor
    decoder_input: Tensor
    labels: Tensor
    task_of_token: Tensor
    layout: Layout

    @classmethod
    def of(
        cls, row: PackedBatch, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> DeviceBatch:
        """Bring a row there; its padding, if it has any, is left behind."""
        place = torch.device(device)
        tasks = torch.from_numpy(row.task.astype("int64")).repeat_interleave(
            torch.from_numpy(row.target_lengths.astype("int64"))
        )
        return cls(
            source=torch.from_numpy(row.source[: row.source_tokens]).to(place),
            decoder_input=torch.from_numpy(row.decoder_input[: row.target_tokens]).to(place),
            labels=torch.from_numpy(row.labels[: row.target_tokens]).to(place),
            task_of_token=tasks.to(place),
            layout=layout(row, dtype=dtype, device=place),
        )


class Layer(nn.Module):
    """One of the model's layers in the flat forward; a module of its own so that it can be sharded as a whole."""

    def __init__(self, block: nn.Module, through: Callable[..., Tensor], *, checkpointing: bool) -> None:
        super().__init__()
        self.block, self._through, self._checkpointing = block, through, checkpointing

    def forward(self, *inputs: Any) -> Tensor:
        """`through(block, *inputs)`; its activations are kept, or computed again in the backward pass."""
        if not (self._checkpointing and torch.is_grad_enabled()):
            return self._through(self.block, *inputs)
        out: Tensor = checkpoint(self._through, self.block, *inputs, use_reentrant=False)
        return out


class Root(nn.Module):
    """The whole flat forward as a module: its own are the embeddings, the output layer and the last norms."""

    def __init__(self, ends: Iterable[nn.Module], layers: Iterable[Layer], through: Callable[..., Any]) -> None:
        super().__init__()
        self.ends, self.layers, self._through = nn.ModuleList(ends), nn.ModuleList(layers), through

    def forward(self, *inputs: Any) -> Any:
        """`through(*inputs)`."""
        return self._through(*inputs)


class PackedT5:
    """The flat forward over the parameters of `model`."""

    def __init__(
        self,
        model: T5ForConditionalGeneration,
        *,
        objective: Objective = CROSS_ENTROPY,
        task_weights: Tensor | None = None,
        checkpointing: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        """`task_weights` (tasks,): what a target token of a task counts. `checkpointing`: layers are computed again in
        the backward pass, nothing but their inputs is kept. `dtype`: what the layers compute in, where it is not that
        of the parameters."""
        self.model: Any = model
        self.heads: int = model.config.num_heads
        self.dtype: torch.dtype = dtype or model.shared.weight.dtype
        self._objective, self._task_weights = objective, task_weights
        encoder, decoder = self.model.encoder, self.model.decoder
        self._encoder = [Layer(block, self._encoder_layer, checkpointing=checkpointing) for block in encoder.block]
        self._decoder = [Layer(block, self._decoder_layer, checkpointing=checkpointing) for block in decoder.block]
        ends = [getattr(stack, name) for stack in (encoder, decoder) for name in ("embed_tokens", "final_layer_norm")]
        self.root = Root([model.shared, *ends, model.lm_head], [*self._encoder, *self._decoder], self._loss)

    def loss(self, batch: DeviceBatch, tasks: int) -> tuple[Tensor, Tensor]:
        """What is minimised, summed over the target tokens, and the sums of their cross entropies by task (tasks,),
        float64, without gradient."""
        return self.root(batch, tasks)  # type: ignore[no-any-return]

    def _loss(self, batch: DeviceBatch, tasks: int) -> tuple[Tensor, Tensor]:
        weights = None if self._task_weights is None else self._task_weights[batch.task_of_token]
        total, each = token_losses(
            self._cast(self.hidden(batch)),
            self.model.lm_head.weight,
            batch.labels,
            objective=self._objective,
            weights=weights,
        )
        return total, sum_by_task(each, batch.task_of_token, tasks)

    def hidden(self, batch: DeviceBatch) -> Tensor:
        """What the output layer takes, (T, d)."""
        memory = self._encode(batch)
        out = self._decode(batch, memory)
        scaled = getattr(self.model.config, "scale_decoder_outputs", False)
        return out * self.model.model_dim**-0.5 if scaled else out

    def _encode(self, batch: DeviceBatch) -> Tensor:
        stack, where = self.model.encoder, batch.layout
        longest = max((g.source for g in where.groups), default=0)
        bias = _position_bias(stack, longest)
        biases = [bias[:, : g.source, : g.source] for g in where.groups]
        x = stack.dropout(stack.embed_tokens(batch.source))
        for layer in self._encoder:
            x = layer(x, where, biases)
        return stack.dropout(stack.final_layer_norm(x))  # type: ignore[no-any-return]

    def _encoder_layer(self, block: Any, x: Tensor, where: Layout, biases: list[Tensor]) -> Tensor:
        own = block.layer[0]
        x = x + own.dropout(self._self_attention(own, x, where, biases, encoder=True))
        return block.layer[-1](x)  # type: ignore[no-any-return]

    def _decode(self, batch: DeviceBatch, memory: Tensor) -> Tensor:
        stack, where = self.model.decoder, batch.layout
        longest = max((g.target for g in where.groups), default=0)
        # The padding of a target stands behind it, so that the causal mask hides it as well.
        future = torch.full((longest, longest), lowest(self.dtype), dtype=self.dtype, device=memory.device).triu_(1)
        bias = _position_bias(stack, longest) + future
        biases = [bias[:, : g.target, : g.target] for g in where.groups]
        x = stack.dropout(stack.embed_tokens(batch.decoder_input))
        for layer in self._decoder:
            x = layer(x, memory, where, biases)
        return stack.dropout(stack.final_layer_norm(x))  # type: ignore[no-any-return]

    def _decoder_layer(self, block: Any, x: Tensor, memory: Tensor, where: Layout, biases: list[Tensor]) -> Tensor:
        own, cross = block.layer[0], block.layer[1]
        x = x + own.dropout(self._self_attention(own, x, where, biases, encoder=False))
        x = x + cross.dropout(self._cross_attention(cross, x, memory, where))
        return block.layer[-1](x)  # type: ignore[no-any-return]

    def _self_attention(self, layer: Any, x: Tensor, where: Layout, biases: list[Tensor], *, encoder: bool) -> Tensor:
        side = where.source if encoder else where.target
        attention, normed = layer.SelfAttention, layer.layer_norm(x)
        query, key, value = (self._spread(part(normed), side) for part in (attention.q, attention.k, attention.v))
        out = []
        for n, g in enumerate(where.groups):
            length = g.source if encoder else g.target
            q, k, v = (_slice(t, side.starts[n], g.segments, length) for t in (query, key, value))
            out.append(attend(q, k, v, biases[n], side.masks[n] if encoder else None))
        return attention.o(collect(torch.cat(out), side))  # type: ignore[no-any-return]

    def _cross_attention(self, layer: Any, x: Tensor, memory: Tensor, where: Layout) -> Tensor:
        attention = layer.EncDecAttention
        query = self._spread(attention.q(layer.layer_norm(x)), where.target)
        key, value = (self._spread(part(memory), where.source) for part in (attention.k, attention.v))
        out = []
        for n, g in enumerate(where.groups):
            q = _slice(query, where.target.starts[n], g.segments, g.target)
            k, v = (_slice(t, where.source.starts[n], g.segments, g.source) for t in (key, value))
            out.append(attend(q, k, v, None, where.source.masks[n]))
        return attention.o(collect(torch.cat(out), where.target))  # type: ignore[no-any-return]

    def _spread(self, x: Tensor, side: Side) -> Tensor:
        """(N, H * D) to (P, H, D)."""
        return spread(x, side).unflatten(-1, (self.heads, -1))  # type: ignore[no-untyped-call,no-any-return]

    def _cast(self, x: Tensor) -> Tensor:
        """Under autocast the output layer computes in its type too, though it is called by its weight."""
        kind = x.device.type
        return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def _slice(x: Tensor, start: int, segments: int, length: int) -> Tensor:
    """A group of the padded layout: (G, L, H, D)."""
    return x[start : start + segments * length].view(segments, length, *x.shape[1:])


def _position_bias(stack: Any, length: int) -> Tensor:
    """The stack's relative position bias, (H, length, length), from the first block's own table."""
    attention = stack.block[0].layer[0].SelfAttention
    return attention.compute_bias(length, length)[0]  # type: ignore[no-any-return]


def seed_row(seed: int, index: int) -> None:
    """Seed torch's generators for the dropout of global row `index`: no state to keep, whatever worker computes it."""
    digest = hashlib.sha256(f"{seed}\0dropout\0{index}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def set_dropout(model: T5ForConditionalGeneration, share: float) -> None:
    """Give every dropout of the model this share; its configuration goes on saying what it was made with."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
