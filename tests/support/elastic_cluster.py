"""A Ray cluster whose nodes come and go, and a tiny run trained on it."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from raytrain.training.ray.driver import TrainResult, train
from tests.support.tiny_run import TinyRun

PATIENCE = 300.0


@contextlib.contextmanager
def node_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yields a cluster of a head that computes nothing; the test adds, drains and removes nodes."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    monkeypatch.setenv("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "0.2")
    # Nodes come and go in a thread, where Ray cannot set signal handlers.
    made = Cluster(initialize_head=True, shutdown_at_exit=False, head_node_args={"num_cpus": 0})
    try:
        ray.init(address=made.address, log_to_driver=False)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()  # type: ignore[no-untyped-call]


def wait_until(condition: Callable[[], Any]) -> None:
    """Waits until `condition` holds; AssertionError after five minutes."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def elastic(run: TinyRun, least: int) -> TinyRun:
    """Returns the run with `minWorkers`."""
    spec = run.job.spec
    training = spec.resources.training.model_copy(update={"min_workers": least})
    resources = spec.resources.model_copy(update={"training": training})
    return dataclasses.replace(
        run, job=run.job.model_copy(update={"spec": spec.model_copy(update={"resources": resources})})
    )


def trained(run: TinyRun, events: list[Any], progress: list[Any]) -> TrainResult:
    """Trains in the cluster; what is told is appended to `events` and `progress`."""
    return train(
        run.job,
        store=run.store,
        attempt=run.attempt(),
        shard_set=run.shard_set,
        model_folder=run.model_folder,
        cache=run.cache,
        on_progress=progress.append,
        on_event=lambda kind, message, **fields: events.append((kind, message, fields)),
        local=False,
    )
