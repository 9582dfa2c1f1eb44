"""Names and labels of what the operator makes: functions of the job's name alone, so that a restart finds it again.

KubeRay takes RayJob names of at most 47 characters: 40 for the job, a dash and the attempt.
"""

import re
from collections.abc import Mapping
from typing import Any

from raytrain import __version__
from raytrain.config.job import API_VERSION

GROUP, PLURAL = API_VERSION.split("/")[0], "finetunejobs"
MANAGER = "raytrain-operator"
JOB_LABEL, ATTEMPT_LABEL = "raytrain.dev/job", "raytrain.dev/attempt"
CANCEL_ANNOTATION = "raytrain.dev/cancel"
"""Set to "true" it ends the job for good; what is in storage stays."""

_ATTEMPT = re.compile(r"-a(\d{2,})$")


def ray_job_name(job: str, attempt: int) -> str:
    """`support-assistant-a01`."""
    return f"{job}-a{attempt:02d}"


def attempt_of(ray_job: str) -> int | None:
    """The attempt that a RayJob's name speaks of."""
    match = _ATTEMPT.search(ray_job)
    return int(match[1]) if match else None


def run_account(job: str) -> str:
    """ServiceAccount, Role and RoleBinding of the run's own pods."""
    return f"{job}-raytrain"


def head_account(job: str) -> str:
    """ServiceAccount of the head: KubeRay binds the autoscaler's Role to it, and clips it at 50 characters."""
    return f"{job}-rayhead"


def labels(job: str, attempt: int | None = None, component: str = "run") -> dict[str, str]:
    """Labels of everything that belongs to a job."""
    found = {
        "app.kubernetes.io/name": "raytrain",
        "app.kubernetes.io/instance": job,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "raytrain",
        "app.kubernetes.io/managed-by": MANAGER,
        "app.kubernetes.io/version": __version__,
        JOB_LABEL: job,
    }
    return found if attempt is None else found | {ATTEMPT_LABEL: str(attempt)}


def owner_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The reference by which the garbage collector removes with the object what was made for it."""
    return {
        "apiVersion": body["apiVersion"],
        "kind": body["kind"],
        "name": body["metadata"]["name"],
        "uid": body["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def is_owned(child: Mapping[str, Any], uid: str) -> bool:
    """Whether the object was made for the one with this uid."""
    return any(owner.get("uid") == uid for owner in child["metadata"].get("ownerReferences", []))
