"""What a RayJob's status says about an attempt (KubeRay 1.6)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["Queued", "Pending", "Running", "Succeeded", "Stopped", "Failed"]

_STUCK = (
    *("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "InvalidImageName", "ErrImagePull"),
    *("ImagePullBackOff", "CrashLoopBackOff", "OOMKilled", "Error"),
)
"""Why a container does not start: reasons that seldom pass by themselves."""
_NOT_TRIED_AGAIN = ("ValidationFailed", "DeadlineExceeded")


@dataclass(frozen=True, slots=True)
class Seen:
    """A RayJob in the words of an attempt."""

    state: State
    reason: str = ""
    message: str = ""
    again: bool = True
    """Whether another attempt could help."""
    cluster: str | None = None
    dashboard: str | None = None
    workers: str = ""
    ended: str | None = None

    @property
    def over(self) -> bool:
        """Whether this attempt has ended."""
        return self.state in ("Succeeded", "Stopped", "Failed")


def seen(ray_job: Mapping[str, Any]) -> Seen:
    """The RayJob as far as KubeRay has got with it."""
    status = ray_job.get("status") or {}
    deployment, job = status.get("jobDeploymentStatus") or "", status.get("jobStatus") or ""
    cluster = status.get("rayClusterStatus") or {}
    state, reason, message = _state(deployment, job, status)
    if state == "Pending" and ray_job.get("spec", {}).get("suspend"):
        state, message = "Queued", "waiting to be admitted by the queue"
    elif state == "Pending":
        reason, message = _why_pending(cluster) or (reason, message)
    wanted = cluster.get("desiredWorkerReplicas")
    return Seen(
        state=state,
        reason=reason,
        message=message,
        again=reason not in _NOT_TRIED_AGAIN,
        cluster=status.get("rayClusterName") or None,
        dashboard=status.get("dashboardURL") or None,
        workers="" if wanted is None else f"{cluster.get('readyWorkerReplicas', 0)}/{wanted}",
        ended=status.get("endTime"),
    )


def kept(ray_job: Mapping[str, Any]) -> dict[str, Any]:
    """What `seen` and the operator look at.

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
            found = "Failed", reason or "RayJobFailed", message or f"the Ray job ended as {job or 'nothing'}"
        case "ValidationFailed", _:
            found = "Failed", "ValidationFailed", message or "KubeRay refused the RayJob"
        case "Running", _:
            found = "Running", "", message
        case (("Suspended" | "Suspending"), _):
            found = "Queued", "", "waiting to be admitted by the queue"
        case _:
            found = "Pending", "", "the Ray cluster is starting"
    return found


def _why_pending(cluster: Mapping[str, Any]) -> tuple[str, str] | None:
    """A quota, an image or a secret that is not there: KubeRay says it in the conditions of the cluster."""
    for condition in cluster.get("conditions") or []:
        reason, message = condition.get("reason") or "", condition.get("message") or ""
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return reason or "ReplicaFailure", message or "pods could not be made"
        if condition.get("type") == "HeadPodReady" and condition.get("status") == "False" and reason in _STUCK:
            return reason, f"the head does not start: {message or reason}"
    return None
