"""Pod templates of the head and the groups.

They fulfil the restricted Pod Security standard and are patched by the job.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from raytrain.config.job_status import ATTEMPT_VARIABLE, OBJECT_VARIABLE, OWNER_VARIABLE
from raytrain.operator.render import names
from raytrain.operator.render.attempt import Attempt
from raytrain.operator.render.groups import CPU_GROUP, Group
from raytrain_core.quantities import parse_bytes
from raytrain_core.storage.location import VARIABLE as STORAGE_VARIABLE

CONTAINER = "ray"
JOB_FOLDER = "/etc/raytrain"
JOB_KEY = "job.yaml"
USER = 1000

CONTAINER_SECURITY: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_SIDECAR_SECURITY = {key: value for key, value in CONTAINER_SECURITY.items() if key != "readOnlyRootFilesystem"}
"""Of containers that a job adds, unless it asks for something else."""
_POD_SECURITY: Mapping[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_SCRATCH_MOUNT: Mapping[str, Any] = {"name": "scratch", "mountPath": "/tmp"}
TOKEN_VOLUME, AUTOSCALER_SCRATCH = "autoscaler-token", "autoscaler-scratch"
AUTOSCALER_VOLUMES: Sequence[Mapping[str, Any]] = (
    {
        "name": TOKEN_VOLUME,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]
        },
    },
    {"name": AUTOSCALER_SCRATCH, "emptyDir": {}},
)
"""For KubeRay's autoscaler alone, which may patch pods and RayClusters of the namespace.

Kubernetes would mount the token into every container of the head, the job's own included.
"""
AUTOSCALER_MOUNTS: Sequence[Mapping[str, Any]] = (
    {"name": TOKEN_VOLUME, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True},
    {"name": AUTOSCALER_SCRATCH, "mountPath": "/tmp"},
)
AUTOSCALER_CONTAINER = "autoscaler"
"""KubeRay's name for the container that it adds to the head."""
_GRACE_SECONDS = 60
"""Time between the notice that a pod must stop and its end; spot nodes may give less."""
_DRAIN_SECONDS = 45
"""Part of the grace period that is used for a last checkpoint."""
DRAIN_VARIABLE = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
"""Ray's variable: how long a stopping node is announced as draining before its processes end."""
_SHARED_MEMORY_SHARE = 30
"""Percent of a pod's memory for Ray's object store: Ray's default."""


def head_pod(attempt: Attempt) -> dict[str, Any]:
    """The head pod: Ray's services and its autoscaler.

    No container but the autoscaler's gets access to the API server.
    """
    head = attempt.cluster.head
    pod = base_pod(attempt, "head", {"cpu": f"{head.cpus:g}", "memory": head.memory}, {})
    pod["spec"]["containers"][0]["env"] += variables({DRAIN_VARIABLE: "0"})  # no computation to drain
    pod["spec"]["automountServiceAccountToken"] = False
    if attempt.managed:
        pod["spec"]["serviceAccountName"] = names.head_account(attempt.job.metadata.name)
    if attempt.queue is None:
        pod["spec"]["volumes"] += deepcopy(AUTOSCALER_VOLUMES)
    return patched(attempt, pod)


def group_pod(attempt: Attempt, group: Group) -> dict[str, Any]:
    """A pod of a group.

    Only the driver's group gets access to the API server, and only to its own object.
    """
    cluster, has_driver = attempt.cluster, group.name == CPU_GROUP
    gpu = attempt.job.spec.resources.training.resource_name
    gpus = {gpu: str(group.gpus)} if group.gpus else {}
    pod = base_pod(attempt, group.name, {"cpu": str(group.cpus), "memory": group.memory}, gpus)
    spec = pod["spec"]
    spec["automountServiceAccountToken"] = attempt.managed and has_driver
    if attempt.managed:
        spec["serviceAccountName"] = names.run_account(attempt.job.metadata.name)
    if group.trains and cluster.node_selector:
        spec["nodeSelector"] = dict(cluster.node_selector)
    if group.gpus:
        spec["tolerations"].append({"key": gpu, "operator": "Exists", "effect": "NoSchedule"})
    if group.trains and attempt.queue and (near := names.topology(attempt.job.metadata.annotations)):
        pod["metadata"]["annotations"] = pod["metadata"].get("annotations", {}) | near
    container = spec["containers"][0]
    container["env"] += variables({DRAIN_VARIABLE: str(_DRAIN_SECONDS)})
    spec["terminationGracePeriodSeconds"] = _GRACE_SECONDS
    if has_driver:
        pre_stop = ["python", "-m", "raytrain.pipeline.pre_stop", str(_DRAIN_SECONDS)]
        container["lifecycle"] = {"preStop": {"exec": {"command": pre_stop}}}
        container["volumeMounts"].append({"name": "job", "mountPath": JOB_FOLDER, "readOnly": True})
        spec["volumes"].append({"name": "job", "configMap": {"name": attempt.name}})
        if attempt.managed:
            own = f"{attempt.namespace}/{attempt.job.metadata.name}"
            about = {OBJECT_VARIABLE: own, ATTEMPT_VARIABLE: str(attempt.number)}
            about |= {OWNER_VARIABLE: attempt.tenant} if attempt.tenant else {}
            container["env"] += variables(about)
    return patched(attempt, pod)


