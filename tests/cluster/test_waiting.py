"""Jobs that cannot begin yet, in real pods: no turn, no quota, no node, no such node.

Waiting costs no attempt and no retry, and the cause is told. Operator, KubeRay, scheduler and pods
are real. Where many jobs are needed, the program `ray` in their pods is a stand-in that ends after
a second (`stand_in_ray`); the other jobs are tiny runs.
"""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import stand_in_ray, tiny_quickstart
from tests.cluster.harness import cluster as harness
from tests.cluster.harness.console import timed_echo

pytestmark = pytest.mark.slow

OPERATOR_VALUES = [
    *("--set", "settings.maxRunningJobs.perNamespace=1", "--set", "settings.runs.podsReadySeconds=30"),
    *("--set", "settings.runs.keepClusterSeconds=0", "--set", "settings.retry.longestSeconds=10"),
]
JOBS = 30


@pytest.fixture(scope="session")
def stand_in(target):
    """An image whose `ray` is the stand-in."""
    ours = harness.find("default")
    if ours is None or os.environ.get("RAYTRAIN_TEST_KUBECONFIG"):
        pytest.skip("the stand-in of Ray can be put on the nodes of `make cluster` only")
    return ours.publish_program("ray", Path(stand_in_ray.__file__), timed_echo())


@pytest.fixture
def apply(target, operator, namespace, bucket, tiny_world):
    """Sends a tiny run."""
    world = tiny_quickstart.upload(tiny_world, f"s3://{bucket}/world")

    def send(name, **cluster):
        content = tiny_quickstart.job(name, world, storage=f"s3://{bucket}/raytrain", retries=0, **cluster)
        target.apply(content, namespace)
        return content

    return send


def status(target, namespace, name):
    return target.get("ftj", name, namespace).get("status", {})


def completed_at_once(found):
    """Whether the job is complete and no attempt was used up by waiting."""
    return [(a["number"], a["outcome"]) for a in found["attempts"]] == [(1, "Succeeded")]


@contextmanager
def quota(target, namespace, **hard):
    content = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": hard}}
    target.apply(content, namespace)
    yield
    target.kubectl("delete", "quota", "small", "-n", namespace, "--ignore-not-found")


@contextmanager
def cordoned(target):
    """All nodes are cordoned: what runs goes on, nothing new begins."""
    nodes = target.kubectl("get", "nodes", "-o", "name").split()
    target.kubectl("cordon", *nodes)
    try:
        yield
    finally:
        target.kubectl("uncordon", *nodes)


