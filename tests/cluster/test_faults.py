"""Pods, operators and jobs are killed during a run, which must complete or say why it cannot."""

import json

import pytest

from raytrain.config.run_layout import RunLayout
from raytrain.telemetry.segments import read_segments
from raytrain_core.storage import open_store
from raytrain_core.storage.commit import read_manifest
from tests.cluster import tiny_quickstart

pytestmark = pytest.mark.slow

STEPS, EVERY = 500, 50


@pytest.fixture
def started(target, operator, namespace, bucket, tiny_world):
    """Starts a run; returns its storage once its first checkpoint is committed."""
    world = tiny_quickstart.upload(tiny_world, f"s3://{bucket}/world")

    def start(name: str, **cluster):
        storage = f"s3://{bucket}/raytrain"
        content = tiny_quickstart.job(name, world, storage=storage, steps=STEPS, **cluster)
        content["spec"]["training"]["checkpointEvery"] = EVERY
        target.apply(content, namespace)
        store, layout = open_store(f"{storage}/{namespace}"), RunLayout(name)
        target.until(lambda: any(store.list(f"{layout.checkpoints}/")), f"a checkpoint of {name}", name, namespace)
        return store

    return start


def _steps(store, name):
    """Returns the steps of the run by the attempt that last trained each."""
    found: dict[int, list[int]] = {}
    for line in read_segments(store, RunLayout(name), "metrics"):
        found.setdefault(line["attempt"], []).append(line["step"])
    return found


@pytest.mark.parametrize("kind", ["worker", "head"])
def test_deleted_pods_cost_the_steps_since_the_last_checkpoint(target, namespace, started, kind):
    """Losing the workers' pods ends the attempt; KubeRay replaces a lost head and resubmits."""
    store = started(kind)
    target.kubectl("delete", "pod", "-n", namespace, "-l", f"ray.io/node-type={kind}", "--force", "--grace-period=0")
    status = target.wait_for("Complete", kind, namespace)["status"]
    *lost, last = status["attempts"]
    assert last["outcome"] == "Succeeded"
    assert all(attempt["outcome"] == "Failed" and attempt["reason"] and attempt["message"] for attempt in lost)
    assert len(lost) == (1 if kind == "worker" else 0)
    assert read_manifest(store, RunLayout(kind).report) is not None
    assert min(_steps(store, kind)[2]) > 1, "it started again at step 1"


def test_a_killed_operator_disturbs_nothing_and_the_job_is_deleted_after_its_ttl(target, namespace, operator, started):
    store = started("calm", ttl="30s")
    before = target.get("rayjob", "calm-a01", namespace)["metadata"]["uid"]
    target.kubectl("delete", "pod", "-n", operator, "--all", "--force", "--grace-period=0")
    status = target.wait_for("Complete", "calm", namespace)["status"]
    assert [attempt["outcome"] for attempt in status["attempts"]] == ["Succeeded"]
    assert target.get("rayjob", "calm-a01", namespace)["metadata"]["uid"] == before
    jobs = ("get", "ftj,rayjobs,pods", "-n", namespace, "-o", "name")
    target.until(lambda: not target.kubectl(*jobs), "the job to vanish with its pods", "calm", namespace)
    assert read_manifest(store, RunLayout("calm").report) is not None


def test_two_operators_create_one_attempt(target, namespace, operator, started):
    scale = ("scale", "deployment/raytrain-operator", "-n", operator)
    target.kubectl(*scale, "--replicas=2")
    target.kubectl("rollout", "status", "deployment/raytrain-operator", "-n", operator, "--timeout=120s")
    try:
        started("twice")
        status = target.wait_for("Complete", "twice", namespace)["status"]
    finally:
        target.kubectl(*scale, "--replicas=1")
    assert [attempt["outcome"] for attempt in status["attempts"]] == ["Succeeded"]
    rayjobs = json.loads(target.kubectl("get", "rayjobs", "-n", namespace, "-o", "json"))["items"]
    assert [item["metadata"]["name"] for item in rayjobs] == ["twice-a01"]


def test_a_job_deleted_without_an_operator_loses_its_pods_and_keeps_its_checkpoints(
    target, namespace, operator, started
):
    store = started("gone")
    checkpoints = f"{RunLayout('gone').checkpoints}/"
    scale = ("scale", "deployment/raytrain-operator", "-n", operator)
    target.kubectl(*scale, "--replicas=0")
    try:
        target.kubectl("wait", "pod", "-n", operator, "--all", "--for=delete", "--timeout=60s")
        target.kubectl("delete", "ftj", "gone", "-n", namespace, "--timeout=30s")
        kinds, label = "rayjobs,rayclusters,pods,configmaps", "raytrain.dev/job=gone"
        mine = ("get", kinds, "-n", namespace, "-l", label, "-o", "name")
        target.until(lambda: not target.kubectl(*mine), "everything of the job to vanish", "gone", namespace)
    finally:
        target.kubectl(*scale, "--replicas=1")
    assert any(store.list(checkpoints))


def test_wrong_credentials_are_reported_and_never_leaked(target, operator, namespace, bucket, tiny_world):
    canary = "canary-5f1e0b7c"
    wrong = json.dumps({"stringData": {"AWS_SECRET_ACCESS_KEY": canary}})
    target.kubectl("patch", "secret", "bucket", "-n", namespace, "-p", wrong)
    content = tiny_quickstart.job("locked", f"s3://{bucket}/world", storage=f"s3://{bucket}/raytrain", retries=0)
    target.apply(content, namespace)
    status = target.wait_for("Failed", "locked", namespace)["status"]
    assert status["result"]["reason"] == "StorageError"
    assert "credentials" in status["message"].lower() or "denied" in status["message"].lower()
    shown = target.kubectl("get", "ftj,rayjobs,rayclusters,pods,configmaps,events", "-n", namespace, "-o", "yaml")
    logs = target.kubectl("logs", "-n", operator, "deploy/raytrain-operator")
    assert canary not in shown + logs + target.describe("locked", namespace)


def test_a_suspended_run_releases_its_pods_and_resumes(target, namespace, started):
    store = started("paused")

    def suspend(value):
        body = json.dumps({"spec": {"cluster": {"suspend": value}}})
        target.kubectl("patch", "ftj", "paused", "-n", namespace, "--type=merge", "-p", body)

    suspend(True)
    pods = ("get", "pods", "-n", namespace, "-l", "raytrain.dev/job=paused", "-o", "name")

    def phase():
        return target.get("ftj", "paused", namespace)["status"]["phase"]

    target.until(lambda: phase() == "Suspended", "the job to be suspended", "paused", namespace)
    assert not target.kubectl(*pods), "Suspended is said when the pods are gone"
    suspend(False)
    status = target.wait_for("Complete", "paused", namespace)["status"]
    assert [attempt["outcome"] for attempt in status["attempts"]] == ["Suspended", "Succeeded"]
    assert min(_steps(store, "paused")[2]) > 1, "it started again at step 1"
