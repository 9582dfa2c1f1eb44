"""FineTuneJobs and RayJobs as the API server has them, for tests of the operator."""

from datetime import UTC, datetime, timedelta
from typing import Any

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
UID = "0b0d2c8e-5a1f-4c4e-9c63-3b3a6f3a7e11"


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def task(name: str = "chats", **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": "summarization", "source": {"uri": f"s3://rows/{name}.jsonl"}} | fields


def finetunejob(
    *,
    name: str = "assistant",
    status: dict[str, Any] | None = None,
    annotations: dict[str, str] | None = None,
    generation: int = 1,
    cluster: dict[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """Returns a FineTuneJob that can run; `spec` replaces parts of its spec."""
    contents: dict[str, Any] = {
        "model": "google/flan-t5-small",
        "storage": {"uri": "s3://bucket/raytrain"},
        "tasks": [task(), task("reviews", type="rating"), task("puzzles", type="text", probe=True)],
        "training": {"steps": 100},
        "resources": {
            "training": {"workers": 2, "gpus": 1, "cpus": 4, "memory": "24Gi"},
            "evaluation": {"actors": 2, "cpus": 2, "memory": "4Gi"},
            "preparation": {"cpus": 4, "memory": "16Gi"},
        },
    } | spec
    if cluster is not None:
        contents["cluster"] = cluster
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": "team",
        "uid": UID,
        "generation": generation,
        "resourceVersion": "1",
    }
    if annotations:
        metadata["annotations"] = annotations
    body = {"apiVersion": "raytrain.dev/v1alpha1", "kind": "FineTuneJob", "metadata": metadata, "spec": contents}
    return body if status is None else body | {"status": status}


def pod(
    name: str = "assistant-a01-head", *, uid: str = "pod-1", leaving: bool = False, **status: Any
) -> dict[str, Any]:
    """Returns a pod of a job."""
    metadata: dict[str, Any] = {"name": name, "namespace": "team", "uid": uid}
    if leaving:
        metadata |= {"deletionTimestamp": "2026-11-23T12:00:00Z", "deletionGracePeriodSeconds": 60}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"phase": "Running"} | status}


def rayjob(
    number: int = 1,
    *,
    name: str = "assistant",
    deployment: str = "",
    job: str = "",
    uid: str = UID,
    suspend: bool = False,
    **status: Any,
) -> dict[str, Any]:
    """Returns the RayJob of an attempt with KubeRay's status."""
    content: dict[str, Any] = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "name": f"{name}-a{number:02d}",
            "namespace": "team",
            "creationTimestamp": "2026-11-23T12:00:00Z",
            "labels": {"raytrain.dev/job": name, "raytrain.dev/attempt": str(number)},
            "ownerReferences": [{"uid": uid, "kind": "FineTuneJob", "name": name, "controller": True}],
        },
        "spec": {"suspend": suspend},
    }
    if deployment or status:
        content["status"] = {"jobDeploymentStatus": deployment, "jobStatus": job, **status}
    return content
