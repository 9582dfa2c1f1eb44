"""A real Kueue: jobs of one queue run one after the other; a queue of higher priority preempts."""

import json
from contextlib import contextmanager

import pytest

from raytrain.config.run_layout import RunLayout
from raytrain.telemetry.segments import read_segments
from raytrain_core.storage import open_store
from tests.cluster import tiny_quickstart
from tests.cluster.kueue import kueue

pytestmark = pytest.mark.slow

QUEUE = "team"
KIND = {"apiVersion": "kueue.x-k8s.io/v1beta2"}
STEPS, EVERY = 400, 50


def cluster_queue(name, *, cpu="600m", memory="3Gi", **spec):
    """A queue with quota for one tiny job, if nothing else is said."""
    quotas = [{"name": "cpu", "nominalQuota": cpu}, {"name": "memory", "nominalQuota": memory}]
    group = {"coveredResources": ["cpu", "memory"], "flavors": [{"name": "any", "resources": quotas}]}
    whole = {"namespaceSelector": {}, "resourceGroups": [group]} | spec
    return KIND | {"kind": "ClusterQueue", "metadata": {"name": name}, "spec": whole}


def local_queue(name, whole):
    return KIND | {"kind": "LocalQueue", "metadata": {"name": name}, "spec": {"clusterQueue": whole}}


@contextmanager
def queues(target, namespace, folder, objects):
    """A Kueue with a flavour and these queues and priority classes; removes all of them."""
    flavor = KIND | {"kind": "ResourceFlavor", "metadata": {"name": "any"}}
    objects = [flavor, *objects]
    with kueue(target, folder):
        for content in objects:
            target.apply(content, namespace)
        yield
        target.kubectl("delete", "ftj", "--all", "-n", namespace, "--timeout=60s")
        target.kubectl("wait", "workloads", "--all", "-n", namespace, "--for=delete", "--timeout=120s")
        for content in reversed(objects):
            name = f"{content['kind'].lower()}/{content['metadata']['name']}"
            target.kubectl("delete", name, "-n", namespace, "--timeout=60s")


@pytest.fixture
def queue(target, namespace, tmp_path):
    """A queue with quota for one tiny job."""
    with queues(target, namespace, tmp_path, [cluster_queue("whole"), local_queue(QUEUE, "whole")]):
        yield QUEUE


@pytest.fixture
def two_queues(target, namespace, tmp_path):
    """`urgent` owns the room for one job; `patient` borrows it while nobody urgent is there."""
    classes = [
        KIND | {"kind": "WorkloadPriorityClass", "metadata": {"name": name}, "value": value, "description": name}
        for name, value in {"high": 1000, "low": 10}.items()
    ]
    taking = {"reclaimWithinCohort": "LowerPriority", "withinClusterQueue": "LowerPriority"}
    wholes = [
        cluster_queue("urgent", cohortName="pool", preemption=taking),
        cluster_queue("patient", cpu="0", memory="0", cohortName="pool"),
    ]
    locals_ = [local_queue(name, name) for name in ("urgent", "patient")]
    with queues(target, namespace, tmp_path, [*classes, *wholes, *locals_]):
        yield


def test_jobs_of_a_queue_run_one_after_the_other(target, operator, namespace, queue, bucket, tiny_world):
    world = tiny_quickstart.upload(tiny_world, f"s3://{bucket}/world")

    def apply(name):
        storage = f"s3://{bucket}/raytrain"
        target.apply(tiny_quickstart.job(name, world, storage=storage, queue=queue), namespace)

    def phase(name):
        return target.get("ftj", name, namespace).get("status", {}).get("phase")

    apply("first")
    target.until(lambda: phase("first") in ("ScoringBefore", "Training"), "the first to start", "first", namespace)
    apply("second")
    target.until(lambda: phase("second") == "Queued", "the second to wait", "second", namespace)
    assert target.get("rayjob", "second-a01", namespace)["spec"]["suspend"] is True
    pods = ("get", "pods", "-n", namespace, "-l", "raytrain.dev/job=second", "-o", "name")
    assert not target.kubectl(*pods)
    for name in ("first", "second"):
        status = target.wait_for("Complete", name, namespace)["status"]
        assert [attempt["outcome"] for attempt in status["attempts"]] == ["Succeeded"]
    workloads = json.loads(target.kubectl("get", "workloads", "-n", namespace, "-o", "json"))["items"]
    assert len(workloads) == 2


def test_a_queue_of_higher_priority_takes_the_room_and_the_run_goes_on_afterwards(
    target, operator, namespace, two_queues, bucket, tiny_world, told
):
    world, storage = tiny_quickstart.upload(tiny_world, f"s3://{bucket}/world"), f"s3://{bucket}/raytrain"
    store, layout = open_store(f"{storage}/{namespace}"), RunLayout("long")

    def apply(name, queue, priority, steps):
        content = tiny_quickstart.job(name, world, storage=storage, steps=steps, queue=queue)
        content["spec"]["training"]["checkpointEvery"] = EVERY
        content["metadata"]["labels"] = {"kueue.x-k8s.io/priority-class": priority}
        target.apply(content, namespace)

    def phase(name):
        return target.get("ftj", name, namespace).get("status", {}).get("phase")

    apply("long", "patient", "low", STEPS)
    target.until(lambda: any(store.list(f"{layout.checkpoints}/")), "a checkpoint", "long", namespace)
    told("long has its first checkpoint")
    apply("short", "urgent", "high", 2)
    target.until(lambda: phase("long") == "Queued", "long to give its room back", "long", namespace)
    told(f"long is Queued: {target.get('ftj', 'long', namespace)['status']['message']}")
    pods = ("get", "pods", "-n", namespace, "-l", "raytrain.dev/job=long", "-o", "name")
    target.until(lambda: not target.kubectl(*pods), "its pods to be gone", "long", namespace)
    steps = len(read_segments(store, layout, "metrics"))
    assert 0 < steps < STEPS
    told(f"its pods are gone, {steps} steps are recorded")
    target.wait_for("Complete", "short", namespace)
    told("short is Complete")
    status = target.wait_for("Complete", "long", namespace)["status"]
    told(f"long is Complete: {[(a['outcome'], a.get('reason')) for a in status['attempts']]}; usage {status['usage']}")
    recorded = [line["step"] for line in read_segments(store, layout, "metrics")]
    assert recorded == list(range(1, STEPS + 1)), "every step is recorded once"
    assert [attempt["outcome"] for attempt in status["attempts"]] == ["Succeeded"]
    assert status["usage"]["waitingSeconds"] > 0
