"""The FineTuneJob: one document that says which tasks, in which mixture, on which model, trained and scored how.

These models are the one definition of the document. The JSON Schema, `raytrain explain` and the reference
documentation are generated from them; data_prep's part (tasks, mixture, storage) is composed in.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from data_prep.document.models import Mixture, Model, Name, Storage, Task
from data_prep.mixture import misfit

API_VERSION = "raytrain.dev/v1alpha1"
KIND = "FineTuneJob"

ObjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
"""Name of another Kubernetes object."""


class Metadata(Model):
    """Name of the run, and what Kubernetes adds to it."""

    name: Name = Field(description="Name of the run: a letter, then letters, digits and dashes, at most 40.")
    namespace: str | None = Field(default=None, description="Namespace in a cluster; unused elsewhere.")
    labels: dict[str, str] = Field(default_factory=dict, description="Kubernetes labels; unused elsewhere.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Kubernetes annotations; unused elsewhere.")


class RowShape(Model):
    """Size of a row: how many source and target tokens it holds. Examples are never split across rows."""

    source: int = Field(ge=8, le=1 << 20, description="Source tokens of a row.")
    target: int = Field(ge=4, le=1 << 20, description="Target tokens of a row.")


class Training(Model):
    """How the model is trained."""

    steps: int = Field(ge=0, description="Optimizer steps.")
    batch_tokens: int = Field(
        default=65536, ge=16, description="Tokens (source and target) of one step over all workers, at most."
    )
    row: RowShape | None = Field(
        default=None, description="Shape of a row; by default chosen from batchTokens and the lengths of the examples."
    )
    max_input_tokens: int = Field(default=512, ge=8, le=8192, description="Longer sources are cut (and counted).")
    max_target_tokens: int = Field(default=128, ge=2, le=4096, description="Longer targets are cut (and counted).")
    optimizer: Literal["adafactor", "adamw"] = Field(
        default="adafactor", description="adafactor (FLAN's own recipe: no relative step) or adamw (fused)."
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="Peak learning rate.")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant",
        description="Learning rate after the warm-up: constant, or falling to finalLearningRateShare.",
    )
    warmup_steps: int = Field(default=0, ge=0, description="Steps over which the learning rate rises linearly.")
    final_learning_rate_share: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="Learning rate at the last step of linear and cosine, as a share of the peak.",
    )
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="Decay rates of adamw's moments.")
    weight_decay: float = Field(default=0.0, ge=0, description="Decoupled weight decay; none on norms and biases.")
    gradient_clip: float | None = Field(default=1.0, gt=0, description="Largest norm of the gradient; null for none.")
    dropout: float | None = Field(default=None, ge=0, lt=1, description="Dropout; by default what the model says.")
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32",
        description="fp32, or bf16 (autocast over fp32 weights). There is no fp16: T5 overflows in it.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto takes a GPU where there is one.")
    method: Literal["full"] = Field(default="full", description="full: every weight is trained.")
    checkpoint_every: int = Field(default=250, ge=1, description="Steps between two checkpoints.")
    keep_checkpoints: int = Field(
        default=3, ge=1, description="How many of the newest checkpoints stay; the best one stays too."
    )
    seed: int = Field(default=17, ge=0, lt=2**63, description="Seed of dropout and of new weights.")

    @model_validator(mode="after")
    def _row_holds_an_example(self) -> Self:
        if self.row and (self.row.source < self.max_input_tokens or self.row.target < self.max_target_tokens):
            raise ValueError("row must hold an example: at least maxInputTokens and maxTargetTokens")
        if self.row and self.row.source + self.row.target > self.batch_tokens:
            raise ValueError("batchTokens must hold at least one row")
        return self


class Evaluation(Model):
    """How checkpoints are scored."""

    every: int = Field(
        default=500, ge=1, description="Checkpoints at multiples of this step are scored on validation rows."
    )
    examples_per_task: int = Field(
        default=200, ge=2, description="Rows of a task that are scored, the same ones each time."
    )
    max_new_tokens: int | None = Field(
        default=None, ge=1, description="Longest answer in tokens; by default training.maxTargetTokens."
    )
    batch_size: int = Field(default=32, ge=1, description="Examples that an actor answers at once.")
    select: Literal["best", "last"] = Field(
        default="best",
        description="Which checkpoint becomes the model: best on validation rows (mean of headlines), or last.",
    )


class TrainingResources(Model):
    """What training takes."""

    workers: int = Field(default=1, ge=1, description="Training workers.")
    min_workers: int | None = Field(default=None, ge=1, description="Elastic training: go on with this many.")
    gpus: float = Field(default=0, ge=0, description="GPUs of a worker (in a cluster).")
    cpus: float = Field(default=1, gt=0, description="CPUs of a worker.")
    memory: str | None = Field(default=None, description="Memory of a worker, e.g. 24Gi (in a cluster).")

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError("minWorkers must not exceed workers")
        return self


class EvaluationResources(Model):
    """What evaluation takes."""

    actors: int = Field(default=1, ge=1, description="Evaluation actors.")
    gpus: float = Field(default=0, ge=0, description="GPUs of an actor (in a cluster).")
    cpus: float = Field(default=1, gt=0, description="CPUs of an actor.")
    memory: str | None = Field(default=None, description="Memory of an actor, e.g. 8Gi (in a cluster).")


class PreparationResources(Model):
    """What preparation takes."""

    cpus: float = Field(
        default=2,
        gt=0,
        description=(
            "CPUs for preparation: that many Ray tasks in a cluster; elsewhere that many processes, but not more than "
            "the machine has cores. The shards are the same for any number."
        ),
    )
    memory: str | None = Field(
        default=None, description="Memory of the pods that prepare and score on CPUs, e.g. 16Gi (in a cluster)."
    )


class Resources(Model):
    """Workers, actors and what each takes. May change between attempts: the result does not depend on it."""

    training: TrainingResources = Field(default_factory=TrainingResources, description="Training workers.")
    evaluation: EvaluationResources = Field(default_factory=EvaluationResources, description="Evaluation actors.")
    preparation: PreparationResources = Field(default_factory=PreparationResources, description="Preparation.")


class HeadResources(Model):
    """What the head of the Ray cluster takes. It computes nothing: Ray's own services run there."""

    cpus: float = Field(default=1, gt=0, description="CPUs of the head's pod.")
    memory: str = Field(default="4Gi", description="Memory of the head's pod.")


