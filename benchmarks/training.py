"""Tokens per second of our training step and of Seq2SeqTrainer, on the same model and examples.

    python -m benchmarks.training --out benchmarks/results/training.json

Each cell is a process of its own that trains one way for less than a minute; the cells of a round
follow each other, so that a machine that slows down slows all of them. Finished cells are kept in
`--work`, and the same command resumes from there. All cells have the same model, threads, malloc
settings, AdamW and clipping, no dropout, and update the weights after about 4,000 tokens, not
counting padding.

The rates are those of the entire mixture, not of a lucky batch: each way of batching is applied to
all examples, the batches are sorted by size, and evenly spaced ones are timed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import workload
from benchmarks.output import emit
from benchmarks.workload import SyntheticExample

LONGEST = (512, 128)
BATCH = 8
ACCUMULATED = 4  # batches of Trainer between two updates
ROW = (3_400, 700)  # of ours: about as many tokens as those
FULL, DRY = 4_000, 200  # examples that the batches are laid out over
TRAINER = {"trainer_pad_max": 8, "trainer_dynamic": 16, "trainer_grouped": 16}  # batches that are timed
OURS = {"ours_fp32": "fp32", "ours_bf16": "bf16", "ours_bf16_pure": "bf16-pure"}
ROWS = 8  # of ours that are timed
SECONDS = 120  # that a cell may take
_CLOCK = "RAYTRAIN_BENCH_CLOCK"


def layouts(
    chosen: Sequence[SyntheticExample], mode: str, rng: np.random.Generator, size: int = BATCH
) -> list[list[SyntheticExample]]:
    """Returns all examples in batches of `size`, in random order or as by `group_by_length`."""
    order = rng.permutation(len(chosen)).tolist()
    if mode == "trainer_grouped":  # transformers' sampler: sorted by source length in stretches of 50 batches
        stretch = min(50 * size, max(len(chosen) // 4, size))
        parts = [order[i : i + stretch] for i in range(0, len(order), stretch)]
        order = [i for part in parts for i in sorted(part, key=lambda i: -len(chosen[i].source))]
    return [[chosen[i] for i in order[at : at + size]] for at in range(0, len(order) - size + 1, size)]


def evenly(batches: Sequence[list[SyntheticExample]], count: int) -> list[list[SyntheticExample]]:
    """Returns `count` batches, evenly spaced in the order of their padded size, shuffled."""
    sized = sorted(batches, key=lambda b: len(b) * (max(len(e.source) for e in b) + max(len(e.target) for e in b)))
    found = [sized[int((i + 0.5) * len(sized) / count)] for i in range(min(count, len(sized)))]
    np.random.default_rng(5).shuffle(found)
    return found


def padded(batch: Sequence[SyntheticExample], mode: str) -> dict[str, Any]:
    """Collates ids, mask and labels, padded to the longest or to the limits."""
    import torch

    source, target = LONGEST
    if mode != "trainer_pad_max":
        source, target = max(len(e.source) for e in batch), max(len(e.target) for e in batch)
    ids = torch.zeros(len(batch), source, dtype=torch.long)
    labels = torch.full((len(batch), target), -100)
    for i, example in enumerate(batch):
        ids[i, : len(example.source)] = torch.from_numpy(example.source.astype(np.int64))
        labels[i, : len(example.target)] = torch.from_numpy(example.target.astype(np.int64))
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


def trainer_cell(mode: str, options: argparse.Namespace) -> dict[str, float]:
    """Times Seq2SeqTrainer over ready-made batches: its collation costs nothing here."""
    import torch
    import transformers
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    chosen = workload.examples(options.examples, longest=LONGEST)
    laid_out = layouts(chosen, mode, np.random.default_rng(2))
    timed = [padded(batch, mode) for batch in evenly(laid_out, TRAINER[mode] if not options.dry else ACCUMULATED)]
    model = workload.model(options.shape).train()
    model(**timed[0], use_cache=False).loss.backward()  # warm
    model.zero_grad()
    base = peak_mib()

    class Watch(TrainerCallback):
        began = ended = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = self.began or now()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ended = now()

    class Ready(torch.utils.data.Dataset[int]):
        def __len__(self) -> int:
            return len(timed)

        def __getitem__(self, index: int) -> int:
            return index

    watch = Watch()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        arguments = Seq2SeqTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=1,  # an item of the data set is a whole batch
            gradient_accumulation_steps=ACCUMULATED,
            max_steps=len(timed) // ACCUMULATED,
            save_strategy="no",
            report_to=[],
            remove_unused_columns=False,
            train_sampling_strategy="sequential",
            use_cpu=True,
            disable_tqdm=True,
            learning_rate=1e-5,
            lr_scheduler_type="constant",
            max_grad_norm=1.0,
            logging_steps=10**6,
            dataloader_pin_memory=False,
        )
        Seq2SeqTrainer(
            model=model,
            args=arguments,
            train_dataset=Ready(),
            data_collator=lambda items: dict(timed[items[0]]),
            callbacks=[watch],
        ).train()
    seconds = (watch.ended - watch.began) / len(timed)
    tokens = sum(example.tokens for batch in laid_out for example in batch) / len(laid_out)
    return {"tokens_per_second": tokens / seconds, "peak_mib": peak_mib(), "peak_mib_before": base}


def ours_cell(mode: str, options: argparse.Namespace) -> dict[str, float]:
    """Times our step as in production, and the machine's matrix products before and after."""
    from raytrain.config.training import TrainingSpec
    from raytrain.training.trainer import Trainer

    chosen = workload.examples(options.examples, longest=LONGEST)
    order, row = workload.rows_of(chosen, ROW)
    training = TrainingSpec(
        steps=100,
        batch_tokens=sum(ROW),
        optimizer="adamw",
        learning_rate=1e-5,
        dropout=0.0,
        precision=OURS[mode],  # type: ignore[arg-type]
    )
    trainer = Trainer(workload.model(options.shape), training, list(workload.FOUR))
    count = ROWS if not options.dry else 1
    trainer.step(0, [row(0)])  # warm
    base = peak_mib()
    first = matrix_rate(options.shape)
    began, parts, rows = now(), Counter[str](), []
    for index in range(1, count + 1):
        rows.append(row(index))
        record = trainer.step(index, rows[-1:]).record
        parts.update(record.seconds_by_part if record else {})
    seconds = now() - began
    seen = [e for r in rows for e in examples_of_row(chosen, order, r)]
    flops = workload.training_flops(options.shape, seen)
    return {
        "tokens_per_second": sum(e.tokens for e in seen) / seconds,
        "flops_per_second": flops / seconds,
        "linear_flops_per_second": (first + matrix_rate(options.shape)) / 2,
        "peak_mib": peak_mib(),
        "peak_mib_before": base,
        **{f"{part}_share": spent / seconds for part, spent in parts.items()},
    }


