"""T5's forward pass over a packed row: no padding, attention stays within segments.

It runs on the stock `T5ForConditionalGeneration`: that model's own embedding, norm, linear and
dropout modules are called, so that adapters in their place work, and gradients arrive in its
parameters. Only the order of the sums differs from transformers' forward pass. Attention weights
get no dropout; everything else that T5 drops is dropped.

Shape suffixes:
    S  source tokens of the packed row
    T  target tokens of the packed row
    N  S or T, whichever side is meant
    M  positions of that side in the padded layout
    G  segments in a group, Q and C padded query and key length of a group
    D  model width
    H  attention heads
    K  size of a head
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from raytrain.model.families import scales_output
from raytrain.training.data.batch import PackedBatch
from raytrain.training.model.attention import (
    PaddedLayout,
    RowLayout,
    SegmentGroup,
    attend,
    mask_value,
    pad,
    row_layout,
    unpad,
)
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
        encoded_SD = self._encode(batch)
        hidden_TD = self._decode(batch, encoded_SD)
        if self._scaled:
            hidden_TD = hidden_TD * self.model.model_dim**-0.5
        weights_T = None if self._task_weights is None else self._task_weights[batch.task_T]
        total, losses_T = token_losses(
            _autocast(hidden_TD),
            self.model.lm_head.weight,
            batch.labels_T,
            objective=self._objective,
            weights_N=weights_T,
        )
        return total, sum_by_task(losses_T, batch.task_T, tasks)

    def _encode(self, batch: DeviceBatch) -> Tensor:
        stack, layout = self.model.encoder, batch.layout
        biases = _position_biases(stack, [g.source for g in layout.groups])
        x_SD = stack.dropout(stack.embed_tokens(batch.source_S))
        for layer, by_group in zip(self._encoder, biases, strict=True):
            x_SD = layer(x_SD, layout, by_group)
        return stack.dropout(stack.final_layer_norm(x_SD))  # type: ignore[no-any-return]

    def _encoder_layer(self, block: Any, x_SD: Tensor, layout: RowLayout, biases: list[Tensor]) -> Tensor:
        attention = block.layer[0]
        x_SD = x_SD + attention.dropout(self._self_attention(attention, x_SD, layout, biases, encoder=True))
        return block.layer[-1](x_SD)  # type: ignore[no-any-return]

    def _decode(self, batch: DeviceBatch, encoded_SD: Tensor) -> Tensor:
        stack, layout = self.model.decoder, batch.layout
        lengths = [g.target for g in layout.groups]
        longest = max(lengths, default=0)
        # The padding of a target comes after its tokens, so the causal mask hides it as well.
        blocked = mask_value(self.dtype)
        causal_QC = torch.full((longest, longest), blocked, dtype=self.dtype, device=encoded_SD.device).triu_(1)
        biases = _position_biases(stack, lengths, causal_QC)
        x_TD = stack.dropout(stack.embed_tokens(batch.decoder_input_T))
        for layer, by_group in zip(self._decoder, biases, strict=True):
            x_TD = layer(x_TD, encoded_SD, layout, by_group)
        return stack.dropout(stack.final_layer_norm(x_TD))  # type: ignore[no-any-return]

    def _decoder_layer(
        self, block: Any, x_TD: Tensor, encoded_SD: Tensor, layout: RowLayout, biases: list[Tensor]
    ) -> Tensor:
        attention, cross = block.layer[0], block.layer[1]
        x_TD = x_TD + attention.dropout(self._self_attention(attention, x_TD, layout, biases, encoder=False))
        x_TD = x_TD + cross.dropout(self._cross_attention(cross, x_TD, encoded_SD, layout))
        return block.layer[-1](x_TD)  # type: ignore[no-any-return]

    def _self_attention(
        self, layer: Any, x_ND: Tensor, layout: RowLayout, biases: list[Tensor], *, encoder: bool
    ) -> Tensor:
        side = layout.source if encoder else layout.target
        attention, normed_ND = layer.SelfAttention, layer.layer_norm(x_ND)
        q_groups, k_groups, v_groups = (
            self._by_group(project(normed_ND), side, layout.groups)
            for project in (attention.q, attention.k, attention.v)
        )
        masks = side.masks if encoder else [None] * len(layout.groups)
        out = [attend(*parts) for parts in zip(q_groups, k_groups, v_groups, biases, masks, strict=True)]
        return attention.o(unpad(torch.cat(out), side))  # type: ignore[no-any-return]

    def _cross_attention(self, layer: Any, x_TD: Tensor, encoded_SD: Tensor, layout: RowLayout) -> Tensor:
        attention = layer.EncDecAttention
        groups, source = layout.groups, layout.source
        q_groups = self._by_group(attention.q(layer.layer_norm(x_TD)), layout.target, groups)
        k_groups, v_groups = (
            self._by_group(project(encoded_SD), source, groups) for project in (attention.k, attention.v)
        )
        parts = zip(q_groups, k_groups, v_groups, source.masks, strict=True)
        out = [attend(q, k, v, None, mask) for q, k, v, mask in parts]
        return attention.o(unpad(torch.cat(out), layout.target))  # type: ignore[no-any-return]

    def _by_group(self, x: Tensor, side: PaddedLayout, groups: Sequence[SegmentGroup]) -> list[Tensor]:
        """(N, H * K) to the (G, Q, H, K) of each group.

        One split, not a slice a group: the gradient of a slice is as large as the entire layout.
        """
        padded = pad(x, side).split(side.sizes)  # type: ignore[no-untyped-call]
        return [
            x_part.view(g.segments, -1, self.heads, x.shape[-1] // self.heads)
            for g, x_part in zip(groups, padded, strict=True)
        ]


def _autocast(x: Tensor) -> Tensor:
    """Casts as autocast would, which does not see a layer that is used by its weight alone."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def _position_biases(stack: Any, lengths: Sequence[int], mask_QC: Tensor | None = None) -> Iterator[list[Tensor]]:
    """Yields for each layer the relative position bias (H, length, length) of groups of `lengths`.

    The same for all layers or, in UMT5, each layer's own, made when the layer is reached. `mask_QC`
    is added.
    """
    longest = max(lengths, default=0)
    by_group: list[Tensor] = []
    for block in stack.block:
        attention = block.layer[0].SelfAttention
        if attention.has_relative_attention_bias:
            bias_HQC = attention.compute_bias(longest, longest)[0]
            if mask_QC is not None:
                bias_HQC = bias_HQC + mask_QC
            by_group = [bias_HQC[:, :length, :length] for length in lengths]
        yield by_group


def seed_dropout(seed: int, index: int) -> None:
    """Seeds torch's generators for packed row `index`: its dropout is the same everywhere."""
    digest = hashlib.sha256(f"{seed}\0dropout\0{index}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def set_dropout(model: T5ForConditionalGeneration, share: float) -> None:
    """Sets the rate of every dropout module; the model's configuration keeps the original rate."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
