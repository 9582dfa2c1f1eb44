"""Nodes that leave, announced or not: only steps since the last checkpoint are repeated."""

import threading
import time

import pytest

from raytrain.runs.checkpoints import committed_checkpoints
from raytrain.telemetry.segments import read_segments
from tests.support.elastic_cluster import elastic, node_cluster, trained, wait_until
from tests.support.tiny_run import tiny_run

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STEPS = 4000  # some ten milliseconds each


@pytest.fixture
def cluster(monkeypatch):
    with node_cluster(monkeypatch) as made:
        yield made


def drain(cluster, node, seconds):
    """Announces, as a cloud does for a spot node, that it leaves in `seconds`."""
    import ray
    from ray.core.generated import autoscaler_pb2

    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline = time.time_ns() // 10**6 + int(1000 * seconds)
    accepted, _ = ray._raylet.GcsClient(address=cluster.address).drain_node(node.node_id, reason, "", deadline)
    assert accepted


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
    result = trained(run, events, progress)
    thread.join()
    assert not failed
    assert result.step == STEPS
    assert kinds().count("NodeLeaving") == 1
    saved = next(fields["step"] for kind, _, fields in events if kind == "CheckpointCommitted")
    assert 50 <= saved < STEPS
    again = [fields["step"] for kind, _, fields in events if kind == "WorkerRestarted"]
    assert again == [saved]
    lines = read_segments(run.store, run.layout, "metrics")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert {ref.step for ref in committed_checkpoints(run.store, run.layout)} == {saved, STEPS}


def test_a_node_that_is_lost_without_a_word_leaves_the_others_training(cluster, tmp_path):
    """With `minWorkers: 1` one worker resumes alone from the last checkpoint."""
    shape = {"steps": 400, "checkpoint_every": 100}
    calm = tiny_run(tmp_path / "calm", workers=1, **shape)
    lossy = elastic(tiny_run(tmp_path / "lossy", workers=2, **shape), 1)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    events, progress, failed = [], [], []

    def lose():
        try:
            wait_until(lambda: progress and progress[-1].step >= 150)
            cluster.remove_node(nodes[1], allow_graceful=False)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=lose)
    thread.start()
    assert trained(lossy, events, progress).step == 400
    thread.join()
    assert not failed
    (again,) = [fields for kind, _, fields in events if kind == "WorkerRestarted"]
    assert again["workers"] == 1
    assert again["step"] in (100, 200, 300)
    ours = read_segments(lossy.store, lossy.layout, "metrics")
    assert [line["step"] for line in ours] == list(range(1, 401))
    trained(calm, [], [])
    theirs = read_segments(calm.store, calm.layout, "metrics")
    assert [(line["source_tokens"], line["target_tokens"]) for line in ours] == [
        (line["source_tokens"], line["target_tokens"]) for line in theirs
    ]
    assert [line["loss"] for line in ours] == pytest.approx([line["loss"] for line in theirs], rel=1e-3)
