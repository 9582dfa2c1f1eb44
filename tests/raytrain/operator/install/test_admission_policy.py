"""The chart's ValidatingAdmissionPolicy refuses RayJobs that the operator should not have made."""

import copy
import json
import time

import pytest
from ruamel.yaml import YAML

from raytrain.operator.reconcile import reconcile
from raytrain.operator.render.pods import CONTAINER_SECURITY
from raytrain.operator.settings import Settings
from raytrain.operator.snapshot import Observed
from tests.support import REPOSITORY
from tests.support.finetunejob_objects import NOW, finetunejob

pytestmark = pytest.mark.cluster

VALUES = (
    "--set=admissionPolicy.enabled=true",
    "--set=runImage.repository=raytrain",
    "--set-string=settings.runs.env.RAYTRAIN_DEBUG=1",
    "--set=settings.policy.allowedImages={registry.example/,ghcr.io/team/x:1.*}",
    "--set=settings.policy.allowedSecrets={raytrain-*}",
    "--set=settings.policy.allowedTolerations={spot}",
    "--set=settings.policy.allowedPriorityClasses={batch-*}",
)


def rendered(namespace):
    """A RayJob as the operator makes it."""
    cluster = {"secrets": ["raytrain-bucket"], "tolerations": [{"key": "spot", "operator": "Exists"}]}
    body = finetunejob(cluster=cluster)
    body["metadata"]["namespace"] = namespace
    return json.loads(json.dumps(reconcile(Observed(body, pods=()), Settings(), NOW).apply[-1]))


@pytest.fixture
def guarded(kubernetes, namespace, tools):
    """A namespace in which the policy is in force."""
    chart = tools.template(
        REPOSITORY / "helm/raytrain-operator", *VALUES, "--show-only=templates/admission-policy.yaml"
    )
    kubernetes.apply(*YAML(typ="safe").load_all(chart))
    bad = changed(rendered(namespace), "hostNetwork", True)
    deadline = time.monotonic() + 60
    while not refused(kubernetes, bad):
        assert time.monotonic() < deadline, "the policy is not in force"
        time.sleep(0.5)
    yield namespace
    kubernetes.kubectl("delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", "--all")


def refused(kubernetes, ray_job):
    """Why the API server refuses the RayJob; empty if it does not."""
    text = json.dumps(ray_job)
    done = kubernetes.kubectl("create", "--dry-run=server", "-f", "-", text=text, check=False)
    return done.stderr if done.returncode else ""


def changed(ray_job, field, value, *, container=None):
    """The RayJob with a field of its last group's pod, or of that pod's container, changed."""
    ray_job = copy.deepcopy(ray_job)
    spec = ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"][-1]["template"]["spec"]
    holder = spec if container is None else spec["containers"][0]
    holder[field] = value
    return ray_job


SECURITY = dict(CONTAINER_SECURITY)
SIDE = {"name": "side", "image": "registry.example/side:1"}
REFUSED = {
    "host": ("hostPID", True, None, "host's network or processes"),
    "node": ("nodeName", "control-plane", None, "choose its node"),
    "account": ("serviceAccountName", "admin", None, "service account"),
    "host path": ("volumes", [{"name": "root", "hostPath": {"path": "/"}}], None, "a volume of a run"),
    "token": ("volumes", [{"name": "token", "projected": {"sources": []}}], None, "a volume of a run"),
    "system priority": ("priorityClassName", "system-node-critical", None, "system-"),
    "priority": ("priorityClassName", "urgent", None, "allowedPriorityClasses: batch-*"),
    "toleration": ("tolerations", [{"key": "infra", "operator": "Exists"}], None, "allowedTolerations: spot"),
    "every toleration": ("tolerations", [{"operator": "Exists"}], None, "allowedTolerations: spot"),
    "unrestricted init": ("initContainers", [SIDE], None, "must be restricted"),
    "privileged": ("securityContext", {"privileged": True}, 0, "must be restricted"),
    "image": ("image", "docker.io/other/x", 0, "allowedImages"),
    "no registry": ("image", "registry.example.evil.org/x", 0, "allowedImages"),
    "way up": ("image", "registry.example/../x", 0, "allowedImages"),
    "tag": ("image", "ghcr.io/team/x:2.0", 0, "allowedImages"),
    "secret": ("envFrom", [{"secretRef": {"name": "payroll"}}], 0, "allowedSecrets: raytrain-*"),
    "secret key": (
        "env", [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "payroll", "key": "a"}}}], 0, "allowedSecrets"),
    "secret volume": ("volumes", [{"name": "s", "secret": {"secretName": "payroll"}}], None, "allowedSecrets"),
    "seccomp": ("securityContext", {**SECURITY, "seccompProfile": {"type": "Unconfined"}}, 0, "must be restricted"),
    "seccomp of the pod": (
        "securityContext", {"seccompProfile": {"type": "Localhost", "localhostProfile": "x"}}, None, "seccomp"),
    "processes": ("shareProcessNamespace", True, None, "share processes"),
    "debugger": ("ephemeralContainers", [SIDE], None, "ephemeral"),
    "runtime": ("runtimeClassName", "runc-debug", None, "allowedPodFields"),
    "names of hosts": ("hostAliases", [{"ip": "10.0.0.1", "hostnames": ["kubernetes"]}], None, "allowedPodFields"),
    "variable": ("env", [{"name": "RAYTRAIN_KUBERNETES_OBJECT", "value": "other/job"}], 0, "RAYTRAIN_"),
    "new variable": ("env", [{"name": "RAYTRAIN_NEW", "value": "x"}], 0, "RAYTRAIN_"),
    "prefix": ("envFrom", [{"prefix": "RAY", "configMapRef": {"name": "x"}}], 0, "RAYTRAIN_"),
    "autoscaler's token": ("volumeMounts", [{"name": "autoscaler-token", "mountPath": "/t"}], 0, "autoscaler's token"),
    "autoscaler's folder": ("volumeMounts", [{"name": "autoscaler-scratch", "mountPath": "/t"}], 0, "autoscaler's"),
    "automatic token": ("automountServiceAccountToken", True, None, "driver's group"),
    "pull secret": ("imagePullSecrets", [{"name": "payroll"}], None, "allowedSecrets"),
}  # fmt: skip


