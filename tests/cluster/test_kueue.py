"""A real Kueue: jobs of one queue wait for its quota, and run one after the other."""

import json

import pytest

from tests.cluster import tiny_quickstart
from tests.cluster.kueue import kueue

pytestmark = pytest.mark.slow

QUEUE = "team"


@pytest.fixture
def queue(target, namespace, tmp_path):
    """A queue with quota for one tiny job."""
    kind = {"apiVersion": "kueue.x-k8s.io/v1beta2"}
    flavor = kind | {"kind": "ResourceFlavor", "metadata": {"name": "any"}}
    quotas = [{"name": "cpu", "nominalQuota": "600m"}, {"name": "memory", "nominalQuota": "3Gi"}]
    group = {"coveredResources": ["cpu", "memory"], "flavors": [{"name": "any", "resources": quotas}]}
    whole = {"namespaceSelector": {}, "resourceGroups": [group]}
    cluster_queue = kind | {"kind": "ClusterQueue", "metadata": {"name": "whole"}, "spec": whole}
    local = kind | {"kind": "LocalQueue", "metadata": {"name": QUEUE}, "spec": {"clusterQueue": "whole"}}
    with kueue(target, tmp_path):
        for content in (flavor, cluster_queue, local):
            target.apply(content, namespace)
        yield QUEUE
        target.kubectl("delete", "ftj", "--all", "-n", namespace, "--timeout=30s")
        target.kubectl("wait", "workloads", "--all", "-n", namespace, "--for=delete", "--timeout=120s")
        for name in ("localqueue/team", "clusterqueue/whole", "resourceflavor/any"):
            target.kubectl("delete", name, "-n", namespace, "--timeout=60s")


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
