"""Reads the status that KubeRay (1.6) writes into a RayJob."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["Queued", "Pending", "Running", "Succeeded", "Stopped", "Failed"]

PERMANENT = ("ValidationFailed", "DeadlineExceeded")
"""KubeRay's reasons that another attempt would meet again."""
NOT_STARTED = "PreRunningDeadlineExceeded"
"""KubeRay's reason for an attempt whose Ray cluster was not ready in time."""


@dataclass(frozen=True, slots=True)
class RayJobStatus:
    """The state of a RayJob, reduced to what an attempt needs."""

    state: State
    reason: str = ""
    message: str = ""
    leaving: bool = False
    """Whether its deletion has been accepted."""
    cluster: str | None = None
    cluster_status: Mapping[str, Any] = field(default_factory=dict)
    """KubeRay's status of the RayCluster."""
    dashboard: str | None = None
    ready: int = 0
    """Worker pods that are ready."""
    desired: int | None = None
    """Worker pods that KubeRay keeps, None if it has not said so yet."""

    @property
    def workers(self) -> str:
        """`2/3`: worker pods ready, and desired."""
        return "" if self.desired is None else f"{self.ready}/{self.desired}"

    @property
    def lacks_pods(self) -> bool:
        """Whether pods are missing, or KubeRay could not create them."""
        conditions = self.cluster_status.get("conditions") or []
        failing = any(c.get("type") == "ReplicaFailure" and c.get("status") == "True" for c in conditions)
        headless = any(c.get("type") == "HeadPodReady" and c.get("status") == "False" for c in conditions)
        return failing or headless or self.state == "Pending" or self.ready < (self.desired or 0)

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
    if state == "Pending" and (ray_job.get("spec") or {}).get("suspend"):
        state, message = "Queued", "waiting for the queue to admit the job"
    return RayJobStatus(
        state=state,
        reason=reason,
        message=message,
        leaving=bool(ray_job["metadata"].get("deletionTimestamp")),
        cluster=status.get("rayClusterName") or None,
        cluster_status=cluster,
        dashboard=status.get("dashboardURL") or None,
        ready=cluster.get("readyWorkerReplicas") or 0,
        desired=cluster.get("desiredWorkerReplicas"),
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
        case "Suspending", _:
            found = "Queued", "", "the queue has taken back the job's room: its pods are stopping"
        case "Suspended", _:
            found = "Queued", "", "waiting for the queue to admit the job"
        case _:
            found = "Pending", "", "the Ray cluster is starting"
    return found
