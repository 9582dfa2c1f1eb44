"""Numbers of workers and actors, and what each gets (`spec.resources`)."""

from typing import Literal, Self

from pydantic import Field, model_validator

from raytrain.config.pod_fields import Memory
from raytrain_core.config.base import SpecModel


class TrainingResources(SpecModel):
    """Resources of training."""

    workers: int = Field(default=1, ge=1, description="Number of training workers.")
    min_workers: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Elastic training: start, and continue after losing workers, with as few as this many; when there is "
            "room for more, training resumes with them from the newest checkpoint."
        ),
    )
    gpus: float = Field(default=0, ge=0, description="GPUs per worker (in a cluster).")
    resource_name: str = Field(
        default="nvidia.com/gpu",
        max_length=316,
        pattern=r"^[a-z0-9][a-z0-9.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*$",
        description=(
            "What a GPU is called on the nodes, for training and evaluation, e.g. amd.com/gpu, or "
            "nvidia.com/mig-1g.10gb for a part of one. Ray counts each as one GPU."
        ),
    )
    cpus: float = Field(default=1, gt=0, description="CPUs per worker.")
    memory: Memory | None = Field(default=None, description="Memory per worker, e.g. 24Gi (in a cluster).")
    sharding: Literal["ddp", "fsdp"] = Field(
        default="ddp",
        description=(
            "ddp: every worker holds the whole model. fsdp (FSDP2): parameters, gradients and optimizer state are "
            "sharded over the workers, for models that do not fit on one GPU. Checkpoints have the same format."
        ),
    )

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError("minWorkers must not exceed workers")
        return self


class EvaluationResources(SpecModel):
    """Resources of evaluation."""

    actors: int = Field(default=1, ge=1, description="Number of evaluation actors.")
    gpus: float = Field(default=0, ge=0, description="GPUs per actor (in a cluster).")
    cpus: float = Field(default=1, gt=0, description="CPUs per actor.")
    memory: Memory | None = Field(default=None, description="Memory per actor, e.g. 8Gi (in a cluster).")


class PreparationResources(SpecModel):
    """Resources of data preparation."""

    cpus: float = Field(
        default=2,
        gt=0,
        description=(
            "CPUs for preparation: the number of Ray tasks in a cluster; elsewhere the number of processes, at "
            "most one per core. The shards do not depend on it."
        ),
    )
    memory: Memory | None = Field(
        default=None, description="Memory of the pods that prepare data and score on CPUs, e.g. 16Gi (in a cluster)."
    )


class Resources(SpecModel):
    """Number of workers and actors, and the resources of each.

    They may change between attempts: results do not depend on them.
    """

    training: TrainingResources = Field(default_factory=TrainingResources, description="Training workers.")
    evaluation: EvaluationResources = Field(default_factory=EvaluationResources, description="Evaluation actors.")
    preparation: PreparationResources = Field(default_factory=PreparationResources, description="Data preparation.")
