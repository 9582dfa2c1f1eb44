"""T5's forward pass over a packed row: no padding, attention stays within segments.

It runs on the stock `T5ForConditionalGeneration`: that model's own embedding, norm, linear and
dropout modules are called, so that adapters in their place work, and gradients arrive in its
parameters. Only the order of the sums differs from transformers' forward pass. Attention weights
get no dropout; everything else that T5 drops is dropped.

Shape suffixes:
    S  source tokens of the packed row
    T  target tokens of the packed row
    N  S or T, whichever side is meant
    L  longest source or target of the row
    D  model width
    F  width of the feed-forward layer
    H  attention heads
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint
from transformers.activations import NewGELUActivation

from raytrain.model.families import scales_output
from raytrain.training.data.batch import PackedBatch
from raytrain.training.model.attention import AttentionPlan, RowLayout, attend, mask_value, row_layout
from raytrain.training.model.fused import gated_gelu, joined_linear, norm
from raytrain.training.model.loss import CROSS_ENTROPY, Objective, sum_by_task, token_losses

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration


@dataclass(frozen=True, slots=True)
class DeviceBatch:
    """A packed row on a device; all tensors are int64."""

    source_S: Tensor
    decoder_input_T: Tensor
    labels_T: Tensor
    task_T: Tensor
    """Number of the task that each target token belongs to."""
    layout: RowLayout

    @classmethod
    def of(
        cls, row: PackedBatch, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> DeviceBatch:
        """Copies a row to `device`. `dtype` is that of the attention masks."""
        place = torch.device(device)
        task_T = torch.from_numpy(row.task.astype("int64")).repeat_interleave(
            torch.from_numpy(row.target_lengths.astype("int64"))
        )
        return cls(
            source_S=torch.from_numpy(row.source).to(place),
            decoder_input_T=torch.from_numpy(row.decoder_input).to(place),
            labels_T=torch.from_numpy(row.labels).to(place),
            task_T=task_T.to(place),
            layout=row_layout(row, dtype=dtype, device=place),
        )


class Layer(nn.Module):
    """One of the model's blocks in the packed forward pass.

    A module, so that it can be sharded as a unit.
    """

    def __init__(self, block: nn.Module, compute: Callable[..., Tensor], *, checkpointing: bool) -> None:
        super().__init__()
        self.block, self._compute, self._checkpointing = block, compute, checkpointing

    def forward(self, *inputs: Any) -> Tensor:
        """`compute(block, *inputs)`.

        With checkpointing, activations are recomputed in the backward pass.
        """
        if not (self._checkpointing and torch.is_grad_enabled()):
            return self._compute(self.block, *inputs)
        out: Tensor = checkpoint(self._compute, self.block, *inputs, use_reentrant=False)
        return out


class PackedT5(nn.Module):
    """The packed forward pass and its loss, over the parameters of a stock model.

    Its submodules are `layers` and `ends`: embeddings, final norms and the output layer.
    """

    def __init__(
        self,
        model: T5ForConditionalGeneration,
        *,
        objective: Objective = CROSS_ENTROPY,
        task_weights: Tensor | None = None,
        checkpointing: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Wraps `model`, whose parameters stay its own.

        `task_weights` (tasks,) is what a target token of each task counts. With `checkpointing`
        only the inputs of layers are kept, and layers are recomputed in the backward pass. `dtype`
        is what layers compute in, if not the dtype of the parameters.
        """
        super().__init__()
        self._model: tuple[Any] = (model,)  # in a tuple, so that its modules are not registered twice
        self.heads: int = model.config.num_heads
        self._scaled = scales_output(model)
        self.dtype: torch.dtype = dtype or model.shared.weight.dtype
        self._objective, self._task_weights = objective, task_weights
        encoder, decoder = self.model.encoder, self.model.decoder
        self._encoder = tuple(Layer(b, self._encoder_layer, checkpointing=checkpointing) for b in encoder.block)
        self._decoder = tuple(Layer(b, self._decoder_layer, checkpointing=checkpointing) for b in decoder.block)
        ends = [getattr(stack, name) for stack in (encoder, decoder) for name in ("embed_tokens", "final_layer_norm")]
        self.ends = nn.ModuleList([model.shared, *ends, model.lm_head])
        self.layers = nn.ModuleList([*self._encoder, *self._decoder])

    @property
    def model(self) -> Any:
        """The stock model."""
        return self._model[0]

    def forward(self, batch: DeviceBatch, tasks: int) -> tuple[Tensor, Tensor]:
        """Returns the objective, and the cross entropy of each task, summed over target tokens.

        The latter has shape (tasks,), is float64 and carries no gradient.
        """
        source_SD, target_TD = self._embed(batch)
        hidden_TD = self._decode(batch, target_TD, self._encode(batch, source_SD))
        if self._scaled:
            hidden_TD = hidden_TD * self.model.model_dim**-0.5
        weights_T, labels_T, tokens = None, batch.labels_T, len(batch.labels_T)
        if self._task_weights is not None:
            weights_T = self._task_weights[batch.task_T]
        if extra := len(hidden_TD) - tokens:  # what `_embed` has added counts nothing
            weights_T = pad(torch.ones_like(hidden_TD[:tokens, 0]) if weights_T is None else weights_T, (0, extra))
            labels_T = pad(labels_T, (0, extra))
        total, losses_T = token_losses(
            _autocast(hidden_TD),
            self.model.lm_head.weight,
            labels_T,
            objective=self._objective,
            weights_N=weights_T,
        )
        return total, sum_by_task(losses_T[:tokens], batch.task_T, tasks)

    def _embed(self, batch: DeviceBatch) -> tuple[Tensor, Tensor]:
        """Looks up both sides at once: the gradient of a lookup is as large as the vocabulary.

        In bf16 on a CPU some positions are added that belong to no segment.
        """
        sides = [batch.source_S, batch.decoder_input_T]
        if compiles_shapes(batch.source_S.device.type, self.dtype):
            sides = [pad(ids, (0, rounded(len(ids)) - len(ids))) for ids in sides]
        encoder, decoder = self.model.encoder.embed_tokens, self.model.decoder.embed_tokens
        if encoder.weight is not decoder.weight:
            return encoder(sides[0]), decoder(sides[1])
        source_SD, target_TD = encoder(torch.cat(sides)).split([len(ids) for ids in sides])
        return source_SD, target_TD

    def _encode(self, batch: DeviceBatch, x_SD: Tensor) -> Tensor:
        stack, layout = self.model.encoder, batch.layout
        plan = AttentionPlan.within(layout.source, [g.segments for g in layout.groups], self.heads)
        biases = _position_biases(stack, max((g.source for g in layout.groups), default=0))
        x_SD = stack.dropout(x_SD)
        for layer, bias_HLL in zip(self._encoder, biases, strict=True):
            x_SD = layer(x_SD, plan, bias_HLL)
        return stack.dropout(norm(stack.final_layer_norm, x_SD))  # type: ignore[no-any-return]

    def _encoder_layer(self, block: Any, x_SD: Tensor, plan: AttentionPlan, bias_HLL: Tensor) -> Tensor:
        return _feed_forward(block.layer[-1], self._self_attention(block.layer[0], x_SD, plan, bias_HLL))

    def _decode(self, batch: DeviceBatch, x_TD: Tensor, encoded_SD: Tensor) -> Tensor:
        stack, layout = self.model.decoder, batch.layout
        segments = [g.segments for g in layout.groups]
        plan = AttentionPlan.within(layout.target, segments, self.heads, causal=True)
        cross = AttentionPlan.across(layout.target, layout.source, segments, self.heads)
        longest = max((g.target for g in layout.groups), default=0)
        blocked = mask_value(self.dtype)
        causal_LL = torch.full((longest, longest), blocked, dtype=self.dtype, device=encoded_SD.device).triu_(1)
        biases = _position_biases(stack, longest, causal_LL)
        x_TD = stack.dropout(x_TD)
        for layer, bias_HLL in zip(self._decoder, biases, strict=True):
            x_TD = layer(x_TD, encoded_SD, (plan, cross), bias_HLL)
        return stack.dropout(norm(stack.final_layer_norm, x_TD))  # type: ignore[no-any-return]

    def _decoder_layer(
        self, block: Any, x_TD: Tensor, encoded_SD: Tensor, plans: tuple[Any, Any], bias_HLL: Tensor
    ) -> Tensor:
        plan, cross = plans
        x_TD = self._self_attention(block.layer[0], x_TD, plan, bias_HLL)
        x_TD = self._cross_attention(block.layer[1], x_TD, encoded_SD, cross)
        return _feed_forward(block.layer[-1], x_TD)

    def _self_attention(self, layer: Any, x_ND: Tensor, plan: Any, bias_HLL: Tensor) -> Tensor:
        attention, normed_ND = layer.SelfAttention, norm(layer.layer_norm, x_ND)
        joined = joined_linear((attention.q, attention.k, attention.v), normed_ND)
        return x_ND + layer.dropout(attention.o(attend(plan, joined, None, bias_HLL)))  # type: ignore[no-any-return]

    def _cross_attention(self, layer: Any, x_TD: Tensor, encoded_SD: Tensor, plan: Any) -> Tensor:
        attention = layer.EncDecAttention
        queries = attention.q(norm(layer.layer_norm, x_TD))
        context = joined_linear((attention.k, attention.v), encoded_SD)
        return x_TD + layer.dropout(attention.o(attend(plan, queries, context, None)))  # type: ignore[no-any-return]


