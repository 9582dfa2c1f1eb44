"""Training on one GPU: our step and plain transformers, in tokens a second and MFU.

    python -m benchmarks.gpu --out benchmarks/results/gpu.json

Needs torch, transformers, numpy, safetensors and pydantic in addition to this repository: no Ray,
no data set, no network. Each cell is a process of its own that takes at most two minutes; finished
cells are kept in `--work`, and the same command resumes from there. `--device cpu --dry` shows on
any machine that every cell runs.

Cells: loop_dynamic_8 and loop_grouped_64 are transformers' own forward and loss under bf16
autocast, batches padded to the longest in random order and grouped by length; eager, bf16_pure,
checkpointing and compiled are our packed rows, flex is the same with flex attention (which has
no backward pass on a CPU).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import workload
from benchmarks.output import emit
from benchmarks.workload import SyntheticExample

SECONDS = 120
ROW = (26_000, 5_600)  # about 31,000 tokens in a forward pass: a host starts thousands of kernels for each
DRY_ROW = (1_024, 256)
MIXTURE = 4_000


def timed(step: Callable[[int], list[SyntheticExample]], options: argparse.Namespace) -> dict[str, float]:
    """Times `step`, which returns the examples that it trained on, after warming up."""
    import torch

    from raytrain.training.flops import peak_flops

    cuda = options.device.startswith("cuda")

    def wait() -> None:
        if cuda:
            torch.cuda.synchronize()

    warm = 1 if options.dry else 4
    for number in range(warm):
        step(number)
    wait()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    seen: list[SyntheticExample] = []
    steps, began = 0, time.perf_counter()
    while steps < 2 or (time.perf_counter() - began < options.seconds and steps < 2_000):
        seen += step(warm + steps)
        steps += 1
        if steps % 8 == 0:
            wait()
    wait()
    seconds = time.perf_counter() - began
    flops = workload.training_flops(options.shape, seen) / seconds
    most = peak_flops(torch.device(options.device), "bf16")
    return {
        "tokens_per_second": sum(e.tokens for e in seen) / seconds,
        "tokens_per_step": sum(e.tokens for e in seen) / steps,
        "step_seconds": seconds / steps,
        "tflops": flops / 1e12,
        **({"mfu": flops / most} if most else {}),
        **({"peak_gib": torch.cuda.max_memory_allocated() / 2**30} if cuda else {}),
    }


def stock(batch: int, grouped: bool, options: argparse.Namespace) -> dict[str, float]:
    """Times transformers' forward pass and loss in a plain loop, without Trainer's overhead."""
    import torch

    from benchmarks.training import layouts, padded

    chosen = workload.examples(MIXTURE if not options.dry else 200)
    model = workload.model(options.shape).to(options.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    mode = "trainer_grouped" if grouped else "trainer_dynamic"
    batches = layouts(chosen, mode, np.random.default_rng(2), batch)
    np.random.default_rng(3).shuffle(batches)

    def step(number: int) -> list[SyntheticExample]:
        taken = batches[number % len(batches)]
        ready = {name: tensor.to(options.device) for name, tensor in padded(taken, mode).items()}
        with torch.autocast(options.device.split(":")[0], torch.bfloat16):
            loss = model(**ready, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return taken

    return timed(step, options)


def ours(
    options: argparse.Namespace, *, compiled: bool = False, flex: bool = False, **settings: Any
) -> dict[str, float]:
    """Times our step over packed rows."""
    import torch

    from benchmarks.training import examples_of_row
    from raytrain.config.training import TrainingSpec
    from raytrain.training.trainer import Trainer

    shape = DRY_ROW if options.dry else ROW
    chosen = workload.examples(MIXTURE)
    order, row = workload.rows_of(chosen, shape)
    training = TrainingSpec.model_validate(
        {
            "steps": 100,
            "batch_tokens": sum(shape),
            "optimizer": "adamw",
            "dropout": 0.0,
            "precision": "bf16",
            **settings,
        }
    )
    trainer = Trainer(workload.model(options.shape), training, list(workload.FOUR), device=options.device)
    if flex:
        from benchmarks.flex import FlexT5

        trainer.packed_model = FlexT5(trainer.model, dtype=torch.float32)
    if compiled:  # what stands between the attention's ragged groups: norms, projections, feed-forward layers
        for stack in (trainer.model.encoder, trainer.model.decoder):
            for block in stack.block:
                block.layer[-1] = torch.compile(block.layer[-1], dynamic=True)
    rows = [row(number) for number in range(2 if options.dry else 64)]  # in a training a thread reads them ahead
    seen = [examples_of_row(chosen, order, taken) for taken in rows]

    def step(number: int) -> list[SyntheticExample]:
        trainer.step(min(number, 99), [rows[number % len(rows)]])
        return seen[number % len(rows)]

    return timed(step, options)


def answering(options: argparse.Namespace) -> dict[str, Any]:
    """Times greedy decoding in fp32 by our loop and by `generate`, for FLAN-T5-small's shape."""
    from benchmarks.evaluation import generation

    if options.shape not in ("small", "tiny"):
        return {"left_out": "measured with the shape small"}
    size = {"texts": 16, "slots": 4} if options.dry else {"texts": 500, "slots": 256}
    found = generation(0, device=options.device, **size)
    return {
        **{f"{mode}_tokens_per_second": found["tokens"] / seconds for mode, seconds in found["seconds"].items()},
        **{f"vs_{mode}": s / found["seconds"]["ours"] for mode, s in found["seconds"].items() if mode != "ours"},
        **{key: found[key] for key in ("texts", "equal", "ties")},
    }


