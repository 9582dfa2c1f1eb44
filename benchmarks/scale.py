"""A run of 1,024 workers over 15 million examples, simulated: plan, messages, commit, restart.

    python -m benchmarks.scale [--examples 15000000] [--tasks 1800] [--workers 1024] [--out FILE]

The code that plans, packs, shares rows among workers, commits and finds checkpoints, and talks to
the driver is the real one; only the network between driver and workers is a stand-in that counts
calls. Workers do the same work at the same time on machines of their own, so the seconds of a group
are those of its first worker, which also looks for the checkpoint. They are its own CPU seconds, so
that what else the machine does is not in them (`commit_seconds` is by the clock). Collectives and
Ray's own start of processes are not in them, nor is the transfer of weights: files of checkpoints
are small here. Each role runs in a process of its own, whose peak memory is told.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.output import emit
from benchmarks.plan import packed_order, tasks_of
from benchmarks.workload import machine
from raytrain.config.run_layout import RunLayout
from raytrain.config.training import PackingShape
from raytrain.training.data.batch import BatchPrefetcher
from raytrain.training.data.packing import SampleRef
from raytrain_core.storage.commit import commit
from raytrain_core.storage.local import LocalStore

SHAPE = PackingShape(source=8192, target=1792)
LOST = (1, 8, 512)
STEPS = 200
EVERY = 100
"""Steps from one checkpoint to the next."""


class CountedNetwork:
    """Stands in for `ray` in the channel: calls of the actor are made at once, and counted."""

    def __init__(self, actor: object) -> None:
        self.calls, self._actor = 0, actor

    def __getattr__(self, name: str) -> Any:
        """Returns a method of the actor as Ray would: an object with `remote`."""
        return _Method(self, getattr(self._actor, name))

    def get(self, value: Any, timeout: float | None = None) -> Any:
        """Returns an answer that has already arrived."""
        del timeout
        return value

    def wait(self, values: list[Any], timeout: float | None = None) -> tuple[list[Any], list[Any]]:
        """Returns that all answers have arrived."""
        del timeout
        return values, []


class _Method:
    def __init__(self, network: CountedNetwork, call: Callable[..., Any]) -> None:
        self._network, self._call = network, call

    def remote(self, *arguments: Any) -> Any:
        self._network.calls += 1
        return self._call(*arguments)


def peak_mib() -> float:
    """Returns the highest memory use of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def driver(workers: int, steps: int = STEPS) -> dict[str, Any]:
    """Counts the calls that all workers' steps make to the driver's channel.

    Every step reports progress here, as when steps take longer than the interval between reports.
    """
    from raytrain.training.ray import channel, reporting
    from raytrain.training.step import StepRecord

    actor = channel.ChannelActor()
    network = CountedNetwork(actor)
    vars(channel)["ray"] = network
    reporting._PROGRESS_SECONDS = 0.0
    end = channel.DriverChannel(network)
    for _ in range(workers):
        end.has_failed()
    end.begin_group()
    at_start, network.calls = network.calls, 0
    first = reporting.ProgressEmitter(end, steps)
    stop, notices = end.request_signal(), reporting.PreemptionNotices(end)
    others = [reporting.worker_callbacks(None, None, rank) for rank in range(1, workers)]  # type: ignore[arg-type]
    hooks = [other.__enter__() for other in others]
    for step in range(steps):
        stop.latest()
        notices.is_new()
        first.after_step(_record(StepRecord, step), _position(step))
        for hook in hooks:
            hook.raise_errors()
            hook.stop_requested()
            hook.checkpoint_requested()
            hook.on_step(None)  # type: ignore[arg-type]
        if step % 10 == 9:
            actor.drain()
    return {"at_start": at_start, "per_step": network.calls / steps}


def driver_memory(workers: int) -> dict[str, Any]:
    """Returns the peak memory of a process with the driver's code and the channel.

    Every worker has asked its question of the start, and a hundred messages wait to be read.
    """
    from raytrain.training.ray import channel, driver

    actor = channel.ChannelActor()
    for _ in range(workers):
        actor.failed()
    for step in range(100):
        actor.emit(channel.TrainEvent("StepSkipped", f"step {step}", {"step": step}))
    return {"mib": peak_mib(), "messages": len(actor.drain()), "restarts": driver.MAX_RESTARTS}


def _record(kind: Any, step: int) -> Any:
    losses, counts = {f"task-{i}": 1.0 for i in range(8)}, {f"task-{i}": 10 for i in range(8)}
    return kind(step, 1.0, losses, counts, 9000, 1000, 80, 1e-4, 1.0, 1.0, 1e4, {})


def _position(step: int) -> Any:
    """Returns the position after a step."""
    from raytrain.training.checkpoint import Position

    return Position(step + 1, 10_000 * step, 80 * step)