def base_pod(attempt: Attempt, component: str, size: Mapping[str, str], gpus: Mapping[str, str]) -> dict[str, Any]:
    """The parts common to all pods of a run."""
    runs, cluster = attempt.runs, attempt.cluster
    shared = parse_bytes(size["memory"]) * _SHARED_MEMORY_SHARE // 100
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": cluster.image or runs.image,
        "imagePullPolicy": runs.image_pull_policy,
        "env": variables(_environment(attempt)),
        "resources": {"requests": {**size, **gpus}, "limits": {"memory": size["memory"], **gpus}},
        "securityContext": dict(CONTAINER_SECURITY),
        "volumeMounts": [dict(_SCRATCH_MOUNT), {"name": "shared-memory", "mountPath": "/dev/shm"}],
    }
    if secrets := dict.fromkeys([*runs.secrets, *cluster.secrets]):
        container["envFrom"] = [{"secretRef": {"name": name}} for name in secrets]
    spec: dict[str, Any] = {
        "securityContext": dict(_POD_SECURITY),
        "enableServiceLinks": False,
        "tolerations": [dict(toleration) for toleration in cluster.tolerations],
        "containers": [container],
        "volumes": [
            {"name": "scratch", "emptyDir": {}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": str(shared)}},
        ],
    }
    if pull := dict.fromkeys([*runs.image_pull_secrets, *cluster.image_pull_secrets]):
        spec["imagePullSecrets"] = [{"name": name} for name in pull]
    metadata: dict[str, Any] = {"labels": names.labels(attempt.job.metadata.name, attempt.number, component)}
    if attempt.annotations:
        metadata["annotations"] = dict(attempt.annotations)
    return {"metadata": metadata, "spec": spec}


def _environment(attempt: Attempt) -> dict[str, str]:
    """Environment variables of every pod; secrets are only referenced, never copied."""
    result = {
        "HOME": "/tmp/home",  # the root file system is read-only
        "RAYTRAIN_CACHE": "/tmp/raytrain",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    if attempt.job.spec.storage is None and attempt.place:
        result[STORAGE_VARIABLE] = attempt.place
    return result | dict(attempt.runs.env)


def variables(values: Mapping[str, str]) -> list[dict[str, Any]]:
    """Environment variables as a container has them."""
    return [{"name": name, "value": value} for name, value in values.items()]


def patched(attempt: Attempt, pod: dict[str, Any]) -> dict[str, Any]:
    """The pod with the job's patch; our labels stay, and every further container is restricted."""
    if not pod["spec"]["tolerations"]:
        del pod["spec"]["tolerations"]
    result: dict[str, Any] = merge(pod, attempt.cluster.pod_template)
    given = names.passed_on(attempt.job.metadata.labels)
    result["metadata"]["labels"] = given | result["metadata"]["labels"] | pod["metadata"]["labels"]
    for kind in ("containers", "initContainers"):
        for container in result["spec"].get(kind, []):
            if (kind, container["name"]) != ("containers", CONTAINER):
                container["securityContext"] = _SIDECAR_SECURITY | container.get("securityContext", {})
    return result


def merge(base: Any, patch: Any) -> Any:
    """Merges `patch` into `base`.

    Mappings are merged by key (null removes a key), lists of named items by name (volume mounts by
    their path, because a volume may be mounted twice); other lists are concatenated, and anything
    else is replaced.
    """
    if isinstance(base, Mapping) and isinstance(patch, Mapping):
        result = dict(base)
        for key, value in patch.items():
            if value is None:
                result.pop(key, None)
            else:
                result[key] = merge(base[key], value) if key in base else value
        return result
    if isinstance(base, list) and isinstance(patch, list):
        return _merge_lists(base, patch)
    return patch


def _merge_lists(base: list[Any], patch: list[Any]) -> list[Any]:
    items = [*base, *patch]
    by = next((key for key in ("mountPath", "name") if all(isinstance(i, Mapping) and key in i for i in items)), None)
    if by is None:
        return items
    patches = {item[by]: item for item in patch}
    kept = [merge(item, patches.pop(item[by])) if item[by] in patches else item for item in base]
    return kept + list(patches.values())
