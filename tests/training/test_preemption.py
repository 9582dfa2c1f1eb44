"""A node is about to go: a checkpoint is taken when Ray says so, and nothing but the steps after it is made again."""

import threading
import time

import pytest
from tiny_run import tiny_run

from raytrain.telemetry.segments import read
from raytrain.training.checkpoint import committed
from raytrain.training.ray_train import train

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STEPS = 4000  # some ten milliseconds each
PATIENCE = 300.0


@pytest.fixture
def cluster(monkeypatch):
    """A head that computes nothing, and nodes that the test adds, drains and takes away."""
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
        made.shutdown()


def drain(cluster, node, seconds):
    """What a cloud does with a spot node: so long until it is gone."""
    import ray
    from ray.core.generated import autoscaler_pb2

    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline = time.time_ns() // 10**6 + int(1000 * seconds)
    accepted, _ = ray._raylet.GcsClient(address=cluster.address).drain_node(node.node_id, reason, "", deadline)
    assert accepted


def wait_until(condition):
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_reclaimed_node_costs_the_steps_since_its_notice(cluster, tmp_path):
    run = tiny_run(tmp_path / "run", workers=2, steps=STEPS, checkpoint_every=STEPS)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    events, progress, failed = [], [], []

    def kinds():
        return [kind for kind, _, _ in events]

    def reclaim():
        try:
            wait_until(lambda: progress and progress[-1].step >= 50)
            drain(cluster, nodes[1], 60)
            wait_until(lambda: "CheckpointCommitted" in kinds())
            cluster.remove_node(nodes[1], allow_graceful=False)
            cluster.add_node(num_cpus=1)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=reclaim)
    thread.start()
    result = train(
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
    thread.join()
    assert not failed
    assert result.step == STEPS
    assert kinds().count("NodeLeaving") == 1
    saved = next(fields["step"] for kind, _, fields in events if kind == "CheckpointCommitted")
    assert 50 <= saved < STEPS
    again = [fields["step"] for kind, _, fields in events if kind == "WorkerRestarted"]
    assert again == [saved]
    lines = read(run.store, run.layout, "metrics")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert {ref.step for ref in committed(run.store, run.layout)} == {saved, STEPS}
