"""The base model: a small T5, pre-trained on the general skills in one pass on the CPU."""

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
from torch import Tensor, nn

from examples.quickstart.tokenizer import Encoded

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
    """Progress of pre-training; `tokens` of `total` are done."""

    tokens: int
    total: int
    loss: float
    seconds: float


def new_model(shape: Shape, vocabulary: int, seed: int) -> Any:
    """Returns a T5 1.1 whose untied output layer starts as the input embedding times d_model^-0.5.

    transformers 5 ties T5's output layer whatever the configuration says, so it is untied here.
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
    """Saves the model, with the untied output layer recorded in config.json."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {"tie_word_embeddings": False}
    config.pop("scale_decoder_outputs", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def batches(rows: Sequence[Encoded], positions: int, seed: int) -> list[list[Encoded]]:
    """Returns batches of rows of similar length with at most `positions` padded positions each.

    Rows are sorted and batches are shuffled within buffers of 4,096 rows, so the training order
    stays close to the order of the rows. Prompt and target positions count.
    """
    rng = Random(seed)
    found: list[list[Encoded]] = []
    for start in range(0, len(rows), _SORT_BUFFER):
        buffer: list[list[Encoded]] = []
        batch: list[Encoded] = []
        longest = (0, 0)
        for row in sorted(rows[start : start + _SORT_BUFFER], key=lambda r: (len(r[1]) // 6, len(r[0]))):
            longest = max(longest[0], len(row[0])), max(longest[1], len(row[1]))
            if batch and (len(batch) + 1) * sum(longest) > positions:
                buffer.append(batch)
                batch, longest = [], (len(row[0]), len(row[1]))
            batch.append(row)
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
    """Returns the learning rate as a fraction of its peak: warm-up, then linear decay to 2 %.

    `done` is the fraction of all tokens seen so far.
    """
    if done < _WARM_UP:
        return (done + 1e-3) / (_WARM_UP + 1e-3)
    return 1 - (1 - _FINAL_SHARE) * (done - _WARM_UP) / (1 - _WARM_UP)


@dataclass(frozen=True)
class Lessons:
    """The pre-training data, its length in tokens and the batch size in padded positions."""

    rows: Sequence[Encoded]
    tokens: int
    positions: int
    seed: int

    def steps(self) -> Iterator[tuple[float, list[Encoded]]]:
        """Yields (fraction of tokens seen before, batch), until `tokens` real tokens are seen."""
        seen, passes = 0, 0
        while seen < self.tokens:
            for batch in batches(self.rows, self.positions, self.seed + passes):
                yield seen / self.tokens, batch
                seen += sum(len(prompt) + len(target) for prompt, target in batch)
                if seen >= self.tokens:
                    return
            passes += 1


def pretrain(model: Any, lessons: Lessons, *, processes: int, on_progress: Callable[[Progress], None]) -> Progress:
    """Trains the model in place, every batch split among `processes` with one thread each.

    Measured: two processes take 0.6 of the time of one. Two threads in one process spin while they
    wait for each other, and are ten times slower as soon as other work uses the cores.
    """
    context = torch.multiprocessing.get_context("forkserver")  # see `world._import_elsewhere`
    gradient_sums = _GradientSums(
        torch.zeros(2, processes, sum(p.numel() for p in model.parameters()) + 1).share_memory_(),  # type: ignore[no-untyped-call]
        context.Barrier(processes),
    )
    others = [
        context.Process(target=_train_silently, args=(rank, gradient_sums, model, lessons), daemon=True)
        for rank in range(1, processes)
    ]
    for other in others:
        other.start()
    try:
        return _train(0, gradient_sums, model, lessons, on_progress)
    finally:
        for other in others:
            other.terminate()
            other.join()


@dataclass
class _GradientSums:
    """Gradients of all processes in shared memory.

    Every process sums them in the same order, so the models stay equal.
    """

    slots: Tensor  # [2, processes, parameters + 1]; double-buffered, so one barrier per step is enough
    barrier: Any

    def of(self, rank: int, step: int, own: Sequence[Tensor]) -> Tensor:
        """Returns the sum of `own` (parameters + 1 numbers) over all processes in this step."""
        slot = self.slots[step % 2]
        torch.cat(tuple(own), out=slot[rank])
        self.barrier.wait(_MEETING_SECONDS)
        return slot.sum(0)


def _train_silently(rank: int, gradient_sums: _GradientSums, model: Any, lessons: Lessons) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends the others
    own = copy.deepcopy(model)  # the argument shares the main process's memory
    _train(rank, gradient_sums, own, lessons, lambda _: None)


def _train(
    rank: int, gradient_sums: _GradientSums, model: Any, lessons: Lessons, on_progress: Callable[[Progress], None]
) -> Progress:
    """Runs all steps on this process's share of each batch."""
    torch.set_num_threads(1)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=_PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    model.train()
    seen, start = 0, time.monotonic()
    recent: list[float] = []
    for step, (done, batch) in enumerate(lessons.steps()):
        for group in optimizer.param_groups:
            group["lr"] = _PEAK_RATE * learning_rate(done)
        loss = _backward(model, batch[rank :: gradient_sums.slots.shape[1]], sum(len(target) for _, target in batch))
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        total = gradient_sums.of(rank, step, [*(g.flatten() for g in gradients), torch.tensor([loss])])
        for parameter, part in zip(parameters, torch.split(total[:-1], [p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen += sum(len(prompt) + len(target) for prompt, target in batch)
        recent = [*recent[-99:], float(total[-1])]
        now = Progress(seen, lessons.tokens, sum(recent) / len(recent), time.monotonic() - start)
        on_progress(now)
    model.eval()
    return now


def _backward(model: Any, part: Sequence[Encoded], target_tokens: int) -> float:
    """Accumulates gradients of a part of a batch; returns its share of the batch's mean loss.

    The mean is over the batch's `target_tokens` target tokens.
    """
    if not part:
        return 0.0
    prompts = _padded([prompt for prompt, _ in part], 0)
    targets = _padded([target for _, target in part], _IGNORED)
    share = sum(len(target) for _, target in part) / target_tokens
    loss = model(input_ids=prompts, attention_mask=prompts.ne(0), labels=targets).loss * share
    loss.backward()
    return float(loss.detach())
