"""A small random T5 for the sample project, written without torch: the client has none.

Weights are drawn as `transformers` initializes T5 (standard deviations below) and stored as
safetensors (https://huggingface.co/docs/safetensors: length, JSON header, little-endian floats).
"""

import json
import struct
from array import array
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

VOCABULARY, WIDTH, HIDDEN, HEADS, LAYERS, BUCKETS = 700, 48, 96, 4, 2, 32

CONFIG: dict[str, Any] = {
    "architectures": ["T5ForConditionalGeneration"],
    "d_ff": HIDDEN,
    "d_kv": WIDTH // HEADS,
    "d_model": WIDTH,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.0,
    "eos_token_id": 1,
    "feed_forward_proj": "gated-gelu",
    "is_encoder_decoder": True,
    "model_type": "t5",
    "num_decoder_layers": LAYERS,
    "num_heads": HEADS,
    "num_layers": LAYERS,
    "pad_token_id": 0,
    "relative_attention_max_distance": 64,
    "relative_attention_num_buckets": BUCKETS,
    "tie_word_embeddings": False,
    "vocab_size": VOCABULARY,
}

_Tensor = tuple[str, tuple[int, ...], float]
"""Name, shape and standard deviation; a deviation of 0 stands for ones (layer norms)."""


def write_model(folder: Path, seed: int = 17) -> None:
    """Writes config.json and model.safetensors; the same bytes for the same seed."""
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(_safetensors(list(_tensors()), Random(seed)))


def _tensors() -> Iterator[_Tensor]:
    yield "shared.weight", (VOCABULARY, WIDTH), 1.0
    yield "lm_head.weight", (VOCABULARY, WIDTH), WIDTH**-0.5
    for stack in ("encoder", "decoder"):
        for block in range(LAYERS):
            yield from _block(stack, block)
        yield f"{stack}.final_layer_norm.weight", (WIDTH,), 0.0


def _block(stack: str, block: int) -> Iterator[_Tensor]:
    prefix = f"{stack}.block.{block}.layer"
    attentions = ["SelfAttention"] if stack == "encoder" else ["SelfAttention", "EncDecAttention"]
    for number, attention in enumerate(attentions):
        inner = f"{prefix}.{number}.{attention}"
        yield f"{inner}.q.weight", (WIDTH, WIDTH), (WIDTH * WIDTH // HEADS) ** -0.5
        for matrix in "kvo":
            yield f"{inner}.{matrix}.weight", (WIDTH, WIDTH), WIDTH**-0.5
        if block == 0 and attention == "SelfAttention":
            yield f"{inner}.relative_attention_bias.weight", (BUCKETS, HEADS), WIDTH**-0.5
        yield f"{prefix}.{number}.layer_norm.weight", (WIDTH,), 0.0
    last = len(attentions)
    for matrix in ("wi_0", "wi_1"):
        yield f"{prefix}.{last}.DenseReluDense.{matrix}.weight", (HIDDEN, WIDTH), WIDTH**-0.5
    yield f"{prefix}.{last}.DenseReluDense.wo.weight", (WIDTH, HIDDEN), HIDDEN**-0.5
    yield f"{prefix}.{last}.layer_norm.weight", (WIDTH,), 0.0


def _safetensors(tensors: list[_Tensor], rng: Random) -> bytes:
    weights = [_draw(shape, deviation, rng) for _, shape, deviation in tensors]
    ends = list(accumulate(len(each) for each in weights))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for (name, shape, _), data, end in zip(tensors, weights, ends, strict=True):
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end - len(data), end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(weights)


def _draw(shape: tuple[int, ...], deviation: float, rng: Random) -> bytes:
    count = shape[0] * (shape[1] if len(shape) > 1 else 1)
    values = array("f", (rng.gauss(0.0, deviation) if deviation else 1.0 for _ in range(count)))
    return struct.pack(f"<{count}f", *values)