def examples_of_row(chosen: Sequence[SyntheticExample], order: Any, row: Any) -> list[SyntheticExample]:
    """Returns the examples of a packed row."""
    tasks = [[e for e in chosen if e.task == number] for number in range(len(order.order.streams))]
    return [tasks[p.task][p.example] for p in row.samples]


def matrix_rate(shape: str) -> float:
    """Returns the FLOPs a second of `F.linear` in fp32 on the model's layers, forward only."""
    import torch
    from torch.nn.functional import linear

    c = workload.SHAPES[shape]
    d, inner, ff = c["d_model"], c["d_kv"] * c["num_heads"], c["d_ff"]
    work = seconds = 0.0
    with torch.no_grad():
        for into, out, times in ((d, inner, 3), (inner, d, 1), (d, ff, 2), (ff, d, 1)):
            x, weight = torch.randn(ROW[0], into), torch.randn(out, into)
            took = []
            for _ in range(7):
                began = now()
                linear(x, weight)
                took.append(now() - began)
            work += times * 2 * ROW[0] * into * out
            seconds += times * statistics.median(took)
    return work / seconds


def checkpoint_cell(_: str, options: argparse.Namespace) -> dict[str, float]:
    """Times a checkpoint: how long training waits for it, storing it, and reading it back."""
    from safetensors.torch import load_file

    from raytrain.config.run_layout import RunLayout
    from raytrain.config.training import TrainingSpec
    from raytrain.model.source import WEIGHTS_FILE
    from raytrain.training import checkpoint
    from raytrain.training.checkpoint_writer import CheckpointOrigin, CheckpointWriter
    from raytrain.training.trainer import Trainer
    from raytrain_core.storage import open_store

    _, row = workload.rows_of(workload.examples(options.examples, longest=LONGEST), ROW)
    training = TrainingSpec(steps=100, batch_tokens=sum(ROW), optimizer="adafactor")
    trainer = Trainer(workload.model(options.shape), training, list(workload.FOUR))
    blocked, stored, steps, restored = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        store, layout = open_store(folder), RunLayout("bench")
        done: list[float] = []
        writer = CheckpointWriter(
            store,
            layout,
            CheckpointOrigin(1, {}, {}),
            guard=lambda: None,
            on_committed=lambda ref: done.append(time.perf_counter()),
            on_failed=lambda step, why: None,
        )
        for step in range(3):
            began = time.perf_counter()
            trainer.step(step, [row(step)])
            steps.append(time.perf_counter() - began)
            began = time.perf_counter()
            writer.save(trainer.snapshot(next_row=step + 1))
            blocked.append(time.perf_counter() - began)
            writer.wait()
            stored.append(done[-1] - began)
        found = checkpoint.fetch_newest(store, layout, Path(folder) / "fetched")
        assert found is not None
        began = time.perf_counter()
        optimizer = checkpoint.read_optimizer(found[1] / checkpoint.OPTIMIZER_FILE)
        trainer.restore(trainer.position, load_file(found[1] / WEIGHTS_FILE), *optimizer)
        restored.append(time.perf_counter() - began)
    return {
        "checkpoint_blocks_seconds": statistics.median(blocked),
        "checkpoint_stored_seconds": statistics.median(stored),
        "step_seconds": statistics.median(steps),
        "restore_seconds": restored[0],
    }


