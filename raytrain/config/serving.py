"""How a finished run's model is served in a cluster (`spec.serving`)."""

from typing import Literal, Self

from pydantic import Field, model_validator

from data_prep.config import Name
from raytrain.config.pod_fields import Memory, ObjectName
from raytrain_core.config.base import SpecModel

ServingPrecision = Literal["fp32", "bf16"]


class ServingReplicas(SpecModel):
    """How many replicas of the model there are, each in a pod of its own."""

    min: int = Field(default=1, ge=1, le=1000, description="Least number of replicas.")
    max: int = Field(default=1, ge=1, le=1000, description="Most replicas; there are more than min while many ask.")

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.min > self.max:
            raise ValueError("min must not exceed max")
        return self


class ServingResources(SpecModel):
    """Resources of a replica."""

    cpus: int = Field(default=2, ge=1, le=1024, description="CPUs of a replica.")
    gpus: int = Field(default=0, ge=0, le=16, description="GPUs of a replica.")
    memory: Memory = Field(default="8Gi", description="Memory of a replica's pod, e.g. 8Gi.")


class ServingSpec(SpecModel):
    """Serving of the tuned model, once the run is complete (in a cluster)."""

    run: Name | None = Field(
        default=None,
        description=(
            "The run whose model is served, in the same storage and namespace; by default this job's own. Naming a "
            "newer run replaces the model without an interruption: the old one answers until the new one does."
        ),
    )
    replicas: ServingReplicas = Field(default_factory=ServingReplicas, description="Number of replicas.")
    precision: ServingPrecision = Field(
        default="fp32",
        description=(
            "fp32 (as the run was scored), or bf16: products and attention in bf16, faster where the processor "
            "multiplies it natively; some answers differ."
        ),
    )
    target_queue: int = Field(
        default=16,
        ge=1,
        le=10000,
        description=(
            "Prompts per replica, waiting or being decoded, above which replicas are added and below which they end."
        ),
    )
    max_queued: int = Field(
        default=256,
        ge=1,
        le=100000,
        description="Most prompts accepted and not answered yet; beyond it requests get status 429 with Retry-After.",
    )
    max_batch: int = Field(default=128, ge=1, le=10000, description="Most prompts in one request.")
    max_input_tokens: int | None = Field(
        default=None,
        ge=8,
        le=8192,
        description="Longest prompt in tokens; by default, and at most, training.maxInputTokens of the run.",
    )
    max_new_tokens: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Longest answer in tokens; by default, and at most, that of the run's evaluation.",
    )
    token_secret: ObjectName | None = Field(
        default=None,
        description=(
            "Secret whose key token requests must show (Authorization: Bearer). Without it, only pods of the same "
            "namespace reach the model."
        ),
    )
    image: str | None = Field(
        default=None, min_length=1, max_length=500, description="Image of the pods; by default that of the run's."
    )
    resources: ServingResources = Field(default_factory=ServingResources, description="Resources of a replica.")