CELLS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "loop_dynamic_8": lambda options: stock(8, False, options),
    "loop_grouped_64": lambda options: stock(64, True, options),
    "eager": ours,
    "bf16_pure": lambda options: ours(options, precision="bf16-pure"),
    "checkpointing": lambda options: ours(options, activation_checkpointing=True),
    "compiled": lambda options: ours(options, compiled=True),
    "flex": lambda options: ours(options, flex=True),
    "answering": answering,
}


def run_cell(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Returns a cell's figures, from an earlier run if there are any.

    A cell that fails is reported, and tried again next time.
    """
    kept = Path(options.work) / f"{options.device.replace(':', '')}-{options.shape}-{name}.json"
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    command = [sys.executable, "-m", "benchmarks.gpu", "--cell", name, "--shape", options.shape]
    command += ["--device", options.device, "--seconds", str(options.seconds), *(["--dry"] if options.dry else [])]
    try:
        done = subprocess.run(command, check=False, env=os.environ, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return {"failed": f"took longer than {SECONDS} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(figures))
    return figures


def report(cells: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yields the ratios of our best cell to the others, by shape."""
    for shape in dict.fromkeys(name.split("/")[0] for name in cells):
        rates = {
            name.split("/")[1]: found["tokens_per_second"]
            for name, found in cells.items()
            if name.startswith(f"{shape}/") and "tokens_per_second" in found
        }
        best = max((rates[name] for name in rates if not name.startswith("loop_")), default=None)
        for other in ("loop_dynamic_8", "loop_grouped_64"):
            whole = best is not None and other in rates
            yield f"{shape}_vs_{other}", workload.spread([best / rates[other]]) if whole and best else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/bench-gpu"), help="where finished cells are kept")
    parser.add_argument("--shapes", default="small,base,large", help="comma-separated")
    parser.add_argument("--seconds", type=float, default=20.0, help="that a cell measures")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dry", action="store_true", help="a few small steps: does every cell run?")
    parser.add_argument("--cell", choices=list(CELLS), help=argparse.SUPPRESS)
    parser.add_argument("--shape", default="small", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.dry:
        options.seconds = 0.0
    if options.cell:
        print(json.dumps(CELLS[options.cell](options)))
        return
    import torch

    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("there is no GPU here; `--device cpu --dry --shapes tiny` shows that every cell runs")
    cells = {}
    for shape in options.shapes.split(","):
        options.shape = shape
        for name in CELLS:
            cells[f"{shape}/{name}"] = found = run_cell(name, options)
            print(f"{shape} {name}: {json.dumps(found)}", file=sys.stderr, flush=True)
    emit({"machine": workload.machine(), "ratios": dict(report(cells)), "figures": cells}, options.out)


if __name__ == "__main__":
    main()
