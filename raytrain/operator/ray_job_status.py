"""Reads the status that KubeRay (1.6) writes into a RayJob."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["Queued", "Pending", "Running", "Succeeded", "Stopped", "Failed"]

_STUCK = (
    *("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "InvalidImageName", "ErrImagePull"),
    *("ImagePullBackOff", "CrashLoopBackOff", "OOMKilled", "Error"),
)
"""Reasons for a container not to start that seldom go away on their own."""
_PERMANENT = ("ValidationFailed", "DeadlineExceeded")


@dataclass(frozen=True, slots=True)
class RayJobStatus:
    """The state of a RayJob, reduced to what an attempt needs."""

    state: State
    reason: str = ""
    message: str = ""
    retryable: bool = True
    """Whether another attempt may help."""
    cluster: str | None = None
    dashboard: str | None = None
    workers: str = ""
    end_time: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the RayJob has ended."""
        return self.state in ("Succeeded", "Stopped", "Failed")


def ray_job_status(ray_job: Mapping[str, Any]) -> RayJobStatus:
    """Reads what KubeRay has written into the RayJob."""
    status = ray_job.get("status") or {}
    deployment, job = status.get("jobDeploymentStatus") or "", status.get("jobStatus") or ""
    cluster = status.get("rayClusterStatus") or {}
    state, reason, message = _state(deployment, job, status)
    if state == "Pending" and ray_job.get("spec", {}).get("suspend"):
        state, message = "Queued", "waiting for the queue to admit the job"
    elif state == "Pending":
        reason, message = _obstacle(cluster) or (reason, message)
    desired = cluster.get("desiredWorkerReplicas")
    return RayJobStatus(
        state=state,
        reason=reason,
        message=message,
        retryable=reason not in _PERMANENT,
        cluster=status.get("rayClusterName") or None,
        dashboard=status.get("dashboardURL") or None,
        workers="" if desired is None else f"{cluster.get('readyWorkerReplicas', 0)}/{desired}",
        end_time=status.get("endTime"),
    )


def trim(ray_job: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that the operator looks at.

    A RayJob is mostly pod templates: a thousand of them fill 100 MB.
    """
    metadata = {key: value for key, value in ray_job["metadata"].items() if key != "managedFields"}
    spec = {"suspend": (ray_job.get("spec") or {}).get("suspend")}
    return {"metadata": metadata, "spec": spec, "status": ray_job.get("status")}


def _state(deployment: str, job: str, status: Mapping[str, Any]) -> tuple[State, str, str]:
    reason, message = status.get("reason") or "", status.get("message") or ""
    match deployment, job:
        case "Complete", "SUCCEEDED":
            found: tuple[State, str, str] = "Succeeded", "", message
        case "Complete", "STOPPED":
            found = "Stopped", "Stopped", message or "the Ray job was stopped"
        case (("Complete" | "Failed"), _):
            found = "Failed", reason or "RayJobFailed", message or f"the Ray job ended with status {job or 'unknown'}"
        case "ValidationFailed", _:
            found = "Failed", "ValidationFailed", message or "KubeRay rejected the RayJob"
        case "Running", _:
            found = "Running", "", message
        case (("Suspended" | "Suspending"), _):
            found = "Queued", "", "waiting for the queue to admit the job"
        case _:
            found = "Pending", "", "the Ray cluster is starting"
    return found


def _obstacle(cluster: Mapping[str, Any]) -> tuple[str, str] | None:
    """(reason, message) if a quota, an image or a secret is in the way, from the conditions."""
    for condition in cluster.get("conditions") or []:
        reason, message = condition.get("reason") or "", condition.get("message") or ""
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return reason or "ReplicaFailure", message or "pods could not be created"
        if condition.get("type") == "HeadPodReady" and condition.get("status") == "False" and reason in _STUCK:
            return reason, f"the head pod does not start: {message or reason}"
    return None
