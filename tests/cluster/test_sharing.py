"""Two teams use one name and one storage at once; a policy of the cluster refuses a deletion."""

import json
import time
from contextlib import contextmanager

import pytest

from raytrain.config.run_layout import RunLayout
from raytrain_core.storage import open_store
from raytrain_core.storage.commit import read_manifest
from tests.cluster import tiny_quickstart

pytestmark = pytest.mark.slow

NAME = "assistant"


@pytest.fixture
def neighbour(target, namespace):
    """A second namespace with the same secret and the same Pod Security."""
    name = f"{namespace}-b"
    target.kubectl("create", "namespace", name)
    target.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    secret = target.get("secret", "bucket", namespace)
    target.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bucket"}, "data": secret["data"]}, name)
    yield name
    target.kubectl("delete", "namespace", name, "--wait=false")


def test_two_tenants_with_one_name_and_one_storage_at_once(
    target, operator, namespace, neighbour, bucket, tiny_world, told
):
    world, storage = tiny_quickstart.upload(tiny_world, f"s3://{bucket}/world"), f"s3://{bucket}/raytrain"
    tenants = {namespace: 6, neighbour: 8}
    for tenant, steps in tenants.items():
        target.apply(tiny_quickstart.job(NAME, world, storage=storage, steps=steps), tenant)
    told("both jobs applied")

    def begun(tenant):
        return target.get("ftj", NAME, tenant).get("status", {}).get("attempts")

    target.until(lambda: all(begun(tenant) for tenant in tenants), "both to begin", NAME, neighbour)
    owners = set()
    for tenant, steps in tenants.items():
        status = target.wait_for("Complete", NAME, tenant)["status"]
        told(f"{tenant}: Complete")
        assert [attempt["outcome"] for attempt in status["attempts"]] == ["Succeeded"]
        assert status["storage"] == f"{storage}/{tenant}"
        assert status["progress"]["steps"] == steps, "it is the tenant's own run"
        store, layout = open_store(status["storage"]), RunLayout(NAME)
        assert read_manifest(store, layout.report) is not None
        owners.add(store.get(layout.owner))
    assert len(owners) == 2, "each run belongs to its namespace"


@contextmanager
def deletions_refused(target, namespace):
    """A real admission policy refuses every DELETE of a RayJob of the namespace."""
    group, name = "admissionregistration.k8s.io/v1", f"keep-{namespace}"
    rule = {"apiGroups": ["ray.io"], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["rayjobs"]}
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    policy = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"namespaceSelector": here, "resourceRules": [rule]},
            "validations": [{"expression": "false", "message": "RayJobs of this namespace are kept"}],
        },
    }
    binding = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    target.apply(policy, namespace)
    target.apply(binding, namespace)
    try:
        yield
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            target.kubectl("delete", kind, name)


def test_a_suspension_is_told_only_when_a_refused_deletion_has_passed(
    target, operator, namespace, bucket, tiny_world, told
):
    world = tiny_quickstart.upload(tiny_world, f"s3://{bucket}/world")
    target.apply(tiny_quickstart.job(NAME, world, storage=f"s3://{bucket}/raytrain", steps=2000), namespace)
    pods = ("get", "pods", "-n", namespace, "-l", f"raytrain.dev/job={NAME}", "-o", "name")

    def status():
        return target.get("ftj", NAME, namespace).get("status", {})

    def suspend(value):
        body = json.dumps({"spec": {"cluster": {"suspend": value}}})
        target.kubectl("patch", "ftj", NAME, "-n", namespace, "--type=merge", "-p", body)

    target.until(lambda: status().get("phase") not in (None, "", "Pending"), "the run to begin", NAME, namespace)
    told(f"the run is {status()['phase']}")
    with deletions_refused(target, namespace):
        probe = ("delete", "rayjob", f"{NAME}-a01", "-n", namespace, "--dry-run=server")
        target.until(lambda: not target.kubectl(*probe, check=False), "the policy to bind", NAME, namespace)
        suspend(True)
        told("suspended while DELETE is refused")
        refusal = "RayJobs of this namespace are kept"
        target.until(lambda: refusal in status()["message"], "the refusal to be told", NAME, namespace)
        told(f"told: {status()['message'][:200]}")
        end = time.monotonic() + 40  # two further tries of the operator
        while time.monotonic() < end:
            assert status()["phase"] == "Suspending"
            assert target.kubectl(*pods), "its pods are there, and it does not say otherwise"
            time.sleep(2)
    told("the policy is removed")
    target.until(lambda: status()["phase"] == "Suspended", "the job to be suspended", NAME, namespace)
    assert not target.kubectl(*pods), "Suspended is said when the pods are gone"
    told("Suspended, without pods")
    (attempt,) = status()["attempts"]
    assert (attempt["outcome"], attempt["reason"]) == ("Suspended", "Suspended")
