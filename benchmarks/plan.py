"""Time and memory that the packed order of a large mixture takes, and how full its rows are.

    python -m benchmarks.plan [--examples 15000000] [--tasks 1800] [--workers 1024] [--out FILE]

Makes the lengths of a FLAN-scale mixture, builds the order, counts the rows of one pass over that
many examples, and looks up single rows at random places (without a cache) and one step of one of
many workers. Prints figures as JSON.
"""

import argparse
import math
import os
import platform
import resource
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.output import emit
from raytrain.config.training import PackingShape
from raytrain.training.data.packing import ExampleLengths, PackedOrder
from raytrain.training.data.sampling_order import SamplingOrder, TaskStream

# examples, source mean and sigma, target mean and sigma of: summarization, rating, named entities,
# code translation
FOUR = [
    (27_192, 190, 0.654, 30, 0.55),
    (20_000, 120, 0.6, 2, 0.0),
    (14_041, 30, 0.45, 20, 0.5),
    (10_300, 60, 0.6, 60, 0.6),
]


def drawn(
    rng: np.random.Generator, count: int, mean: float, sigma: float, *, least: int, most: int
) -> npt.NDArray[np.uint16]:
    """Returns log-normal lengths, clipped to least .. most."""
    lengths = np.exp(rng.normal(math.log(mean) - sigma**2 / 2, sigma, count))
    return np.clip(np.rint(lengths), least, most).astype(np.uint16)


def packed_order(
    kinds: Sequence[tuple[int, float, float, float, float]], shape: PackingShape, seed: int = 17
) -> PackedOrder:
    rng = np.random.default_rng(1234)
    tasks = [
        ([drawn(rng, n, s, s_sigma, least=4, most=512)], [drawn(rng, n, t, t_sigma, least=2, most=128)])
        for n, s, s_sigma, t, t_sigma in kinds
    ]
    total = sum(kind[0] for kind in kinds)
    streams = [TaskStream(f"task-{i}", kind[0], 1, kind[0] / total) for i, kind in enumerate(kinds)]
    return PackedOrder(SamplingOrder(streams, seed), ExampleLengths.of(tasks), shape)


def tasks_of(examples: int, tasks: int) -> list[tuple[int, float, float, float, float]]:
    """Returns tasks of very different sizes with `examples` in total, none above 30,000."""
    rng = np.random.default_rng(7)
    sizes = np.exp(rng.normal(8, 1.8, tasks))
    low, high = 1e-3, 1e5
    for _ in range(60):  # the factor that makes the capped sizes sum to what is asked
        middle = math.sqrt(low * high)
        low, high = (middle, high) if np.clip(sizes * middle, 20, 30_000).sum() < examples else (low, middle)
    counts = np.clip(sizes * low, 20, 30_000).astype(int)
    kinds = [FOUR[i] for i in rng.integers(0, len(FOUR), tasks)]
    return [(int(n), *kind[1:]) for n, kind in zip(counts, kinds, strict=True)]


def milliseconds(action: object, places: list[int], packed: PackedOrder) -> list[float]:
    out = []
    for k in places:
        packed._packed.clear()  # as if no block had been packed yet
        began = time.perf_counter()
        action(k)  # type: ignore[operator]
        out.append(1e3 * (time.perf_counter() - began))
    return out


def fill(shape: PackingShape, examples: int = 60_000) -> float:
    packed = packed_order(FOUR, shape)
    blocks = max(1, examples // packed.block)
    rows = packed.first_row(blocks)
    source, target = packed.lengths.at(packed.order.examples(0, blocks * packed.block))
    return float((source.sum() + target.sum()) / (rows * (shape.source + shape.target)))


def measure(examples: int = 15_000_000, tasks: int = 1_800, workers: int = 1_024) -> dict[str, Any]:
    """Measures building the order, counting and looking up its rows, memory, and fill.

    `plan_seconds_15m` is what a worker waits for before it can look up any row, `row_k_ms` what one
    row at a random place then takes without a cache, and `one_workers_step_ms` what eight take.
    `peak_mib` is that of the entire process.
    """
    shape = PackingShape(source=8192, target=1792)
    kinds = tasks_of(examples, tasks)
    total = sum(kind[0] for kind in kinds)
    shares = [kind[0] / total for kind in kinds]
    began = time.perf_counter()
    SamplingOrder(
        [TaskStream(f"task-{i}", kind[0], 1, share) for i, (kind, share) in enumerate(zip(kinds, shares, strict=True))],
        17,
    )
    order_seconds = time.perf_counter() - began
    packed = packed_order(kinds, shape)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    rows = packed.first_row(-(-total // packed.block))
    index_seconds = time.perf_counter() - began

    places = np.random.default_rng(3).integers(0, rows, 200).tolist()
    lookups = milliseconds(lambda k: packed.rows(k, 1), places, packed)
    shares_of_steps = milliseconds(
        lambda k: [packed.rows(i, 1) for i in range(k, k + 8 * workers, workers)], places[:10], packed
    )
    return {
        "examples": total,
        "tasks": len(kinds),
        "workers": workers,
        "rows": rows,
        "plan_seconds_15m": order_seconds + index_seconds,
        "order_of_tasks_seconds": order_seconds,
        "count_rows_seconds": index_seconds,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "peak_mib_before_counting": before / 1024,
        "row_k_ms": summary(lookups),
        "one_workers_step_ms": summary(shares_of_steps),
        "fill_8192_1792": fill(shape),
        "fill_1365_299": fill(PackingShape(source=1365, target=299)),
        "fill_512_128": fill(PackingShape(source=512, target=128), 20_000),
    }


def summary(values: list[float]) -> dict[str, float]:
    p99 = sorted(values)[math.ceil(0.99 * len(values)) - 1]
    return {"median": statistics.median(values), "p99": p99, "max": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=15_000_000)
    parser.add_argument("--tasks", type=int, default=1_800)
    parser.add_argument("--workers", type=int, default=1_024)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    figures = measure(options.examples, options.tasks, options.workers)
    machine = {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    emit({"machine": machine, "ratios": {}, "figures": figures}, options.out)


if __name__ == "__main__":
    main()
