"""The base model: a small T5 that is taught the general skills in one pass, on the CPU."""

import copy
import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.multiprocessing
from tokenizers import Tokenizer
from torch import Tensor, nn

from examples.quickstart.skills import Lesson

_IGNORED = -100
_SORT_BUFFER = 4096
_PEAK_RATE = 1e-3
_WARM_UP, _FINAL_SHARE = 0.05, 0.02
_MEETING_SECONDS = 300.0


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

    Rows stay within their buffer of 4,096, whose batches are shuffled: so the order of learning
    remains about that of the rows.
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


@dataclass(frozen=True)
class Lessons:
    """What is taught, and in how many steps of what size."""

    rows: Sequence[Encoded]
    tokens: int
    positions: int
    seed: int

    def steps(self) -> Iterator[tuple[float, list[Encoded]]]:
        """(share of the tokens seen before it, batch), passing over the rows until `tokens` real tokens are learned."""
        seen, passes = 0, 0
        while seen < self.tokens:
            for batch in batches(self.rows, self.positions, self.seed + passes):
                yield seen / self.tokens, batch
                seen += sum(len(prompt) + len(answer) for prompt, answer in batch)
                if seen >= self.tokens:
                    return
            passes += 1


def teach(model: Any, lessons: Lessons, *, processes: int, on_progress: Callable[[Progress], None]) -> Progress:
    """Teach the model in place, every batch divided among `processes` of one thread each.

    Two processes of one thread take 0.6 of the time of one; two threads in one process spin while
    they wait for each other, and are ten times slower as soon as other work uses the cores
    (measured).
    """
    spawn = torch.multiprocessing.get_context("spawn")
    sums = _Sums(
        torch.zeros(2, processes, sum(p.numel() for p in model.parameters()) + 1).share_memory_(),  # type: ignore[no-untyped-call]
        spawn.Barrier(processes),
    )
    others = [
        spawn.Process(target=_learn_quietly, args=(rank, sums, model, lessons), daemon=True)
        for rank in range(1, processes)
    ]
    for other in others:
        other.start()
    try:
        return _learn(0, sums, model, lessons, on_progress)
    finally:
        for other in others:
            other.terminate()
            other.join()


@dataclass
class _Sums:
    """Gradients of all processes in shared memory; each adds them up in the same order, so the models stay equal."""

    slots: Tensor  # [2, processes, parameters + 1]; the two take turns, so one meeting a step is enough
    barrier: Any

    def of(self, rank: int, step: int, own: Tensor) -> Tensor:
        """The sum over all processes of their `own` [parameters + 1] in this step."""
        slot = self.slots[step % 2]
        slot[rank].copy_(own)
        self.barrier.wait(_MEETING_SECONDS)
        return slot.sum(0)


def _learn_quietly(rank: int, sums: _Sums, model: Any, lessons: Lessons) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the others
    _learn(rank, sums, copy.deepcopy(model), lessons, lambda _: None)  # what arrives shares the first one's memory


def _learn(rank: int, sums: _Sums, model: Any, lessons: Lessons, on_progress: Callable[[Progress], None]) -> Progress:
    """Every step of the lessons on this process's share of each batch."""
    torch.set_num_threads(1)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=_PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    model.train()
    seen, start = 0, time.monotonic()
    recent: list[float] = []
    for step, (done, batch) in enumerate(lessons.steps()):
        for group in optimizer.param_groups:
            group["lr"] = _PEAK_RATE * learning_rate(done)
        loss = _backward(model, batch[rank :: sums.slots.shape[1]], sum(len(answer) for _, answer in batch))
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        total = sums.of(rank, step, torch.cat([*(g.flatten() for g in gradients), torch.tensor([loss])]))
        for parameter, part in zip(parameters, torch.split(total[:-1], [p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen += sum(len(prompt) + len(answer) for prompt, answer in batch)
        recent = [*recent[-99:], float(total[-1])]
        now = Progress(seen, lessons.tokens, sum(recent) / len(recent), time.monotonic() - start)
        on_progress(now)
    model.eval()
    return now


def _backward(model: Any, part: Sequence[Encoded], targets: int) -> float:
    """Loss and gradients of a part of a batch, as its share of the mean over the batch's `targets` target tokens."""
    if not part:
        return 0.0
    prompts = _padded([prompt for prompt, _ in part], 0)
    answers = _padded([answer for _, answer in part], _IGNORED)
    share = sum(len(answer) for _, answer in part) / targets
    loss = model(input_ids=prompts, attention_mask=prompts.ne(0), labels=answers).loss * share
    loss.backward()
    return float(loss.detach())
