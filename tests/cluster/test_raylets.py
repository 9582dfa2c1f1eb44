"""A raylet, Ray's process on every node, is killed in a worker's and in the head's pod."""

import pytest

from raytrain.config.run_layout import RunLayout
from raytrain.telemetry.segments import read_segments
from raytrain_core.storage import open_store
from raytrain_core.storage.commit import read_manifest
from tests.cluster import tiny_quickstart

pytestmark = pytest.mark.slow

STEPS, EVERY = 500, 50


@pytest.mark.parametrize("kind", ["worker", "head"])
def test_a_killed_raylet_costs_at_most_the_steps_since_the_last_checkpoint(
    target, operator, namespace, bucket, tiny_world, told, kind
):
    world, storage = tiny_quickstart.upload(tiny_world, f"s3://{bucket}/world"), f"s3://{bucket}/raytrain"
    content = tiny_quickstart.job(kind, world, storage=storage, steps=STEPS)
    content["spec"]["training"]["checkpointEvery"] = EVERY
    target.apply(content, namespace)
    store, layout = open_store(f"{storage}/{namespace}"), RunLayout(kind)
    target.until(lambda: any(store.list(f"{layout.checkpoints}/")), "a checkpoint", kind, namespace)
    told("the first checkpoint is there")
    killed = _kill_raylet(target, namespace, kind)
    told(f"the raylet of {killed} is killed")
    status = target.wait_for("Complete", kind, namespace)["status"]
    told(f"Complete: {[(a['outcome'], a.get('reason'), a.get('message')) for a in status['attempts']]}")
    *lost, last = status["attempts"]
    assert last["outcome"] == "Succeeded"
    assert len(lost) <= 1
    assert all(a["outcome"] in ("Failed", "Interrupted") and a["reason"] and a["message"] for a in lost)
    assert read_manifest(store, layout.report) is not None
    steps = [line["step"] for line in read_segments(store, layout, "metrics")]
    assert steps == list(range(1, STEPS + 1)), "every step is recorded once"


def _kill_raylet(target, namespace, kind):
    """Kills it in the head's pod, or in the pod of the training worker."""
    label = f"ray.io/node-type={kind}"
    for pod in target.kubectl("get", "pods", "-n", namespace, "-l", label, "-o", "name").split():
        inside = ("exec", "-n", namespace, pod, "-c", "ray", "--")
        trains = target.kubectl(*inside, "pgrep", "-f", "TrainWorker|train_worker", check=False).strip()
        if kind == "head" or trains:
            target.kubectl(*inside, "pkill", "-KILL", "-x", "raylet")
            return pod
    raise AssertionError(f"no pod trains: {target.describe(kind, namespace)}")
