"""Compares loss and gradient of one step over 16 examples, split in several ways.

    python -m benchmarks.accumulation --out benchmarks/results/accumulation.json

The reference is the cross entropy summed over all target tokens, divided by their number, one
example at a time through transformers' own forward pass. Ours and Seq2SeqTrainer are compared with
it: all at once, in four parts, by two processes. A ratio of 1 is correct. It takes a minute, and
nothing is timed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import workload
from benchmarks.output import emit
from benchmarks.training import padded
from benchmarks.workload import SyntheticExample

EXAMPLES = 16
PROCESSES = 2


def chosen() -> list[SyntheticExample]:
    """Returns short and long examples of four tasks."""
    return workload.examples(EXAMPLES, seed=3)


def reference() -> tuple[float, float]:
    """Returns loss per target token and gradient norm, computed one example at a time."""
    import torch

    model = workload.model("tiny").train()
    tokens = sum(len(e.target) for e in chosen())
    total = 0.0
    for example in chosen():
        loss = model(**padded([example], "one")).loss * len(example.target) / tokens
        loss.backward()
        total += loss.item()
    return total, float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))


def ours(parts: int) -> tuple[float, float]:
    """Returns the same of our training step over `parts` rows, by all processes of the group."""
    from torch import distributed as dist

    from raytrain.config.training import PackingShape, TrainingSpec
    from raytrain.training.data.batch import collate
    from raytrain.training.data.packing import SampleRef
    from raytrain.training.trainer import Trainer

    examples, shape = chosen(), PackingShape(source=1 << 15, target=1 << 13)
    rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    rows = [
        collate(
            [SampleRef(0, i, 0) for i in part.tolist()],
            lambda placed: (examples[placed.example].source, examples[placed.example].target),
            shape,
            index=index,
        )
        for index, part in enumerate(np.array_split(np.arange(EXAMPLES), parts))
        if index % processes == rank
    ]
    training = TrainingSpec(steps=1, optimizer="adamw", learning_rate=1e-9, dropout=0.0)
    result = Trainer(workload.model("tiny"), training, ["all"]).step(0, rows)
    return float(result.sums.losses.sum() / result.sums.tokens.sum()), result.gradient_norm


def trainer(size: int, accumulated: int) -> tuple[float, float]:
    """Returns what Seq2SeqTrainer logs for its first step."""
    import transformers
    from torch.utils.data import Dataset
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    examples = chosen()

    class Numbers(Dataset[int]):
        def __len__(self) -> int:
            return EXAMPLES

        def __getitem__(self, index: int) -> int:
            return index

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        arguments = Seq2SeqTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulated,
            max_steps=1,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            learning_rate=0.0,
            remove_unused_columns=False,
            train_sampling_strategy="sequential",
            use_cpu=True,
            disable_tqdm=True,
            ddp_backend="gloo" if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None,
        )
        made = Seq2SeqTrainer(
            model=workload.model("tiny"),
            args=arguments,
            train_dataset=Numbers(),
            data_collator=lambda items: padded([examples[i] for i in items], "dynamic"),
        )
        made.train()
    line = next(line for line in made.state.log_history if "loss" in line)
    return float(line["loss"]), float(line["grad_norm"])


WAYS: dict[str, Any] = {
    "ours_at_once": lambda: ours(1),
    "ours_in_four_parts": lambda: ours(4),
    "trainer_at_once": lambda: trainer(EXAMPLES, 1),
    "trainer_in_four_parts": lambda: trainer(EXAMPLES // 4, 4),
}
BY_PROCESSES: dict[str, Any] = {
    "ours_by_two_processes": lambda: ours(4),
    "trainer_by_two_processes": lambda: trainer(EXAMPLES // PROCESSES, 1),
}


def in_processes(way: str) -> tuple[float, float]:
    """Runs a way in two processes over gloo; returns what the first one found."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={PROCESSES}", "--standalone"]
    command += ["-m", "benchmarks.accumulation", "--way", way]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    loss, norm = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("[")))
    return loss, norm


def one_of_several(way: str) -> None:
    """Runs in one of the processes; the first one prints what it found."""
    from torch import distributed as dist

    if not way.startswith("trainer"):  # that one meets by itself
        dist.init_process_group("gloo")
    found = BY_PROCESSES[way]()
    if os.environ["RANK"] == "0":
        print(json.dumps(found), flush=True)
    if dist.is_initialized():
        dist.destroy_process_group()


def results(truth: tuple[float, float], found: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """Returns each way's loss and gradient norm over those of the reference."""

    def over(values: Sequence[float]) -> dict[str, float]:
        return workload.spread(values)

    ratios = {}
    for way, (loss, norm) in found.items():
        ratios[f"{way}_loss"], ratios[f"{way}_gradient"] = over([loss / truth[0]]), over([norm / truth[1]])
    return {
        "machine": workload.machine(),
        "ratios": ratios,
        "figures": {"right_loss": truth[0], "right_gradient_norm": truth[1], "examples": EXAMPLES},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--way", choices=list(BY_PROCESSES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        one_of_several(options.way)
        return
    found = {way: make() for way, make in WAYS.items()} | {way: in_processes(way) for way in BY_PROCESSES}
    emit(results(reference(), found), options.out)


if __name__ == "__main__":
    main()
