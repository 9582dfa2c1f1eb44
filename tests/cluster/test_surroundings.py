"""What a run depends on changes or runs out: keys, the bucket, memory, disk.

The run continues, or reports why it cannot.
"""

import json

import pytest

from raytrain.config.run_layout import RunLayout
from raytrain.runs.checkpoints import committed_checkpoints
from raytrain.training import checkpoint
from raytrain_core.storage import open_store
from tests.cluster import tiny_quickstart
from tests.support.s3_server import s3_server

pytestmark = pytest.mark.slow

STEPS, EVERY = 500, 50


@pytest.fixture
def bucket_server(target, tmp_path):
    """A separate server for each test, as its keys change."""
    with s3_server(tmp_path, target.host) as server:
        yield server


@pytest.fixture
def apply(target, operator, namespace, bucket, tiny_world):
    """Sends a tiny job; the storage of its run."""
    world = tiny_quickstart.upload(tiny_world, f"s3://{bucket}/world")

    def send(name, *, training=None, **cluster):
        storage = f"s3://{bucket}/raytrain"
        content = tiny_quickstart.job(name, world, storage=storage, steps=STEPS, **cluster)
        content["spec"]["training"]["checkpointEvery"] = EVERY
        content["spec"]["resources"]["training"] |= training or {}
        target.apply(content, namespace)
        return f"{storage}/{namespace}"

    return send


def until_checkpoint(target, namespace, name, storage):
    store, layout = open_store(storage), RunLayout(name)
    target.until(lambda: committed_checkpoints(store, layout), f"a checkpoint of {name}", name, namespace)


def message(status):
    return status["message"] + " ".join(attempt.get("message") or "" for attempt in status["attempts"])


def test_the_next_attempt_uses_rotated_keys(target, namespace, bucket_server, apply, monkeypatch):
    storage = apply("rotated")
    until_checkpoint(target, namespace, "rotated", storage)
    new = bucket_server.rotated("second", "second-secret")
    keys = {"AWS_ACCESS_KEY_ID": "second", "AWS_SECRET_ACCESS_KEY": "second-secret"}
    target.kubectl("patch", "secret", "bucket", "-n", namespace, "-p", json.dumps({"stringData": keys}))
    status = target.wait_for("Complete", "rotated", namespace)["status"]
    first, second = status["attempts"]
    assert (first["outcome"], first["reason"], second["outcome"]) == ("Failed", "StorageError", "Succeeded")
    assert "credentials" in first["message"]
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    assert open_store(storage).get(f"{RunLayout('rotated').report}/index.html")
    new.rotated(bucket_server.access_key, bucket_server.secret_key)  # for the fixture that removes the bucket


def test_a_removed_bucket_is_named(target, namespace, bucket_server, bucket, apply):
    storage = apply("homeless", retries=1)
    until_checkpoint(target, namespace, "homeless", storage)
    bucket_server.remove_bucket(bucket)
    try:
        status = target.wait_for("Failed", "homeless", namespace)["status"]
    finally:
        bucket_server.make_bucket(bucket)
    assert {attempt["reason"] for attempt in status["attempts"]} == {"StorageError"}
    assert bucket in message(status)


def test_too_little_memory_is_reported(target, namespace, apply):
    apply("hungry", training={"gpus": 1, "memory": "700Mi"}, retries=0)
    status = target.wait_for("Failed", "hungry", namespace)["status"]
    assert "memory" in message(status)
    assert "resources.training.memory" in message(status)


def test_a_full_disk_is_reported_with_its_path_and_keeps_complete_checkpoints(target, namespace, apply, tmp_path):
    volume = {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}
    container = {"name": "ray", "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}}}
    storage = apply("full", podTemplate={"spec": {"containers": [container], "volumes": [volume]}}, retries=0)
    until_checkpoint(target, namespace, "full", storage)
    names = ("get", "pods", "-n", namespace, "-l", "ray.io/group=cpu", "-o", "name")
    for pod in target.kubectl(*names).split():
        fill = ("dd", "if=/dev/zero", "of=/tmp/filled", "bs=64k")
        target.kubectl("exec", "-n", namespace, pod, "-c", "ray", "--", *fill, check=False)
    status = target.wait_for("Failed", "full", namespace)["status"]
    assert "/tmp" in message(status)
    assert "No space left" in message(status)
    store = open_store(storage)
    kept = committed_checkpoints(store, RunLayout("full"))
    assert kept
    for ref in kept:
        checkpoint.fetch_files(store, ref, tmp_path)  # compares their digests
