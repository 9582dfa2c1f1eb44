"""Workers that prepare shards: Ray tasks in a cluster, local processes elsewhere."""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import queue
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from data_prep.shards.work_unit import ShardParts, WorkUnit
from data_prep.shards.workers import Workers, local_workers
from data_prep.shards.writer import OnAdvance, write_unit
from raytrain.config.job import Resources
from raytrain.config.job_status import DRIVER_CPUS
from raytrain.pipeline.ray_cluster import ray_cluster
from raytrain_core.errors import ClusterError, UserError


def share(cpus: float) -> tuple[int, float]:
    """Returns the number of tasks and the CPUs of each; with the driver they fit into `cpus`."""
    count = max(1, int(cpus))
    return count, max(0.001, math.floor(1000 * (cpus - DRIVER_CPUS) / count) / 1000)


class RayTasks:
    """Ray tasks that use `cpus` together with the driver.

    Ray repeats a task that was lost with its node.
    """

    def __init__(self, cpus: float) -> None:
        import ray

        self.count, each = share(cpus)
        self._write = ray.remote(num_cpus=each, scheduling_strategy="SPREAD")(_write)
        self._pending: dict[Future[ShardParts], Any] = {}
        self._finished: queue.SimpleQueue[tuple[OnAdvance, int]] = queue.SimpleQueue()

    def submit(self, unit: WorkUnit, on_advance: OnAdvance) -> Future[ShardParts]:
        """Submits a work unit to Ray."""
        reference = self._write.remote(pickle.dumps(unit, pickle.HIGHEST_PROTOCOL))
        future: Future[ShardParts] = Future()
        self._pending[future] = reference
        examples = len(unit.examples)

        def done(answer: Future[bytes]) -> None:
            if (error := answer.exception()) is None:
                self._finished.put((on_advance, examples))
                future.set_result(pickle.loads(answer.result()))
            else:
                future.set_exception(_cause(error))

        reference.future().add_done_callback(done)
        return future

    def tick(self) -> None:
        """Reports the tasks that have finished since the last call."""
        while not self._finished.empty():
            on_advance, examples = self._finished.get()
            on_advance(examples)
        for future in [future for future in self._pending if future.done()]:
            del self._pending[future]

    def close(self) -> None:
        """Cancels unfinished tasks."""
        import ray

        for future, reference in self._pending.items():
            if not future.done():
                ray.cancel(reference, force=True)


@contextlib.contextmanager
def preparation_workers(resources: Resources) -> Iterator[Workers]:
    """Provides workers for `resources.preparation.cpus`; locally at most one per core."""
    cpus = resources.preparation.cpus
    if not os.environ.get("RAY_ADDRESS"):
        with local_workers(cpus) as workers:
            yield workers
        return
    with ray_cluster(resources):
        tasks = RayTasks(cpus)
        try:
            yield tasks
        finally:
            tasks.close()


def _write(unit: bytes) -> bytes:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core each
    return pickle.dumps(write_unit(pickle.loads(unit)))


def _cause(error: BaseException) -> BaseException:
    """Returns the original error of a task, without Ray's wrapper."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, UserError):
        return cause
    return ClusterError(
        f"a Ray task of the preparation failed: {cause or error}",
        hint="finished work is kept: run the same command again; if memory ran out, lower resources.preparation.cpus",
    )
