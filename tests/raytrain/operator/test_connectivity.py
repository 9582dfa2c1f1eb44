"""Who reaches whom, computed from the rendered network policies of the operator and two runs.

The semantics are those of networking.k8s.io/v1: a pod that some policy selects for ingress takes
what one of them allows and nothing else; any other pod takes everything. What enforces it is the
cluster's network plugin.
"""

from dataclasses import dataclass, field

import pytest

from raytrain.operator.install import deployment
from raytrain.operator.reconcile import reconcile
from raytrain.operator.settings import Settings
from raytrain.operator.snapshot import Observed
from tests.support.finetunejob_objects import NOW, finetunejob

COMPONENT = {"app.kubernetes.io/component": "kuberay-operator"}
KUBERAY = {
    "helm": {"app.kubernetes.io/name": "kuberay-operator", "app.kubernetes.io/instance": "kuberay", **COMPONENT},
    "kustomize": {"app.kubernetes.io/name": "kuberay", **COMPONENT},
    "renamed": {"app.kubernetes.io/name": "ray-controller", "app.kubernetes.io/instance": "ours", **COMPONENT},
}
"""Labels of KubeRay's pods: of its chart, of config/manager, of its chart with nameOverride."""


@dataclass(frozen=True)
class Pod:
    namespace: str
    labels: dict = field(hash=False)


def chosen(selector, labels):
    assert set(selector) <= {"matchLabels"}, "an expression that this test does not know"
    return selector.get("matchLabels", {}).items() <= labels.items()


def is_peer(peer, policy, source):
    if "namespaceSelector" in peer:
        assert peer["namespaceSelector"] == {}, "a namespace that this test does not know"
    elif source.namespace != policy["metadata"]["namespace"]:
        return False
    return chosen(peer.get("podSelector", {}), source.labels)


def reaches(policies, source, target, port):
    """Whether a pod may connect to a TCP port of another."""
    mine = [
        p
        for p in policies
        if p["metadata"]["namespace"] == target.namespace
        and "Ingress" in p["spec"]["policyTypes"]
        and chosen(p["spec"]["podSelector"], target.labels)
    ]
    if not mine:
        return True
    return any(
        (not rule.get("ports") or port in [p["port"] for p in rule["ports"] if p["protocol"] == "TCP"])
        and (not rule.get("from") or any(is_peer(peer, policy, source) for peer in rule["from"]))
        for policy in mine
        for rule in policy["spec"]["ingress"]
    )


def rendered(name, namespace):
    """The objects of a run's first attempt."""
    body = finetunejob(name=name)
    body["metadata"]["namespace"] = namespace
    return reconcile(Observed(body, pods=()), Settings(), NOW).apply


def run_pods(objects):
    """A pod of each group of a run."""
    ray_job = objects[-1]
    spec = ray_job["spec"]["rayClusterSpec"]
    templates = {"head": spec["headGroupSpec"]["template"]}
    templates |= {group["groupName"]: group["template"] for group in spec["workerGroupSpecs"]}
    namespace = ray_job["metadata"]["namespace"]
    return {name: Pod(namespace, template["metadata"]["labels"]) for name, template in templates.items()}


@pytest.fixture(scope="module")
def world():
    """(policies, pods by name)."""
    ours, theirs = rendered("ours", "team-a"), rendered("theirs", "team-a")
    manager = deployment.manager(Settings())
    (operator,) = [o for o in manager if o["kind"] == "Deployment"]
    policies = [o for o in (*manager, *ours, *theirs) if o["kind"] == "NetworkPolicy"]
    system = operator["metadata"]["namespace"]
    found = {f"ours/{name}": pod for name, pod in run_pods(ours).items()}
    found |= {
        "theirs/gpu": run_pods(theirs)["gpu"],
        "operator": Pod(system, operator["spec"]["template"]["metadata"]["labels"]),
        "kuberay": Pod(system, KUBERAY["helm"]),
        "prometheus": Pod("monitoring", {"app.kubernetes.io/name": "prometheus"}),
        "neighbour": Pod("team-a", {"app": "shop"}),
        "stranger": Pod("team-b", {"app": "shop"}),
    }
    return policies, found


GCS, CLIENT, JOBS, METRICS, PROBES, WORKER = 6379, 10001, 8265, 8080, 52365, 20000
EVERY = (GCS, CLIENT, JOBS, METRICS, PROBES, WORKER)
MATRIX = {
    # source: ports of the head, ports of a GPU pod
    "ours/head": (EVERY, EVERY),
    "ours/cpu": (EVERY, EVERY),
    "ours/gpu": (EVERY, EVERY),
    "theirs/gpu": ((), ()),
    "operator": ((), ()),
    "kuberay": ((JOBS,), (JOBS,)),
    "prometheus": ((METRICS,), (METRICS,)),
    "neighbour": ((), ()),
    "stranger": ((), ()),
}


@pytest.mark.parametrize("source", MATRIX)
def test_who_reaches_a_run(world, source):
    policies, pods = world
    for target, ports in zip(("ours/head", "ours/gpu"), MATRIX[source], strict=True):
        assert tuple(port for port in EVERY if reaches(policies, pods[source], pods[target], port)) == ports, target


@pytest.mark.parametrize("labels", KUBERAY.values(), ids=KUBERAY)
def test_kuberay_reaches_the_dashboard_however_it_was_installed(world, labels):
    policies, pods = world
    kuberay = Pod("ray-system", labels)
    assert [port for port in EVERY if reaches(policies, kuberay, pods["ours/head"], port)] == [JOBS]


@pytest.mark.parametrize("source", ["ours/cpu", "kuberay", "neighbour", "stranger"])
def test_nobody_reaches_the_operator(world, source):
    policies, pods = world
    assert not any(reaches(policies, pods[source], pods["operator"], port) for port in (443, 8080, 8081))


def test_prometheus_reaches_the_operators_metrics_alone(world):
    policies, pods = world
    reached = [port for port in (443, 8080, 8081) if reaches(policies, pods["prometheus"], pods["operator"], port)]
    assert reached == [8081]


def test_without_policies_everyone_reaches_everything():
    assert reaches([], Pod("a", {}), Pod("b", {}), JOBS)
