"""Pod templates of a served model: the head, and the replicas' group.

They are a run's pods in everything that the policy looks at.
"""

from copy import deepcopy
from typing import Any

from raytrain.config.serving import ServingSpec
from raytrain.operator.render import names
from raytrain.operator.render.attempt import Attempt
from raytrain.operator.render.pods import AUTOSCALER_VOLUMES, DRAIN_VARIABLE, base_pod, patched, variables

PORT = 8000
TOKEN_VARIABLE, TOKEN_KEY = "RAYTRAIN_SERVE_TOKEN", "token"
RUN_VARIABLE = "RAYTRAIN_SERVE_RUN"
"""Names the run in the pods, so that another run is another Ray cluster for KubeRay."""
COMPONENT = "serving"
_GRACE_SECONDS, _DRAIN_SECONDS = 75, 60
_LEAVE_SECONDS = 10
"""A replica's pod waits no longer for a quiet moment before Ray takes its replicas elsewhere."""
_PROBE_SECONDS = 25
"""Longer than the model may take to show that it answers."""


def serving_head(attempt: Attempt, serving: ServingSpec) -> dict[str, Any]:
    """The head pod: Ray's services, none of the model.

    All the others need it, so it waits until everything that was accepted is answered.
    """
    head = attempt.cluster.head
    size = {"cpu": f"{head.cpus:g}", "memory": head.memory}
    pod = _pod(attempt, serving, size, {}, wait=_DRAIN_SECONDS, drain=0)
    if serving.replicas.max > serving.replicas.min:
        pod["spec"]["volumes"] += deepcopy(AUTOSCALER_VOLUMES)
    pod["spec"]["serviceAccountName"] = names.head_account(attempt.job.metadata.name)
    return patched(attempt, pod)


def serving_pod(attempt: Attempt, serving: ServingSpec) -> dict[str, Any]:
    """A pod of a replica; it is ready when the model answers through it.

    When it has to go, Ray starts what it holds (a replica, perhaps the front) in another pod first.
    """
    gpu, gpus = attempt.job.spec.resources.training.resource_name, serving.resources.gpus
    size = {"cpu": str(serving.resources.cpus), "memory": serving.resources.memory}
    devices = {gpu: str(gpus)} if gpus else {}
    pod = _pod(attempt, serving, size, devices, wait=_LEAVE_SECONDS, drain=_DRAIN_SECONDS)
    spec = pod["spec"]
    spec["serviceAccountName"] = names.run_account(attempt.job.metadata.name)
    if gpus:
        spec["tolerations"].append({"key": gpu, "operator": "Exists", "effect": "NoSchedule"})
    spec["containers"][0]["readinessProbe"] = {
        "httpGet": {"path": "/readyz", "port": PORT},
        "periodSeconds": 5,
        "timeoutSeconds": _PROBE_SECONDS,
        "failureThreshold": 2,
    }
    return patched(attempt, pod)


def _pod(
    attempt: Attempt, serving: ServingSpec, size: dict[str, str], gpus: dict[str, str], *, wait: int, drain: int
) -> dict[str, Any]:
    pod = base_pod(attempt, COMPONENT, size, gpus)
    pod["metadata"]["labels"] = names.labels(attempt.job.metadata.name, component=COMPONENT)
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    spec["automountServiceAccountToken"] = False
    spec["terminationGracePeriodSeconds"] = _GRACE_SECONDS
    container["image"] = serving.image or container["image"]
    container["env"] += variables({RUN_VARIABLE: serving.run or attempt.job.metadata.name, DRAIN_VARIABLE: str(drain)})
    if serving.token_secret is not None:
        reference = {"name": serving.token_secret, "key": TOKEN_KEY}
        container["env"].append({"name": TOKEN_VARIABLE, "valueFrom": {"secretKeyRef": reference}})
    pre_stop = ["python", "-m", "raytrain.serving.drain", str(wait)]
    container["lifecycle"] = {"preStop": {"exec": {"command": pre_stop}}}
    return pod
