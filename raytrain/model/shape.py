"""The sizes of a T5, from its config.json, and those of the published FLAN-T5s; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a T5 that its memory depends on."""

    vocabulary: int
    width: int
    head: int
    """Size of an attention head."""
    heads: int
    feed_forward: int
    layers: int
    decoder_layers: int
    gated: bool = True
    """Two projections into the feed-forward layer (T5 v1.1), not one (T5 v1.0)."""
    tied: bool = False
    """The output layer is the embedding table."""
    bias_in_every_layer: bool = False
    """As in UMT5; otherwise only the first layer of a stack has a table of position biases."""
    buckets: int = 32

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, tied: bool) -> Self:
        """Reads a config.json; KeyError if it is not that of a T5.

        `tied` is not read there: transformers 5 writes True for models that are not.
        """
        layers = int(config["num_layers"])
        return cls(
            vocabulary=int(config["vocab_size"]),
            width=int(config["d_model"]),
            head=int(config["d_kv"]),
            heads=int(config["num_heads"]),
            feed_forward=int(config["d_ff"]),
            layers=layers,
            decoder_layers=int(config.get("num_decoder_layers") or layers),
            gated=str(config.get("feed_forward_proj", "relu")).startswith("gated"),
            tied=tied,
            bias_in_every_layer=config.get("model_type") == "umt5",
            buckets=int(config.get("relative_attention_num_buckets", 32)),
        )

    @property
    def inner(self) -> int:
        """Width of all heads together."""
        return self.head * self.heads

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """Rows and columns of every matrix."""
        square, out = (self.inner, self.width), (self.width, self.inner)
        attention = [square, square, square, out]
        wide, narrow = (self.feed_forward, self.width), (self.width, self.feed_forward)
        dense = [wide, *([wide] if self.gated else []), narrow]
        stacks = self.layers + self.decoder_layers if self.bias_in_every_layer else 2
        ends = [(self.vocabulary, self.width)] * (1 if self.tied else 2)
        layers = self.layers * [*attention, *dense] + self.decoder_layers * [*attention, *attention, *dense]
        return [*ends, *layers, *[(self.buckets, self.heads)] * stacks]

    @property
    def norm_weights(self) -> int:
        """Number of all weights of norms."""
        return (2 * self.layers + 3 * self.decoder_layers + 2) * self.width

    @property
    def parameters(self) -> int:
        """Number of all parameters."""
        return sum(rows * columns for rows, columns in self.matrices) + self.norm_weights


FLAN = {
    "flan-t5-small": ModelShape(32128, 512, 64, 6, 1024, 8, 8),
    "flan-t5-base": ModelShape(32128, 768, 64, 12, 2048, 12, 12),
    "flan-t5-large": ModelShape(32128, 1024, 64, 16, 2816, 24, 24),
    "flan-t5-xl": ModelShape(32128, 2048, 64, 32, 5120, 24, 24),
    "flan-t5-xxl": ModelShape(32128, 4096, 64, 64, 10240, 24, 24),
}
"""The published FLAN-T5s."""
