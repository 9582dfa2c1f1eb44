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
_PROBE_SECONDS = 25
"""Longer than the model may take to show that it answers."""


def serving_head(attempt: Attempt, serving: ServingSpec) -> dict[str, Any]:
    """The head pod: Ray's services, none of the model."""
    head = attempt.cluster.head
    pod = _pod(attempt, serving, {"cpu": f"{head.cpus:g}", "memory": head.memory}, {})
    if serving.replicas.max > serving.replicas.min:
        pod["spec"]["volumes"] += deepcopy(AUTOSCALER_VOLUMES)
    pod["spec"]["serviceAccountName"] = names.head_account(attempt.job.metadata.name)
    return patched(attempt, pod)


def serving_pod(attempt: Attempt, serving: ServingSpec) -> dict[str, Any]:
    """A pod of a replica; it is ready when the model answers through it."""
    size, gpu = serving.resources, attempt.job.spec.resources.training.resource_name
    gpus = {gpu: str(size.gpus)} if size.gpus else {}
    pod = _pod(attempt, serving, {"cpu": str(size.cpus), "memory": size.memory}, gpus)
    spec = pod["spec"]
    spec["serviceAccountName"] = names.run_account(attempt.job.metadata.name)
    if size.gpus:
        spec["tolerations"].append({"key": gpu, "operator": "Exists", "effect": "NoSchedule"})
    spec["containers"][0]["readinessProbe"] = {
        "httpGet": {"path": "/readyz", "port": PORT},
        "periodSeconds": 5,
        "timeoutSeconds": _PROBE_SECONDS,
        "failureThreshold": 2,
    }
    return patched(attempt, pod)


def _pod(attempt: Attempt, serving: ServingSpec, size: dict[str, str], gpus: dict[str, str]) -> dict[str, Any]:
    pod = base_pod(attempt, COMPONENT, size, gpus)
    pod["metadata"]["labels"] = names.labels(attempt.job.metadata.name, component=COMPONENT)
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    spec["automountServiceAccountToken"] = False
    spec["terminationGracePeriodSeconds"] = _GRACE_SECONDS
    container["image"] = serving.image or container["image"]
    container["env"] += variables({RUN_VARIABLE: serving.run or attempt.job.metadata.name, DRAIN_VARIABLE: "0"})
    if serving.token_secret is not None:
        reference = {"name": serving.token_secret, "key": TOKEN_KEY}
        container["env"].append({"name": TOKEN_VARIABLE, "valueFrom": {"secretKeyRef": reference}})
    pre_stop = ["python", "-m", "raytrain.serving.drain", str(_DRAIN_SECONDS)]
    container["lifecycle"] = {"preStop": {"exec": {"command": pre_stop}}}
    return pod
