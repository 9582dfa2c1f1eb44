"""Placement of a run in a Kubernetes cluster (`spec.cluster`)."""

from typing import Literal

from pydantic import Field

from raytrain.config.pod_fields import Memory, ObjectName, PodTemplate, Toleration
from raytrain_core.config.base import SpecModel


class HeadResources(SpecModel):
    """Resources of the Ray cluster's head pod, which runs only Ray's own services."""

    cpus: float = Field(default=1, gt=0, description="CPUs of the head pod.")
    memory: Memory = Field(default="4Gi", description="Memory of the head pod.")


class ClusterSpec(SpecModel):
    """Placement in a Kubernetes cluster; elsewhere these fields are ignored, with a warning."""

    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        description="Image of the run's pods; by default the one in the operator's settings.",
    )
    image_pull_secrets: list[ObjectName] = Field(
        default_factory=list, max_length=10, description="Secrets for pulling the image."
    )
    queue: ObjectName | None = Field(
        default=None,
        description=("Kueue queue: the run waits there until it is admitted, and has a fixed size (no autoscaling)."),
    )
    node_selector: dict[str, str] = Field(
        default_factory=dict, max_length=50, description="Labels that the nodes of training workers must have."
    )
    tolerations: list[Toleration] = Field(
        default_factory=list, max_length=50, description="Kubernetes tolerations of every pod."
    )
    secrets: list[ObjectName] = Field(
        default_factory=list,
        max_length=20,
        description=(
            "Secrets in the namespace whose keys become environment variables, e.g. the bucket's credentials."
        ),
    )
    service_account_annotations: dict[str, str] = Field(
        default_factory=dict,
        max_length=20,
        description=("Annotations of the run's service accounts, e.g. for workload identity instead of secrets."),
    )
    managed_by: Literal["ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"] | None = Field(
        default=None,
        description=(
            "Who looks after the RayJob: KubeRay here, or MultiKueue, which sends it to another cluster. It is passed "
            "on; empty leaves it to KubeRay and Kueue."
        ),
    )
    head: HeadResources = Field(default_factory=HeadResources, description="Resources of the head pod.")
    retries: int = Field(
        default=3,
        ge=0,
        le=50,
        description="Number of further attempts after failures that are not caused by the job or its data.",
    )
    ttl: str | None = Field(
        default=None,
        pattern=r"^([1-9][0-9]{0,8}[sm]|[1-9][0-9]{0,6}h|[1-9][0-9]{0,4}d)$",
        description=(
            "How long the object is kept after the job has ended, e.g. 1h; by default forever. Storage is never "
            "touched."
        ),
    )
    max_wait: str | None = Field(
        default=None,
        pattern=r"^[1-9][0-9]{0,8}[smhd]$",
        description=(
            "How long the job may wait for its turn, room or quota before it fails, e.g. 2d; by default forever. "
            "Waiting costs no retry."
        ),
    )
    suspend: bool = Field(
        default=False,
        description=("true stops the run and releases all its pods; false resumes it from the newest checkpoint."),
    )
    pod_template: PodTemplate = Field(
        default_factory=dict,
        description=(
            "Escape hatch, merged into every pod (metadata and spec; lists of named items by name, Ray's "
            "container is named ray). Settings that would exceed the namespace's restrictions are refused."
        ),
    )