def ray_cell(_: str, options: argparse.Namespace) -> dict[str, float]:
    """Measures what Ray Train adds to a step of a tiny model."""
    from benchmarks.ray_overhead import measure

    return measure(steps=20 if options.dry else 400)


def now() -> float:
    """Returns seconds of the selected clock: wall time, or CPU time of this process."""
    return time.process_time() if os.environ.get(_CLOCK) == "cpu" else time.perf_counter()


CELLS: dict[str, Callable[[str, argparse.Namespace], dict[str, float]]] = {
    **dict.fromkeys(TRAINER, trainer_cell),
    **dict.fromkeys(OURS, ours_cell),
    "checkpoint": checkpoint_cell,
    "ray": ray_cell,
}
ONCE = ("checkpoint", "ray")


def peak_mib() -> float:
    """Returns the largest resident memory of this process so far."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_cell(mode: str, number: int, options: argparse.Namespace) -> dict[str, Any]:
    """Returns the cell's figures, from an earlier run if there are any."""
    from raytrain.training.threads import worker_environment

    kept = options.work / f"{options.shape}-{mode}-{number}.json"
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    if options.left == 0:
        raise SystemExit("more cells are left; the same command resumes")
    options.left -= 1
    command = [sys.executable, "-m", "benchmarks.training", "--cell", mode, "--shape", options.shape]
    command += ["--examples", str(options.examples), *(["--dry"] if options.dry else [])]
    began = time.perf_counter()
    alone = {_CLOCK: "cpu", "OMP_NUM_THREADS": "1"} if options.clock == "cpu" else {}
    done = subprocess.run(
        command,
        check=False,
        env={**os.environ, **worker_environment(), **alone},
        capture_output=True,
        text=True,
        timeout=5 * SECONDS,
    )
    if done.returncode:
        raise SystemExit(f"{mode}: ended with {done.returncode}\n{done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"round {number} {mode}: {time.perf_counter() - began:.0f} s", figures, file=sys.stderr, flush=True)
    options.work.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(figures))
    return figures


