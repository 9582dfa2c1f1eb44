"""One training step of this code against one of another checkout, in turns.

    git worktree add ../before HEAD~1
    python -m benchmarks.step --against ../before

Both sides are processes that hold the same model and take the same rows: a step of one, a step of
the other, in changing order, so that a machine that slows down slows both. Prints for each
precision the median of the ratios of a pair, the ratio of the fastest steps, and by how much losses
and norms of gradients differ.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import workload
from benchmarks.output import emit

HERE = Path(__file__).resolve()
PRECISIONS = ("fp32", "bf16", "bf16-pure")
CLOCK = "RAYTRAIN_BENCH_CLOCK"


class Side:
    """A process that takes steps with the code of one checkout."""

    def __init__(self, root: Path, precision: str, options: argparse.Namespace) -> None:
        from raytrain.training.threads import worker_environment

        alone = {CLOCK: "cpu", "OMP_NUM_THREADS": "1"} if options.clock == "cpu" else {}
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(HERE), "--side", "--precision", precision, "--shape", options.shape],
            env={**os.environ, **worker_environment(), **alone, "PYTHONPATH": str(root.resolve())},
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def step(self, number: int) -> dict[str, Any]:
        """Takes step `number`; returns its seconds, loss and norm of the gradient."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(number, file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a side has ended: its error is above")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


def side(precision: str, shape: str) -> None:
    """Takes the steps whose numbers are read from standard input."""
    from benchmarks.training import FULL, LONGEST, ROW
    from raytrain.training import trainer as of_side

    _, row = workload.rows_of(workload.examples(FULL, longest=LONGEST), ROW)
    spec: Any = vars(of_side)["TrainingSpec"]  # checkouts differ in where it is defined
    training = spec.model_validate(
        {"steps": 100, "batch_tokens": sum(ROW), "optimizer": "adamw", "learning_rate": 1e-5, "dropout": 0.0}
        | {"precision": precision}
    )
    trainer = of_side.Trainer(workload.model(shape), training, list(workload.FOUR))
    now = time.process_time if os.environ.get(CLOCK) == "cpu" else time.perf_counter
    for line in sys.stdin:
        rows = [row(int(line))]
        began = now()
        record = trainer.step(int(line), rows).record
        seconds = now() - began
        assert record is not None
        print(json.dumps({"seconds": seconds, "loss": record.loss, "norm": record.gradient_norm}), flush=True)


def compare(against: Path, precision: str, options: argparse.Namespace) -> dict[str, Any]:
    """Returns how much faster a step is here, and how far its numbers are from the other's."""
    sides = [Side(root, precision, options) for root in (HERE.parents[1], against)]
    for one in sides:
        one.step(0)  # warm
    ratios, off_loss, off_norm = [], [], []
    seconds: tuple[list[float], list[float]] = [], []
    for number in range(1, options.steps + 1):
        order = (0, 1) if number % 2 else (1, 0)
        found = {which: sides[which].step(number) for which in order}
        ratios.append(found[1]["seconds"] / found[0]["seconds"])
        for which, of_side in enumerate(seconds):
            of_side.append(found[which]["seconds"])
        print(precision, number, found, file=sys.stderr, flush=True)
        off_loss.append(abs(found[0]["loss"] / found[1]["loss"] - 1))
        off_norm.append(abs(found[0]["norm"] / found[1]["norm"] - 1))
    for one in sides:
        one.close()
    return {
        "faster": workload.spread(ratios),
        "fastest_steps": min(seconds[1]) / min(seconds[0]),
        "step_seconds": statistics.median(seconds[0]),
        "loss_differs_by": max(off_loss),
        "gradient_norm_differs_by": max(off_norm),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="the root of the other checkout")
    parser.add_argument("--precision", choices=PRECISIONS, action="append", help="all by default; may be repeated")
    parser.add_argument("--shape", choices=list(workload.SHAPES), default="small")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu: one thread and its own CPU seconds, for a machine that others use",
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side(options.precision[0], options.shape)
        return
    if options.against is None:
        parser.error("--against is needed")
    ratios: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    for precision in options.precision or PRECISIONS:
        found = compare(options.against, precision, options)
        ratios[precision] = found.pop("faster")
        figures |= {f"{precision}_{name}": value for name, value in found.items()}
        print(precision, ratios[precision], found, file=sys.stderr, flush=True)
    emit({"machine": workload.machine(), "ratios": ratios, "figures": figures | {"clock": options.clock}}, options.out)


if __name__ == "__main__":
    main()