def worker(examples: int, tasks: int, workers: int) -> dict[str, Any]:
    """Times the plan of one worker, and restarts of groups that have lost some.

    `plan_seconds` is until the plan can look up any row of a pass over all examples. A restart is:
    find and verify the newest committed checkpoint (the one after it was killed before its
    manifest), build the order, count the rows up to the position, look up the first step's rows.
    """
    kinds = tasks_of(examples, tasks)
    began = time.process_time()
    packed = packed_order(kinds, SHAPE)
    made = time.process_time() - began  # most of it makes the lengths, which a run reads
    blocks = -(-sum(kind[0] for kind in kinds) // packed.block)
    began = time.process_time()
    rows = packed.first_row(blocks)
    counted = time.process_time() - began
    steps = rows // (8 * workers)
    with tempfile.TemporaryDirectory() as folder:
        store, layout = LocalStore(Path(folder) / "store"), RunLayout("scale")
        saved = max(EVERY, steps // 2 // EVERY * EVERY)
        commit_seconds = _checkpoints(store, layout, saved, 8 * workers)
        restarts = {
            lost: _restart(store, layout, kinds, 8 * workers, workers - lost) for lost in LOST if lost < workers
        }
    return {
        "order_and_lengths_seconds": made,
        "plan_seconds": counted + _order_seconds(kinds),
        "rows": rows,
        "restart_seconds": restarts,
        "commit_seconds": commit_seconds,
        "mib": peak_mib(),
    }


def _order_seconds(kinds: list[tuple[int, float, float, float, float]]) -> float:
    from raytrain.training.data.sampling_order import SamplingOrder, TaskStream

    total = sum(kind[0] for kind in kinds)
    began = time.process_time()
    SamplingOrder([TaskStream(f"task-{i}", kind[0], 1, kind[0] / total) for i, kind in enumerate(kinds)], 17)
    return time.process_time() - began


def _checkpoints(store: LocalStore, layout: RunLayout, saved: int, rows_per_step: int) -> float:
    """Commits checkpoints up to `saved`, and one more that is killed before its manifest.

    Returns the seconds of one commit.
    """

    class KilledError(Exception):
        pass

    def kill() -> None:
        raise KilledError

    files = {"model.safetensors": b"w" * 65_536, "optimizer.safetensors": b"o" * 65_536}
    seconds = []
    for step in range(max(EVERY, saved - 4 * EVERY), saved + EVERY + 1, EVERY):
        body = {"kind": "checkpoint", "step": step, "attempt": 1, "next_row": step * rows_per_step}
        body |= {"tokens": step, "examples": step, "identity": "scale"}
        began = time.perf_counter()
        try:
            commit(store, layout.checkpoint(step, 1), files, body, guard=kill if step > saved else None)
        except KilledError:
            continue
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def _restart(store: LocalStore, layout: RunLayout, kinds: list[Any], rows_per_step: int, workers: int) -> float:
    from raytrain.training import checkpoint

    began = time.process_time()
    found = checkpoint.fetch_newest(store, layout, store.root / f"fetched-{workers}", identity="scale")
    assert found is not None
    position = checkpoint.position_of(checkpoint.manifest_of(store, found[0]))
    seconds = time.process_time() - began
    packed = packed_order(kinds, SHAPE)  # what a run reads from parts is made here: not timed
    began = time.process_time()
    packed.rows(position.step * rows_per_step, 1)
    own_rows(packed, position.step, rows_per_step, 0, workers)
    return seconds + _order_seconds(kinds) + time.process_time() - began


def own_rows(packed: Any, step: int, rows_per_step: int, rank: int, workers: int) -> list[tuple[int, Any]]:
    """Returns number and samples of a worker's rows of a step, read as training reads them."""
    samples: list[SampleRef] = []

    def read(sample: SampleRef) -> tuple[Any, Any]:
        samples.append(sample)
        return np.ones(1, np.uint16), np.ones(1, np.uint16)

    prefetcher = BatchPrefetcher(
        packed,
        read,
        rows_per_step=rows_per_step,
        worker=rank,
        workers=workers,
        start=step,
        stop=step + 1,
    )
    found, taken = [], 0
    for batch in prefetcher.read_step(step):
        found.append((batch.index, samples[taken : taken + batch.examples]))
        taken += batch.examples
    return found


def measure(examples: int = 15_000_000, tasks: int = 1_800, workers: int = 1_024) -> dict[str, Any]:
    """Measures all roles, each in its own process, and puts their figures together."""
    context = multiprocessing.get_context("spawn")
    results = list[dict[str, Any]]()
    roles: list[tuple[Callable[..., dict[str, Any]], tuple[int, ...]]] = [
        (worker, (examples, tasks, workers)),
        (driver, (workers,)),
        (driver, (1,)),
        (driver_memory, (workers,)),
        (driver_memory, (1,)),
    ]
    for role, arguments in roles:
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            results.append(pool.submit(role, *arguments).result())
    one, many, single, memory, memory_single = results
    return {
        "examples": examples,
        "tasks": tasks,
        "workers": workers,
        "rows": one["rows"],
        f"plan_seconds_{workers}": one["plan_seconds"],
        f"driver_messages_per_step_{workers}": many["per_step"],
        "driver_messages_per_step_1": single["per_step"],
        f"driver_messages_at_start_{workers}": many["at_start"],
        f"restart_seconds_{workers}": {f"lost_{lost}": s for lost, s in one["restart_seconds"].items()},
        "commit_seconds": one["commit_seconds"],
        f"driver_mib_{workers}": memory["mib"],
        "driver_mib_1": memory_single["mib"],
        f"worker_mib_{workers}": one["mib"],
    }


def main() -> None:
    """Reads the arguments, measures, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=15_000_000)
    parser.add_argument("--tasks", type=int, default=1_800)
    parser.add_argument("--workers", type=int, default=1_024)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    figures = measure(options.examples, options.tasks, options.workers)
    emit({"machine": machine(), "ratios": {}, "figures": figures}, options.out)


if __name__ == "__main__":
    main()
