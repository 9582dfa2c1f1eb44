"""What a platform team sets for all jobs: read by the operator from the file that RAYTRAIN_OPERATOR_SETTINGS names."""

import os
from pathlib import Path
from typing import Any

from pydantic import Field

from raytrain import __version__
from raytrain_core.config.base import SpecModel
from raytrain_core.config.loader import load_config

VARIABLE = "RAYTRAIN_OPERATOR_SETTINGS"
RAY_VERSION = "2.60.0"
"""Of the image's Ray: KubeRay chooses probes and refuses token authentication by it."""


class ContainerSize(SpecModel):
    """CPU and memory of a container of ours that no job speaks of."""

    cpu: str = Field(default="200m", description="CPU that it asks for.")
    memory: str = Field(default="512Mi", description="Memory that it asks for and may use.")


class Runs(SpecModel):
    """What every run gets unless its job says otherwise."""

    image: str = Field(default=f"raytrain:{__version__}", description="Image of the pods of a run.")
    image_pull_policy: str = Field(
        default="IfNotPresent", pattern="^(Always|IfNotPresent|Never)$", description="When that image is pulled."
    )
    image_pull_secrets: list[str] = Field(
        default_factory=list, description="Secrets of the job's namespace with which the image is pulled."
    )
    storage: str | None = Field(
        default=None, description="Storage URI of jobs that name none, e.g. s3://bucket/raytrain."
    )
    secrets: list[str] = Field(
        default_factory=list, description="Secrets of the job's namespace whose keys become environment variables."
    )
    env: dict[str, str] = Field(
        default_factory=dict,
        description="Environment of every pod, e.g. AWS_ENDPOINT_URL. Nothing secret: everyone can read it.",
    )
    ray_version: str = Field(default=RAY_VERSION, description="Version of Ray in the image.")
    autoscaler: ContainerSize = Field(default_factory=ContainerSize, description="Ray's autoscaler, beside the head.")
    keep_cluster_seconds: int = Field(
        default=30, ge=0, description="How long the Ray cluster of an attempt stays after its end, for its dashboard."
    )
    start_deadline_seconds: int = Field(
        default=1800, ge=60, description="An attempt whose head does not start in this time has failed."
    )
    network_policy: bool = Field(
        default=True, description="Only pods of the same run, KubeRay and Prometheus reach the pods of a run."
    )
    kuberay_selector: dict[str, str] = Field(
        default_factory=lambda: {"app.kubernetes.io/name": "kuberay-operator"},
        description="Labels of KubeRay's operator pods (in any namespace): they submit the job to the head.",
    )
    prometheus_selector: dict[str, str] = Field(
        default_factory=lambda: {"app.kubernetes.io/name": "prometheus"},
        description="Labels of Prometheus' pods (in any namespace): they read metrics.",
    )


class Policy(SpecModel):
    """What jobs may ask for. Pod Security admission on the namespace is the second line."""

    allowed_images: list[str] = Field(
        default_factory=list, description="Beginnings of image names that a job may name; empty: any."
    )
    allowed_secrets: list[str] = Field(
        default_factory=list, description="Patterns of secrets that a job may name, e.g. raytrain-*; empty: any."
    )
    pod_template: bool = Field(default=True, description="Whether a job may patch pods (cluster.podTemplate).")


class Retry(SpecModel):
    """How attempts follow each other."""

    first_seconds: float = Field(default=10, ge=0, description="Wait before the second attempt; doubles each time.")
    longest_seconds: float = Field(default=600, ge=0, description="Longest wait.")


class Settings(SpecModel):
    """The operator's settings."""

    runs: Runs = Field(default_factory=Runs, description="What every run gets unless its job says otherwise.")
    policy: Policy = Field(default_factory=Policy, description="What jobs may ask for.")
    retry: Retry = Field(default_factory=Retry, description="How attempts follow each other.")


def read_settings() -> Settings:
    """The settings of this process; defaults where the variable is not set.

    ConfigError names what is wrong.
    """
    path = os.environ.get(VARIABLE)
    return load_config(Path(path), Settings) if path else Settings()


def json_schema() -> dict[str, Any]:
    """JSON Schema of the settings, for the chart's values."""
    return Settings.model_json_schema(by_alias=True)
