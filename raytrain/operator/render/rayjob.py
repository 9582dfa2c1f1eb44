"""Renders an attempt as a RayJob (KubeRay, ray.io/v1).

The Ray cluster has a head without computation, a CPU group, and a GPU group that starts with no
pods. The driver reserves a fraction of a CPU, which places it in the CPU group; preparation tasks
share the rest of `preparation.cpus`. KubeRay submits over HTTP, so there is no submitter pod that
could die. `backoffLimit` is 0: the operator retries, and records a reason for each attempt.
"""

import json
from typing import Any

from raytrain.config.job_status import CPU_POD, CPU_POD_SHARE, DRIVER_CPUS
from raytrain.operator.render import names
from raytrain.operator.render.attempt import Attempt
from raytrain.operator.render.groups import Group, groups, least_groups
from raytrain.operator.render.pods import (
    AUTOSCALER_MOUNTS,
    CONTAINER_SECURITY,
    JOB_FOLDER,
    JOB_KEY,
    group_pod,
    head_pod,
)

API_VERSION, KIND = "ray.io/v1", "RayJob"
ENTRYPOINT = f"python -m raytrain run {JOB_FOLDER}/{JOB_KEY}"
_IDLE_SECONDS = 60
_PLACES = 1000
"""More than any pod has processes."""


def ray_job(attempt: Attempt) -> dict[str, Any]:
    """Renders the RayJob of an attempt."""
    name, runs = attempt.job.metadata.name, attempt.runs
    found = attempt.object(API_VERSION, KIND, attempt.name)
    given = attempt.job.metadata.labels
    found["metadata"]["labels"] = names.passed_on(given) | found["metadata"]["labels"]
    if attempt.annotations:
        found["metadata"]["annotations"] = dict(attempt.annotations)
    if attempt.gang:
        found["metadata"]["labels"] |= names.for_batch_scheduler(given)
    spec: dict[str, Any] = {
        "submissionMode": "HTTPMode",
        "entrypoint": ENTRYPOINT,
        "entrypointNumCpus": DRIVER_CPUS,
        "entrypointResources": json.dumps({CPU_POD: CPU_POD_SHARE}),
        "metadata": {"raytrain.dev/run": name, "raytrain.dev/attempt": str(attempt.number)},
        "backoffLimit": 0,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": runs.keep_cluster_seconds,
        "rayClusterSpec": _ray_cluster(attempt),
    }
    if managed_by := attempt.cluster.managed_by:
        spec["managedBy"] = managed_by
    if queue := attempt.queue:
        found["metadata"]["labels"] |= names.for_kueue(given) | {names.QUEUE_LABEL: queue}
        if attempt.managed:
            spec["suspend"] = True  # as Kueue does; if it does not look after RayJobs, nothing starts past it
    else:  # the wait in a queue has no deadline
        spec["preRunningDeadlineSeconds"] = runs.start_deadline_seconds
    return found | {"spec": spec}


def _ray_cluster(attempt: Attempt) -> dict[str, Any]:
    fixed = attempt.queue is not None  # Kueue admits a job as a unit
    resources = attempt.job.spec.resources
    # what starts together: all pods, or those needed at least (minReplicas is a gang's size)
    together = {group.name: group.most for group in (groups if fixed else least_groups)(resources)}
    found: dict[str, Any] = {
        "rayVersion": attempt.runs.ray_version,
        "authOptions": {"mode": "token"},
        "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": head_pod(attempt)},
        "workerGroupSpecs": [
            _group(attempt, group, together[group.name] if fixed or attempt.gang else group.least)
            for group in groups(resources)
        ],
    }
    if not fixed:
        found |= {"enableInTreeAutoscaling": True, "autoscalerOptions": autoscaler(attempt)}
    return found


def _group(attempt: Attempt, group: Group, least: int) -> dict[str, Any]:
    places = json.dumps({CPU_POD: _PLACES}, separators=(",", ":"))
    only = {"num-gpus": str(group.gpus)} if group.gpus else {"resources": f"'{places}'"}  # KubeRay calls a shell
    return {
        "groupName": group.name,
        "replicas": least,
        "minReplicas": least,
        "maxReplicas": group.most,
        "rayStartParams": {"num-cpus": str(group.cpus)} | only,
        "template": group_pod(attempt, group),
    }


def autoscaler(attempt: Attempt) -> dict[str, Any]:
    """Ray's autoscaler. It has rights in the namespace, so it never runs the image of a job.

    Names version 2 explicitly: KubeRay acts on it, although Ray would choose it anyway.
    """
    runs, own = attempt.runs, None if attempt.managed else attempt.cluster.image
    size = {"cpu": runs.autoscaler.cpu, "memory": runs.autoscaler.memory}
    return {
        "version": "v2",
        "idleTimeoutSeconds": _IDLE_SECONDS,
        "upscalingMode": "Default",
        "image": own or runs.image,
        "imagePullPolicy": runs.image_pull_policy,
        "resources": {"requests": size, "limits": {"memory": size["memory"]}},
        "securityContext": dict(CONTAINER_SECURITY),
        "volumeMounts": [dict(mount) for mount in AUTOSCALER_MOUNTS],
    }
