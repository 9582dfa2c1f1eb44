"""The operator's settings: what a platform team sets for all jobs.

They are read from the file that RAYTRAIN_OPERATOR_SETTINGS names.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator

from raytrain import __version__
from raytrain.operator.image_reference import parse_pattern
from raytrain.operator.notification_settings import Notifications
from raytrain.operator.prices import Prices
from raytrain_core.config.base import SpecModel, checked_by
from raytrain_core.config.loader import load_config
from raytrain_core.storage.uri import parse_uri

VARIABLE = "RAYTRAIN_OPERATOR_SETTINGS"
RAY_VERSION = "2.60.0"
"""Ray in the image. KubeRay chooses probes by it, and whether token authentication is possible."""


OptionalPodField = Literal[
    "dnsConfig",
    "dnsPolicy",
    "hostAliases",
    "preemptionPolicy",
    "resourceClaims",
    "runtimeClassName",
    "schedulerName",
]
OPTIONAL_POD_FIELDS: tuple[str, ...] = get_args(OptionalPodField)
"""Fields of a pod that a run may have only if the settings say so."""


class ContainerSize(SpecModel):
    """CPU and memory of a container that a job cannot configure."""

    cpu: str = Field(default="200m", description="CPU request.")
    memory: str = Field(default="512Mi", description="Memory request and limit.")


class Runs(SpecModel):
    """Defaults for every run; a job may override some of them."""

    image: str = Field(default=f"raytrain:{__version__}", description="Image of the pods of a run.")
    image_pull_policy: str = Field(
        default="IfNotPresent", pattern="^(Always|IfNotPresent|Never)$", description="Pull policy of that image."
    )
    image_pull_secrets: list[str] = Field(
        default_factory=list, description="Secrets in the job's namespace for pulling the image."
    )
    storage: Annotated[str, checked_by(parse_uri)] | None = Field(
        default=None,
        description="Default storage URI for jobs that set none, e.g. s3://bucket/raytrain or gs://bucket/raytrain.",
    )
    cluster_name: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$",
        description=(
            "Name of this cluster, if several clusters share a storage: a run is stored under "
            "STORAGE/CLUSTER/NAMESPACE, without it under STORAGE/NAMESPACE."
        ),
    )
    secrets: list[str] = Field(
        default_factory=list, description="Secrets in the job's namespace whose keys become environment variables."
    )
    env: dict[str, str] = Field(
        default_factory=dict,
        description=(
            "Environment variables of every pod, e.g. AWS_ENDPOINT_URL. Not for secrets: anyone can read them."
        ),
    )
    ray_version: str = Field(default=RAY_VERSION, description="Version of Ray in the image.")
    autoscaler: ContainerSize = Field(
        default_factory=ContainerSize, description="Size of Ray's autoscaler container, which runs next to the head."
    )
    keep_cluster_seconds: int = Field(
        default=30,
        ge=0,
        description=("How long an attempt's Ray cluster stays after its end, so that its dashboard can be read."),
    )
    start_deadline_seconds: int = Field(
        default=1800, ge=60, description="An attempt fails if its head has not started by then."
    )
    pods_ready_seconds: int = Field(
        default=600,
        ge=30,
        le=1500,
        description=(
            "If room or quota is lacking for this long, and fewer pods than the run needs at least have started, the "
            "job gives all of them back and waits for its next turn. It costs no retry. Not with a queue. At most "
            "1500: without pods the run itself gives up after half an hour, and that costs one."
        ),
    )
    mistake_seconds: int = Field(
        default=120,
        ge=0,
        description=(
            "How long a missing secret, volume or image, or a pod that is refused, may take to be put right before "
            "the job fails."
        ),
    )
    network_policy: bool = Field(
        default=True, description="Restrict access to the pods of a run to the run itself, KubeRay and Prometheus."
    )
    batch_scheduler: Literal["volcano", "yunikorn"] | None = Field(
        default=None,
        description=(
            "KubeRay's batch scheduler (batchScheduler.name of its chart). Only then a job with the label of "
            "one of its queues is left to it, without a limit of the operator's."
        ),
    )
    kuberay_selector: dict[str, str] = Field(
        default_factory=lambda: {"app.kubernetes.io/component": "kuberay-operator"},
        description=(
            "Labels of the KubeRay operator's pods (in any namespace), which submit the job to the head; by default "
            "the one that KubeRay's chart and its kustomization both set."
        ),
    )
    prometheus_selector: dict[str, str] = Field(
        default_factory=lambda: {"app.kubernetes.io/name": "prometheus"},
        description="Labels of Prometheus' pods (in any namespace), which read metrics.",
    )


class Policy(SpecModel):
    """What jobs may ask for, applied to the finished pods (`pod_policy`).

    Pod Security admission and the chart's admission policy are further lines of defence.
    """

    allowed_images: list[str] = Field(
        default_factory=list,
        description=(
            "Images that the containers of a job's pods may use, besides runs.image: registry.example.org/ (a "
            "registry), registry.example.org/team (a repository and all below it), or one repository with :tag or "
            "@digest, in which * stands for anything; empty allows any."
        ),
    )
    allowed_secrets: list[str] = Field(
        default_factory=list,
        description=(
            "Patterns of secrets that a job's pods may use in any way, besides runs.secrets, e.g. raytrain-*; empty "
            "allows any."
        ),
    )
    allowed_tolerations: list[str] = Field(
        default_factory=list,
        description=(
            "Patterns of taint keys that a job may tolerate, besides nvidia.com/gpu; only * allows to tolerate every "
            "taint at once; empty allows any."
        ),
    )
    allowed_priority_classes: list[str] = Field(
        default_factory=list,
        description="Patterns of priority classes that a job may use; empty allows any but system-*.",
    )
    storage_prefixes: dict[str, list[str]] = Field(
        default_factory=dict,
        description=(
            "Where the jobs of a namespace may store: patterns of namespaces with storage URIs, in which {namespace} "
            "stands for the job's namespace, e.g. {team-*: [s3://models/{namespace}]}; empty allows any."
        ),
    )
    allowed_pod_fields: list[OptionalPodField] = Field(
        default_factory=list,
        description=(
            "Fields of a pod that cluster.podTemplate may set besides the usual ones: those by which a job would "
            "choose its runtime, its scheduler, its name resolution or its devices."
        ),
    )
    allowed_annotations: list[str] = Field(
        default_factory=list,
        description=(
            "Patterns of annotations that cluster.podTemplate may set, besides keys without dot and slash, e.g. "
            "prometheus.io/*. Container runtimes, network plug-ins, webhooks and cloud identities act on annotations."
        ),
    )
    pod_template: bool = Field(default=True, description="Whether a job may patch its pods (cluster.podTemplate).")

    @field_validator("allowed_images")
    @classmethod
    def _are_references(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            parse_pattern(pattern)
        return patterns


class Retry(SpecModel):
    """How attempts follow each other."""

    first_seconds: float = Field(
        default=10, ge=0, description="Wait before the second attempt, in seconds; doubles with each failure."
    )
    longest_seconds: float = Field(default=600, ge=0, description="Longest wait, in seconds.")
    max_interruptions: int = Field(
        default=50, ge=0, le=90, description="A job that was interrupted more often (drained or reclaimed nodes) fails."
    )


class MaxRunningJobs(SpecModel):
    """How many jobs may run at once; the others wait in line, the oldest first.

    Jobs with a queue (cluster.queue, a label of Kueue or of runs.batchScheduler) are not counted:
    their line is the queue's.
    """

    in_all: int | None = Field(default=None, ge=1, description="In all namespaces together; empty for no limit.")
    per_namespace: int | None = Field(default=None, ge=1, description="In each namespace; empty for no limit.")


class Settings(SpecModel):
    """The operator's settings."""

    runs: Runs = Field(default_factory=Runs, description="Defaults for every run.")
    policy: Policy = Field(default_factory=Policy, description="What jobs may ask for.")
    retry: Retry = Field(default_factory=Retry, description="How attempts follow each other.")
    notifications: Notifications = Field(default_factory=Notifications, description="Whom to tell about jobs.")
    prices: Prices = Field(default_factory=Prices, description="What GPUs cost.")
    max_running_jobs: MaxRunningJobs = Field(
        default_factory=MaxRunningJobs, description="How many jobs may run at once."
    )


def read_settings() -> Settings:
    """Reads the settings of this process; defaults if the variable is not set.

    Raises ConfigError for an invalid file.
    """
    path = os.environ.get(VARIABLE)
    return load_config(Path(path), Settings) if path else Settings()


def json_schema() -> dict[str, Any]:
    """Returns the JSON Schema of the settings, for the chart's values."""
    return Settings.model_json_schema(by_alias=True)