class Cluster(Model):
    """How the run is placed in a Kubernetes cluster; ignored (and named so) elsewhere."""

    image: str | None = Field(
        default=None, min_length=1, max_length=500, description="Image of the pods; by default the operator's."
    )
    image_pull_secrets: list[ObjectName] = Field(
        default_factory=list, max_length=10, description="Secrets with which the image is pulled."
    )
    queue: ObjectName | None = Field(
        default=None, description="Kueue queue: the run waits there, and has a fixed size (no autoscaling)."
    )
    node_selector: dict[str, str] = Field(
        default_factory=dict, max_length=50, description="Labels that the nodes of training workers must have."
    )
    tolerations: list[dict[str, Any]] = Field(
        default_factory=list, max_length=50, description="Kubernetes tolerations of every pod."
    )
    secrets: list[ObjectName] = Field(
        default_factory=list,
        max_length=20,
        description="Secrets of the namespace whose keys become environment variables, e.g. the bucket's credentials.",
    )
    service_account_annotations: dict[str, str] = Field(
        default_factory=dict,
        max_length=20,
        description="Annotations of the run's service accounts: workload identity instead of secrets.",
    )
    gpu_resource: str = Field(
        default="nvidia.com/gpu", max_length=100, description="What the nodes call a GPU, e.g. amd.com/gpu."
    )
    head: HeadResources = Field(default_factory=HeadResources, description="What the head of the Ray cluster takes.")
    retries: int = Field(
        default=3, ge=0, le=50, description="Further attempts after a failure that is not the document's or the data's."
    )
    ttl: str | None = Field(
        default=None,
        pattern=r"^[1-9][0-9]{0,8}[smhd]$",
        description="How long the finished object stays, e.g. 1h; without it for ever. What is in storage stays.",
    )
    suspend: bool = Field(
        default=False, description="Stop and give everything back; false resumes from the newest checkpoint."
    )
    pod_template: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "Merged into every pod (metadata and spec; lists of named things by name, Ray's container is named ray): "
            "the escape hatch. What would leave the namespace's limits is refused."
        ),
    )


class Spec(Model):
    """What is to be done."""

    model: str = Field(
        min_length=1,
        description="The model to start from: hub id, local folder, s3:// folder, or run://NAME (an earlier run's).",
        examples=["google/flan-t5-base", "./my-model", "run://samsum"],
    )
    storage: Storage | None = Field(
        default=None,
        description="Where shards and runs live: flag, then document, then RAYTRAIN_STORAGE, then ./raytrain-storage.",
    )
    tasks: list[Task] = Field(min_length=1, max_length=2000, description="The tasks, probes among them.")
    mixture: Mixture = Field(default_factory=Mixture, description="In which shares the tasks are mixed.")
    training: Training = Field(description="How the model is trained.")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="How checkpoints are scored.")
    resources: Resources = Field(default_factory=Resources, description="Workers, actors and what each takes.")
    cluster: Cluster | None = Field(default=None, description="Placement in a Kubernetes cluster.")

    @model_validator(mode="after")
    def _tasks_fit(self) -> Self:
        names = [t.name for t in self.tasks]
        if double := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"two tasks are named {', '.join(double)}")
        trained = {t.name for t in self.tasks if not t.probe}
        if not trained:
            raise ValueError("every task is a probe: nothing would be trained")
        if wrong := misfit(self.mixture, trained):
            raise ValueError(wrong)
        return self

    @property
    def trained_tasks(self) -> list[Task]:
        """The tasks that have a share of the mixture."""
        return [t for t in self.tasks if not t.probe]


class FineTuneJob(Model):
    """One document: a multitask fine-tuning of a T5 from raw rows to a before/after report."""

    api_version: Literal["raytrain.dev/v1alpha1"] = Field(description="Version of the document's format.")
    kind: Literal["FineTuneJob"] = Field(description="Always FineTuneJob.")
    metadata: Metadata = Field(description="Name of the run.")
    spec: Spec = Field(description="What is to be done.")
