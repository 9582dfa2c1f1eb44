"""The base model: a small T5 that is taught the general skills in one pass, on the CPU."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from examples.quickstart.skills import Lesson

_IGNORED = -100
_SORT_BUFFER = 4096
_PEAK_RATE = 1e-3
_WARM_UP, _FINAL_SHARE = 0.05, 0.02


@dataclass(frozen=True)
class Shape:
    """Size of the model."""

    d_model: int = 128
    d_ff: int = 256
    heads: int = 4
    layers: int = 2


@dataclass(frozen=True)
class Progress:
    """Where the lessons stand."""

    tokens: int
    total: int
    loss: float
    seconds: float


def new_model(shape: Shape, vocabulary: int, seed: int) -> Any:
    """A T5 1.1 with untied output layer, whose start value is the input embedding, scaled by d_model^-0.5.

    transformers 5 ties T5's output layer whatever the configuration says, so it is cut loose here.
    """
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": vocabulary,
        "d_model": shape.d_model,
        "d_kv": shape.d_model // shape.heads,
        "d_ff": shape.d_ff,
        "num_heads": shape.heads,
        "num_layers": shape.layers,
        "num_decoder_layers": shape.layers,
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 64,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
    model = T5ForConditionalGeneration(T5Config(**settings))
    model.lm_head.weight = nn.Parameter(model.shared.weight.detach().clone() * shape.d_model**-0.5)
    model.all_tied_weights_keys.pop("lm_head.weight", None)
    return model


def save_model(model: Any, folder: Path) -> None:
    """`save_pretrained`, with the truth about the untied output layer in config.json."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {"tie_word_embeddings": False}
    config.pop("scale_decoder_outputs", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


Encoded = tuple[Sequence[int], Sequence[int]]


def encode(tokenizer: Tokenizer, lessons: Sequence[Lesson]) -> list[Encoded]:
    """Ids of prompt and answer of each lesson, both ending in </s>."""
    prompts = tokenizer.encode_batch([lesson.prompt for lesson in lessons])
    answers = tokenizer.encode_batch([lesson.answer for lesson in lessons])
    return [(prompt.ids, answer.ids) for prompt, answer in zip(prompts, answers, strict=True)]


def batches(rows: Sequence[Encoded], positions: int, seed: int) -> list[list[Encoded]]:
    """Rows of like length together, at most `positions` padded positions (prompt and answer) a batch.

    Rows stay within their buffer of 4,096, whose batches are shuffled: so the order of learning remains about that of
    the rows.
    """
    rng = Random(seed)
    found: list[list[Encoded]] = []
    for start in range(0, len(rows), _SORT_BUFFER):
        buffer: list[list[Encoded]] = []
        batch: list[Encoded] = []
        for row in sorted(rows[start : start + _SORT_BUFFER], key=lambda r: (len(r[1]) // 6, len(r[0]))):
            grown = [*batch, row]
            if batch and len(grown) * (max(len(r[0]) for r in grown) + max(len(r[1]) for r in grown)) > positions:
                buffer.append(batch)
                grown = [row]
            batch = grown
        buffer.append(batch)
        rng.shuffle(buffer)
        found += buffer
    return found


def _padded(sequences: Sequence[Sequence[int]], fill: int) -> Tensor:
    out = np.full((len(sequences), max(map(len, sequences))), fill, dtype=np.int64)
    for row, ids in zip(out, sequences, strict=True):
        row[: len(ids)] = ids
    return torch.from_numpy(out)


def learning_rate(done: float) -> float:
    """Share of the peak after the share `done` of all tokens: warm-up, then a straight line down to 2 %."""
    if done < _WARM_UP:
        return (done + 1e-3) / (_WARM_UP + 1e-3)
    return 1 - (1 - _FINAL_SHARE) * (done - _WARM_UP) / (1 - _WARM_UP)


def teach(
    model: Any,
    rows: Sequence[Encoded],
    *,
    tokens: int,
    positions: int,
    seed: int,
    on_progress: Callable[[Progress], None],
) -> Progress:
    """One or more passes over the rows until `tokens` real tokens (prompts and answers) are learned."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=_PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    model.train()
    seen, passes, start = 0, 0, time.monotonic()
    recent: list[float] = []
    while seen < tokens:
        for batch in batches(rows, positions, seed + passes):
            for group in optimizer.param_groups:
                group["lr"] = _PEAK_RATE * learning_rate(seen / tokens)
            prompts = _padded([row[0] for row in batch], 0)
            answers = _padded([row[1] for row in batch], _IGNORED)
            loss = model(input_ids=prompts, attention_mask=prompts.ne(0), labels=answers).loss
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seen += sum(len(row[0]) + len(row[1]) for row in batch)
            recent = [*recent[-99:], float(loss.detach())]
            now = Progress(seen, tokens, sum(recent) / len(recent), time.monotonic() - start)
            on_progress(now)
            if seen >= tokens:
                break
        passes += 1
    model.eval()
    return now