def _feed_forward(layer: Any, x_ND: Tensor) -> Tensor:
    dense, normed_ND = layer.DenseReluDense, norm(layer.layer_norm, x_ND)
    if isinstance(getattr(dense, "act", None), NewGELUActivation) and hasattr(dense, "wi_0"):
        inner_NF = gated_gelu(joined_linear((dense.wi_0, dense.wi_1), normed_ND))
        out_ND = dense.wo(dense.dropout(inner_NF))
    else:
        out_ND = dense(normed_ND)
    return x_ND + layer.dropout(out_ND)  # type: ignore[no-any-return]


def compiles_shapes(kind: str, dtype: torch.dtype) -> bool:
    """Whether products are compiled for each shape anew: bf16 on a CPU."""
    return kind == "cpu" and (dtype == torch.bfloat16 or torch.is_autocast_enabled(kind))


def rounded(tokens: int) -> int:
    """Rounds up by 3 % at most, so that rows of similar length have the same shapes.

    oneDNN compiles each shape of a bf16 product once, for 10 to 30 ms, and keeps the latest 1,024.
    """
    unit = 1 << max(0, tokens.bit_length() - 6)
    return -(-tokens // unit) * unit


def _autocast(x: Tensor) -> Tensor:
    """Casts as autocast would, which does not see a layer that is used by its weight alone."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def _position_biases(stack: Any, length: int, mask_LL: Tensor | None = None) -> Iterator[Tensor]:
    """Yields for each layer the relative position bias (H, length, length), with `mask_LL` added.

    The same for all layers or, in UMT5, each layer's own, made when the layer is reached.
    """
    for block in stack.block:
        attention = block.layer[0].SelfAttention
        if attention.has_relative_attention_bias:
            bias_HLL = attention.compute_bias(length, length)[0]
            if mask_LL is not None:
                bias_HLL = bias_HLL + mask_LL
        yield bias_HLL


def seed_dropout(seed: int, index: int) -> None:
    """Seeds torch's generators for packed row `index`: its dropout is the same everywhere."""
    digest = hashlib.sha256(f"{seed}\0dropout\0{index}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def set_dropout(model: T5ForConditionalGeneration, share: float) -> None:
    """Sets the rate of every dropout module; the model's configuration keeps the original rate."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
