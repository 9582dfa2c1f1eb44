"""Two workers that lose one, go on alone and grow again train as if undisturbed."""

import threading

import pytest

from raytrain.telemetry.segments import read_segments
from raytrain.training.ray import driver
from tests.support.elastic_cluster import elastic, node_cluster, trained, wait_until
from tests.support.tiny_run import tiny_run

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STEPS, EVERY = 3000, 200
LOST_AT = 250
NEVER_AGAIN = 10**9


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setattr(driver, "_RESIZE_SECONDS", 5.0)
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "30")  # Ray still counts the node that it has lost
    with node_cluster(monkeypatch) as made:
        yield made


def test_two_workers_one_and_two_again_have_the_losses_of_two(cluster, tmp_path):
    """Bit for bit: with two rows a step, one worker adds the same two gradients as two workers do.

    The loss costs the steps since the last checkpoint. Growing costs those that are made while the
    checkpoint for it is written: it is taken although none is due.
    """
    calm = tiny_run(tmp_path / "calm", workers=2, steps=STEPS, batch_tokens=480, checkpoint_every=NEVER_AGAIN)
    shaken = elastic(tiny_run(tmp_path / "shaken", workers=2, steps=STEPS, batch_tokens=480, checkpoint_every=EVERY), 1)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    events, progress, failed = [], [], []

    def restarts():
        return [fields for kind, _, fields in events if kind == "WorkerRestarted"]

    def lose_and_return():
        try:
            wait_until(lambda: progress and progress[-1].step >= LOST_AT)
            cluster.remove_node(nodes[1], allow_graceful=False)
            wait_until(restarts)
            cluster.add_node(num_cpus=1)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=lose_and_return)
    thread.start()
    assert trained(shaken, events, progress).step == STEPS
    thread.join()
    assert not failed

    alone, together = restarts()
    assert (alone["workers"], together["workers"]) == (1, 2)
    assert 0 < alone["step"] <= progress[-1].step
    assert alone["step"] % EVERY == 0
    (change,) = [fields for kind, _, fields in events if kind == "WorkersChange"]
    assert change["workers"] == 2
    assert alone["step"] < together["step"] < STEPS
    kinds = [kind for kind, _, _ in events]
    announced = kinds.index("WorkersChange")
    assert "CheckpointCommitted" in kinds[announced : kinds.index("WorkerRestarted", announced)]

    ours = read_segments(shaken.store, shaken.layout, "metrics")
    trained(calm, [], [])
    theirs = read_segments(calm.store, calm.layout, "metrics")
    for name in ("step", "loss", "loss_by_task", "gradient_norm", "source_tokens", "target_tokens"):
        assert [line[name] for line in ours] == [line[name] for line in theirs], name
