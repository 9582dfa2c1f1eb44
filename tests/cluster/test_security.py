"""A run refuses unauthenticated access, its accounts have minimal rights, and no secret leaks."""

import base64
import json
import urllib.error
import urllib.request

import pytest

from raytrain.config.run_layout import RunLayout
from raytrain_core.storage import open_store
from tests.cluster import tiny_quickstart

pytestmark = pytest.mark.slow

NAME = "guarded"
CANARY = "canary-7d20c9e1f4"

RUN = {
    "finetunejobs.raytrain.dev": ["get"],
    "finetunejobs.raytrain.dev/status": ["get", "patch"],
}
"""Rights of the run's account beyond everyone's; `get` covers only its own object."""
OPERATOR = {
    "configmaps": ["create", "get", "patch"],
    "events": ["create", "list"],
    "localqueues.kueue.x-k8s.io": ["get"],
    "finetunejobs.raytrain.dev": ["delete", "get", "list", "watch"],
    "finetunejobs.raytrain.dev/finalizers": ["update"],
    "finetunejobs.raytrain.dev/status": ["get", "patch"],
    "customresourcedefinitions.apiextensions.k8s.io": ["list", "watch"],
    "namespaces": ["get", "list", "watch"],
    "networkpolicies.networking.k8s.io": ["create", "get", "patch"],
    "nodes": ["list"],
    "pods": ["list"],
    "rayclusters.ray.io": ["list"],
    "rayjobs.ray.io": ["create", "delete", "get", "list", "patch", "watch"],
    "resourcequotas": ["list"],
    "rolebindings.rbac.authorization.k8s.io": ["create", "get", "patch"],
    "roles.rbac.authorization.k8s.io": ["create", "get", "patch"],
    "serviceaccounts": ["create", "get", "patch"],
}
HEAD = {
    "pods": ["get", "list", "patch", "watch"],
    "pods/resize": ["patch"],
    "rayclusters.ray.io": ["get", "patch"],
}
"""KubeRay's own Role for its autoscaler."""


def rights(target, namespace, account):
    """Returns an account's verbs by resource, without the self-reviews open to everyone."""
    who = f"--as=system:serviceaccount:{account}"
    text = target.kubectl("auth", "can-i", "--list", "-n", namespace, "--no-headers", who)
    found = {}
    for line in text.splitlines():
        resource, verbs = line.split()[0], line[line.rindex("[") + 1 : line.rindex("]")].split()
        if not resource.startswith(("self", "[")):
            found[resource] = sorted({*found.get(resource, []), *verbs})
    return found


def status_of(address, token=None):
    """Returns the HTTP status of a request to the jobs API, which can run anything."""
    request = urllib.request.Request(f"http://{address}:8265/api/jobs/")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as found:
            return found.status
    except urllib.error.HTTPError as error:
        return error.code


def side_container(image):
    """A container that a job adds to all of its pods."""
    return {"name": "side", "image": image, "command": ["sleep", "infinity"], "imagePullPolicy": "IfNotPresent"}


def with_token(spec):
    """Names of the containers of a pod into which a token of its service account is mounted."""
    tokens = {
        volume["name"]
        for volume in spec["volumes"]
        if any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", []))
    }
    containers = [*spec["containers"], *spec.get("initContainers", [])]
    return {c["name"] for c in containers if tokens & {mount["name"] for mount in c.get("volumeMounts", [])}}


def has_token(target, namespace, pod, container):
    """Whether a token can be read in a running container, in its usual place or through /proc."""
    paths = "/var/run/secrets/kubernetes.io/serviceaccount/token /proc/*/root/run/secrets/kubernetes.io/*/token"
    script = f"cat {paths} /proc/*/root/var/run/secrets/kubernetes.io/*/token 2>/dev/null | wc -c"
    found = target.kubectl("exec", "-n", namespace, pod, "-c", container, "--", "sh", "-c", script)
    return int(found) > 0


def test_a_run_refuses_strangers_and_leaks_no_secret(target, operator, namespace, bucket, tiny_world):
    storage = f"s3://{bucket}/raytrain"
    world = tiny_quickstart.upload(tiny_world, f"s3://{bucket}/world")
    target.kubectl("create", "secret", "generic", "extra", "-n", namespace, f"--from-literal=TRACKER_TOKEN={CANARY}")
    content = tiny_quickstart.job(NAME, world, storage=storage, steps=40, secrets=["bucket", "extra"])
    content["spec"]["cluster"]["podTemplate"]["spec"]["containers"].append(side_container(target.run_image))
    target.apply(content, namespace)
    store, layout = open_store(f"{storage}/{namespace}"), RunLayout(NAME)
    target.until(lambda: any(store.list(f"{layout.checkpoints}/")), "a checkpoint", NAME, namespace)

    (cluster,) = json.loads(target.kubectl("get", "raycluster", "-n", namespace, "-o", "json"))["items"]
    secret = target.get("secret", cluster["metadata"]["name"], namespace)
    token = base64.b64decode(secret["data"]["auth_token"]).decode()
    address = cluster["status"]["head"]["podIP"]
    assert [status_of(address), status_of(address, "wrong"), status_of(address, token)] == [401, 403, 200]

    assert rights(target, namespace, f"{namespace}:{NAME}-raytrain") == RUN
    assert rights(target, namespace, f"{operator}:raytrain-operator") == OPERATOR
    assert rights(target, namespace, f"{namespace}:{NAME}-rayhead") == HEAD
    other = tiny_quickstart.job("other", world, storage=storage, suspend=True)
    target.apply(other, namespace)
    for name, may in ((NAME, True), ("other", False)):
        arguments = ("patch", "ftj", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", "{}")
        account = f"--as=system:serviceaccount:{namespace}:{NAME}-raytrain"
        assert bool(target.kubectl(*arguments, account, check=False)) == may

    pods = json.loads(target.kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]
    for pod in pods:
        group = pod["metadata"]["labels"]["ray.io/group"]
        expected = {"headgroup": {"autoscaler"}, "cpu": {"ray", "side", "wait-gcs-ready"}}.get(group, set())
        assert with_token(pod["spec"]) == expected, f"a token of the API server in {group}"
        if group == "headgroup":
            name = pod["metadata"]["name"]
            for container in ("ray", "side", "autoscaler"):
                assert has_token(target, namespace, name, container) == (container == "autoscaler"), container

    logs = target.kubectl("logs", "-n", namespace, "-l", f"raytrain.dev/job={NAME}", "--all-containers", "--tail=-1")
    target.wait_for("Complete", NAME, namespace)
    kinds = "ftj,rayjobs,rayclusters,pods,configmaps,events,services,serviceaccounts,roles,rolebindings,networkpolicies"
    shown = target.kubectl("get", kinds, "-n", namespace, "-o", "yaml") + logs + target.describe(NAME, namespace)
    shown += target.kubectl("logs", "-n", operator, "deploy/raytrain-operator")
    encoded = base64.b64encode(CANARY.encode()).decode()
    assert CANARY not in shown
    assert encoded not in shown
    keys = [found.key for found in store.list(f"{layout.root}/")]
    assert any("/logs/" in key for key in keys)
    for key in keys:
        assert CANARY.encode() not in store.get(key), key