def results(
    rounds: list[dict[str, dict[str, Any]]], once: dict[str, dict[str, Any]], clock: str = "wall"
) -> dict[str, Any]:
    """Returns ratios by round, and figures."""

    def rate(cells: dict[str, dict[str, Any]], mode: str) -> float:
        return float(cells[mode]["tokens_per_second"])

    ratios: dict[str, Any] = {
        f"vs_{name}": workload.spread([rate(cells, "ours_fp32") / rate(cells, mode) for cells in rounds])
        for name, mode in (
            ("seq2seq_trainer_pad_max", "trainer_pad_max"),
            ("seq2seq_trainer_dynamic", "trainer_dynamic"),
            ("group_by_length", "trainer_grouped"),
        )
    }
    ours = [cells["ours_fp32"] for cells in rounds]
    ratios["gemm_fraction"] = workload.spread([c["flops_per_second"] / c["linear_flops_per_second"] for c in ours])
    figures: dict[str, Any] = {}
    for mode in ("ours_bf16", "ours_bf16_pure"):
        name = f"{mode.removeprefix('ours_')}_vs_fp32"
        ratios[name] = None
        if all(mode in cells for cells in rounds):
            ratios[name] = workload.spread([rate(cells, mode) / rate(cells, "ours_fp32") for cells in rounds])
    if ratios["bf16_vs_fp32"] is None:
        figures["bf16_vs_fp32_reason"] = "this processor has no bf16 arithmetic (avx512_bf16, amx_bf16)"
    for mode in rounds[0]:
        figures[f"{mode}_tokens_per_second"] = workload.spread([rate(cells, mode) for cells in rounds])
    figures["ours_fp32_gflops_per_second"] = workload.spread([c["flops_per_second"] / 1e9 for c in ours])
    figures["linear_gflops_per_second"] = workload.spread([c["linear_flops_per_second"] / 1e9 for c in ours])
    figures["ours_fp32_shares"] = {
        name.removesuffix("_share"): round(statistics.median(c[name] for c in ours), 4)
        for name in ours[0]
        if name.endswith("_share")
    }
    for mode in ("ours_fp32", "trainer_dynamic", "trainer_pad_max"):
        figures[f"{mode}_peak_mib"] = max(cells[mode]["peak_mib"] for cells in rounds)
    for figure in once.values():
        figures |= figure
    figures["clock"] = clock
    return {"machine": workload.machine(), "ratios": ratios, "figures": figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/bench-training"), help="where finished cells are kept")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", choices=list(workload.SHAPES), default="small")
    parser.add_argument("--examples", type=int, default=FULL)
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu: one thread and its own CPU seconds, for a machine that others use; only the ratios mean something",
    )
    parser.add_argument("--dry", action="store_true", help="a few batches only: does it run?")
    parser.add_argument("--cells", type=int, default=-1, help="end after this many new cells; the same command resumes")
    parser.add_argument("--cell", choices=list(CELLS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(CELLS[options.cell](options.cell, options)))
        return
    options.left = options.cells
    modes = [*TRAINER, *(mode for mode in OURS if mode == "ours_fp32" or workload.has_bf16())]
    rounds = [{mode: run_cell(mode, number, options) for mode in modes} for number in range(options.rounds)]
    once = {mode: run_cell(mode, 0, options) for mode in ONCE}
    emit(results(rounds, once, options.clock), options.out)


if __name__ == "__main__":
    main()