def test_a_job_waits_for_quota_and_completes_when_it_is_free(target, namespace, apply, told):
    holder = {"name": "holder", "image": target.run_image, "command": ["sleep", "3600"]}
    holder["resources"] = {"requests": {"memory": "6Gi"}, "limits": {"memory": "6Gi"}}
    holder["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "holder"}, "spec": {"containers": [holder]}}
    with quota(target, namespace, **{"requests.memory": "6500Mi"}):
        target.apply(pod, namespace)
        apply("later")

        def waits():
            found = status(target, namespace, "later")
            return "exceeded quota" in found.get("message", "") and found["phase"] in ("Pending", "Queued")

        target.until(waits, "the quota to be told", "later", namespace)
        told(f"told: {status(target, namespace, 'later')['message'][:200]}")
        given_back = ("Released", "PodsNotReady")

        def released():
            attempts = status(target, namespace, "later")["attempts"]
            return [(a["outcome"], a["reason"]) for a in attempts] == [given_back]

        target.until(released, "the job to give its pods back", "later", namespace)
        told("gave its pods back, as attempt 1")
        target.kubectl("delete", "pod", "holder", "-n", namespace, "--force", "--grace-period=0")
        told("the quota is free")
        found = target.wait_for("Complete", "later", namespace)["status"]
        told("Complete")
    assert completed_at_once(found)
    assert found["attempts"][0]["released"] >= 1
    assert not found.get("waitingSince")


def test_a_cordoned_node_delays_a_run_and_fails_nothing(target, namespace, apply, told):
    apply("held")

    def running(component):
        label = f"raytrain.dev/job=held,ray.io/node-type={component}"
        found = target.kubectl("get", "pods", "-n", namespace, "-l", label, "-o", "jsonpath={.items[*].status.phase}")
        return "Running" in found

    target.until(lambda: running("worker"), "the driver's pod", "held", namespace)
    told("the driver's pod runs")
    with cordoned(target):
        told("all nodes are cordoned")

        def said():
            message = status(target, namespace, "held").get("message", "")
            return "cannot be scheduled" in message and "unschedulable" in message

        target.until(said, "the cordon to be told", "held", namespace)
        told(f"told: {status(target, namespace, 'held')['message'][:200]}")
        assert {a["outcome"] for a in status(target, namespace, "held")["attempts"]} <= {"Running", "Released"}
    told("uncordoned")
    found = target.wait_for("Complete", "held", namespace)["status"]
    told("Complete")
    assert completed_at_once(found)


def test_eight_gpus_that_no_node_has_are_told_and_refused_by_submit(target, namespace, apply, bucket, told, tmp_path):
    content = tiny_quickstart.job("huge", f"s3://{bucket}/world", storage=f"s3://{bucket}/raytrain")
    content["spec"]["resources"]["training"] = {"workers": 1, "gpus": 8, "cpus": 1}
    (tmp_path / "job.yaml").write_text(json.dumps(content))
    command = [sys.executable, "-m", "raytrain", "submit", "job.yaml", "--namespace", namespace]
    environment = os.environ | {"KUBECONFIG": str(target.kubeconfig)}
    refused = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 5, refused.stdout + refused.stderr
    assert "a pod requests nvidia.com/gpu 8, and the largest node offers" in refused.stderr
    assert not target.kubectl("get", "ftj", "-n", namespace, "-o", "name")
    told("submit refuses it")
    target.apply(content, namespace)
    told("applied all the same")

    def said():
        return "a pod requests nvidia.com/gpu 8" in status(target, namespace, "huge").get("message", "")

    target.until(said, "what can never fit to be told", "huge", namespace)
    found = status(target, namespace, "huge")
    told(f"told: {found['phase']}: {found['message'][:200]}")
    assert all(attempt["outcome"] in ("Running", "Released") for attempt in found.get("attempts", []))


def test_thirty_jobs_with_room_for_one_complete_in_order(target, operator, namespace, bucket, stand_in, told):
    """The first holds the only turn; all are there before it ends."""
    probe = {"httpGet": {"path": "/api/healthz", "port": stand_in_ray.AGENT}, "periodSeconds": 1}
    names = [f"job-{number:02d}" for number in range(JOBS)]
    contents = []
    for name in names:
        content = tiny_quickstart.job(name, f"s3://{bucket}/world", storage=f"s3://{bucket}/raytrain", retries=0)
        cluster = content["spec"]["cluster"]
        cluster["image"] = stand_in
        cluster["podTemplate"]["spec"]["containers"][0]["readinessProbe"] = probe
        cluster["podTemplate"]["spec"]["terminationGracePeriodSeconds"] = 2
        contents.append(content)
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": contents})
    target.kubectl("apply", "-n", namespace, "-f", "-", input_text=text)
    told(f"{JOBS} jobs applied")
    most, done, places = 0, 0, set()

    def all_ended():
        nonlocal most, done
        jobs = json.loads(target.kubectl("get", "ftj", "-n", namespace, "-o", "json"))["items"]
        statuses = [job.get("status", {}) for job in jobs]
        failed = [
            job["metadata"]["name"] for job in jobs if job.get("status", {}).get("phase") in ("Failed", "Rejected")
        ]
        assert not failed, target.describe(failed[0], namespace)
        places.update(found["place"] for found in statuses if found.get("place"))
        going = [a for found in statuses for a in found.get("attempts", []) if a["outcome"] == "Running"]
        most = max(most, len(going))
        ended = sum(found.get("phase") == "Complete" for found in statuses)
        if ended // 10 > done // 10:
            told(f"{ended} are complete")
        done = ended
        return done == JOBS

    target.until(all_ended, "all jobs to end", names[-1], namespace)
    jobs = json.loads(target.kubectl("get", "ftj", "-n", namespace, "-o", "json"))["items"]
    assert all(completed_at_once(job["status"]) for job in jobs)
    assert most == 1, "at most one at a time"
    assert max(places) >= JOBS - 2, "the places in line were told"
    by_age = sorted(jobs, key=lambda job: (job["metadata"]["creationTimestamp"], job["metadata"]["name"]))
    starts = [job["status"]["startTime"] for job in by_age]
    assert starts == sorted(starts), "the oldest first"