def head(cluster):
    return cluster["headGroupSpec"]["template"]


CHANGES = {
    "head's token": (
        lambda _, cluster: head(cluster)["spec"].update(automountServiceAccountToken=True), "driver's group"),
    "head's account for a worker": (
        lambda _, cluster: cluster["workerGroupSpecs"][0]["template"]["spec"].update(
            serviceAccountName="assistant-rayhead"), "service account"),
    "side container with the token": (
        lambda _, cluster: head(cluster)["spec"]["containers"].append(
            {**SIDE, "securityContext": SECURITY, "volumeMounts": [{"name": "autoscaler-token", "mountPath": "/t"}]}),
        "autoscaler's token"),
    "autoscaler's image": (
        lambda _, cluster: cluster["autoscalerOptions"].update(image="registry.example/own:1"),
        "autoscaler must run"),
    "autoscaler's environment": (
        lambda _, cluster: cluster["autoscalerOptions"].update(env=[{"name": "A", "value": "b"}]),
        "autoscaler must run"),
    "networks": (
        lambda _, cluster: head(cluster)["metadata"].update(annotations={"k8s.v1.cni.cncf.io/networks": "host"}),
        "allowedAnnotations"),
    "something else of the token's name": (
        lambda _, cluster: head(cluster)["spec"]["volumes"].__setitem__(
            slice(None), [{"name": "autoscaler-token", "hostPath": {"path": "/"}}]),
        "autoscaler's token"),
    "submitter's pod": (
        lambda job, _: job["spec"].update(submitterPodTemplate={"spec": {"containers": [SIDE]}}), "submitter"),
    "submitter by default": (lambda job, _: job["spec"].pop("submissionMode"), "submitter"),
    "Kueue's priority": (
        lambda job, _: job["metadata"]["labels"].update({"kueue.x-k8s.io/priority-class": "urgent"}),
        "Kueue's priority class"),
}  # fmt: skip


def test_what_the_operator_makes_passes_and_everything_beyond_the_policy_is_refused(kubernetes, guarded):
    ray_job = rendered(guarded)
    assert refused(kubernetes, ray_job) == ""
    for field, value in (
        ("image", "registry.example/a/b:1"),
        ("image", "ghcr.io/team/x:1.2"),
        ("env", [{"name": "RAYTRAIN_DEBUG", "value": "1"}]),
    ):
        assert refused(kubernetes, changed(ray_job, field, value, container=0)) == ""
    for case, (field, value, container, message) in REFUSED.items():
        assert message in refused(kubernetes, changed(ray_job, field, value, container=container)), case
    for case, (change, message) in CHANGES.items():
        other = copy.deepcopy(ray_job)
        change(other, other["spec"]["rayClusterSpec"])
        assert message in refused(kubernetes, other), case
    unlabelled = copy.deepcopy(ray_job)
    unlabelled["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["metadata"]["labels"] = {}
    assert "raytrain.dev/job" in refused(kubernetes, unlabelled)


def test_rayjobs_of_others_are_not_concerned(kubernetes, guarded):
    theirs = changed(rendered(guarded), "hostNetwork", True)
    del theirs["metadata"]["ownerReferences"]
    assert refused(kubernetes, theirs) == ""


def test_a_stricter_policy_lets_what_is_there_end_and_binds_every_change_of_its_pods(kubernetes, guarded):
    older = changed(rendered(guarded), "hostNetwork", True)
    name, owners = older["metadata"]["name"], older["metadata"].pop("ownerReferences")
    older["metadata"]["finalizers"] = ["ray.io/rayjob-finalizer"]
    kubernetes.apply(older)  # by somebody else: the policy does not look at it

    def patch(body):
        arguments = ("-n", guarded, "patch", "rayjob", name, "--type=merge", "-p", json.dumps(body))
        done = kubernetes.kubectl(*arguments, check=False)
        return done.stderr if done.returncode else ""

    assert patch({"metadata": {"ownerReferences": owners}}) == ""
    assert patch({"spec": {"suspend": True}}) == ""
    assert "host's network" in patch({"spec": {"rayClusterSpec": {"rayVersion": "2.0.0"}}})
    assert "host's network" in patch({"metadata": {"labels": {"kueue.x-k8s.io/priority-class": "batch-a"}}})
    kubernetes.kubectl("-n", guarded, "delete", "rayjob", name, "--wait=false")
    assert patch({"metadata": {"finalizers": []}}) == ""
