"""The FineTuneJob: one job that says which tasks, in which mixture, on which model, trained and scored how.

These models are the one definition of the job. The JSON Schema, `raytrain explain` and the
reference documentation are generated from them; data_prep's part (tasks, mixture, storage) is
composed in.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from data_prep.config import Mixture, Name, Task
from data_prep.tasks.mixture import misfit
from raytrain_core.config.base import SpecModel
from raytrain_core.storage import StorageLocation

API_VERSION = "raytrain.dev/v1alpha1"
KIND = "FineTuneJob"

ObjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
"""Name of another Kubernetes object."""


class Metadata(SpecModel):
    """Name of the run, and what Kubernetes adds to it."""

    name: Name = Field(description="Name of the run: a letter, then letters, digits and dashes, at most 40.")
    namespace: str | None = Field(default=None, description="Namespace in a cluster; unused elsewhere.")
    labels: dict[str, str] = Field(default_factory=dict, description="Kubernetes labels; unused elsewhere.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Kubernetes annotations; unused elsewhere.")


class PackingShape(SpecModel):
    """Size of a row: how many source and target tokens it holds.

    Examples are never split across rows.
    """

    source: int = Field(ge=8, le=1 << 20, description="Source tokens of a row.")
    target: int = Field(ge=4, le=1 << 20, description="Target tokens of a row.")


class Lora(SpecModel):
    """Low-rank adapters beside chosen linear layers; they are merged into the weights that are scored and exported."""

    rank: int = Field(default=16, ge=1, le=1024, description="Rank of an adapter.")
    alpha: float = Field(default=32.0, gt=0, description="Its output is scaled by alpha / rank.")
    targets: list[Literal["q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo"]] = Field(
        default=["q", "v"],
        min_length=1,
        description=(
            "Linear layers that get one, in encoder and decoder: q, k, v, o of every attention; wi and wo (T5), or "
            "wi_0, wi_1 and wo (T5 v1.1, FLAN-T5) of the feed-forward layers."
        ),
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout of what goes into an adapter.")


class TrainingSpec(SpecModel):
    """How the model is trained."""

    steps: int | None = Field(
        default=None, ge=0, description="Optimizer steps. Either these, epochs or tokens say how long training takes."
    )
    epochs: float | None = Field(
        default=None,
        gt=0,
        description=(
            "Instead of steps: as many examples as the trained tasks have together, so many times; how often each "
            "task is seen is the mixture's business."
        ),
    )
    tokens: int | None = Field(
        default=None, ge=1, description="Instead of steps: tokens (source and target, no padding) to train on."
    )
    batch_tokens: int = Field(
        default=65536, ge=16, description="Tokens (source and target) of one step over all workers, at most."
    )
    packing: PackingShape | None = Field(
        default=None, description="Shape of a row; by default chosen from batchTokens and the lengths of the examples."
    )
    max_input_tokens: int = Field(default=512, ge=8, le=8192, description="Longer sources are cut (and counted).")
    max_target_tokens: int = Field(default=128, ge=2, le=4096, description="Longer targets are cut (and counted).")
    optimizer: Literal["adafactor", "adamw"] = Field(
        default="adafactor", description="adafactor (FLAN's own recipe: no relative step) or adamw (fused)."
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="Peak learning rate.")
    schedule: Literal["constant", "linear", "cosine", "inverse-square-root"] = Field(
        default="constant",
        description=(
            "Learning rate after the warm-up: constant; linear or cosine, falling to finalLearningRateShare; or "
            "inverse-square-root, the peak times sqrt(warmupSteps / step)."
        ),
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
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Share of a target's probability that is spread over the vocabulary."
    )
    z_loss: float = Field(
        default=0.0, ge=0, description="Weight of the squared log of the softmax's sum (1e-4 where T5 is pre-trained)."
    )
    task_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description=(
            "What a target token of a task counts in the loss, 1 where nothing is said; the loss is divided by the "
            "sum of these. To see a task more often, change the mixture."
        ),
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description=(
            "Decay of a moving average of the weights, e.g. 0.999; it is what is scored and exported. Null for none."
        ),
    )
    anchor: float = Field(
        default=0.0,
        ge=0,
        description=(
            "Pull back to the weights that the run starts from, decoupled as weight decay is: each step they come "
            "closer by the learning rate times this. Against forgetting."
        ),
    )
    interpolation: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description=(
            "What is scored and exported lies at this share of the way from the first weights to the tuned ones "
            "(WiSE-FT); training itself does not see it. Against forgetting."
        ),
    )
    precision: Literal["fp32", "bf16", "bf16-pure"] = Field(
        default="fp32",
        description=(
            "fp32; bf16 (autocast: sums that need it are in fp32); or bf16-pure (the whole model in bf16). The "
            "optimizer's weights and the gradients' sums are fp32 in each. There is no fp16: T5 overflows in it."
        ),
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto takes a GPU where there is one.")
    method: Literal["full", "lora"] = Field(
        default="full",
        description=(
            "full: every weight that is not frozen is trained; lora: adapters only (see lora). Embedding rows of "
            "pieces that preparation added to the vocabulary learn in any case."
        ),
    )
    lora: Lora | None = Field(default=None, description="The adapters of method lora; by default rank 16 on q and v.")
    freeze: list[Literal["embeddings", "encoder", "decoder", "head"]] = Field(
        default_factory=list,
        description=(
            "Parts that stay as they are; head is the output layer, which T5 v1.0 shares with its embeddings. With "
            "lora: parts that get no adapters (embeddings and head have none anyhow)."
        ),
    )
    activation_checkpointing: bool = Field(
        default=False, description="Compute each layer again in the backward pass instead of keeping its activations."
    )
    micro_batch_tokens: int | None = Field(
        default=None,
        ge=16,
        description=(
            "Tokens in one forward pass at most; a larger row is cut between its examples. By default a row is taken "
            "as a whole, and halved where the GPU's memory does not hold it."
        ),
    )
    checkpoint_every: int = Field(default=250, ge=1, description="Steps between two checkpoints.")
    keep_checkpoints: int = Field(
        default=3, ge=1, description="How many of the newest checkpoints stay; the best one stays too."
    )
    seed: int = Field(default=17, ge=0, lt=2**63, description="Seed of dropout and of new weights.")
    hang_timeout_seconds: float = Field(
        default=120.0,
        ge=0,
        description=(
            "A worker that gets no further for so long (and for ten times its longest pause so far) writes where it "
            "stands into its log, and the workers begin again from the last checkpoint. 0: never."
        ),
    )
    trackers: list[Literal["tensorboard", "mlflow", "wandb"]] = Field(
        default_factory=list,
        description=(
            "Where each step's numbers go besides the run's own metrics. tensorboard writes into the run's folder "
            "(local storage only); the others are set up by their own environment variables. One that is down costs "
            "no step."
        ),
    )

    @property
    def last_step(self) -> int:
        """Number of steps; known from the start, or once the shards are there (`RunRecord.job`)."""
        if self.steps is None:
            raise ValueError("how many steps these epochs or tokens are is known once the data is prepared")
        return self.steps

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if sum(length is not None for length in (self.steps, self.epochs, self.tokens)) != 1:
            raise ValueError("say how long training takes by one of steps, epochs and tokens")
        return self

    @field_validator("precision", mode="before")
    @classmethod
    def _no_fp16(cls, value: Any) -> Any:
        if value in ("fp16", "float16", "half"):
            raise ValueError(
                "fp16 is refused: T5's activations exceed its largest number (65,504), the loss becomes NaN and "
                "nothing is learned; take bf16 or fp32"
            )
        return value

    @model_validator(mode="after")
    def _lora_by_its_method(self) -> Self:
        if self.lora is not None and self.method != "lora":
            raise ValueError("lora is set, but method is full; set method: lora")
        left = {"encoder", "decoder"} if self.method == "lora" else {"encoder", "decoder", "embeddings", "head"}
        if left <= set(self.freeze):
            raise ValueError("freeze leaves nothing to train")
        return self

    @model_validator(mode="after")
    def _row_holds_an_example(self) -> Self:
        if self.packing and (
            self.packing.source < self.max_input_tokens or self.packing.target < self.max_target_tokens
        ):
            raise ValueError("packing must hold an example: at least maxInputTokens and maxTargetTokens")
        if self.packing and self.packing.source + self.packing.target > self.batch_tokens:
            raise ValueError("batchTokens must hold at least one row")
        return self


class EvaluationSpec(SpecModel):
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
    max_pending_checkpoints: int = Field(
        default=4,
        ge=1,
        description=(
            "Checkpoints that may wait to be scored; where evaluation is slower than training and more wait, "
            "the oldest of them are skipped. The last one is always scored."
        ),
    )
    batch_size: int = Field(default=32, ge=1, description="Examples that an actor answers at once.")
    beams: int = Field(
        default=1, ge=1, le=32, description="1 for greedy answers; more for a beam search, which takes longer."
    )
    select: Literal["best", "last"] = Field(
        default="best",
        description="Which checkpoint becomes the model: best on validation rows (mean of headlines), or last.",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Early stopping: training ends once so many scored checkpoints in a row were no better than the best one."
        ),
    )
    max_forgetting: float | None = Field(
        default=None,
        ge=0,
        description=(
            "A checkpoint is not chosen if a probe's headline score on validation rows is further than this below "
            "the base model's (0.02: two points of 100), unless that holds for every checkpoint."
        ),
    )


class TrainingResources(SpecModel):
    """What training takes."""

    workers: int = Field(default=1, ge=1, description="Training workers.")
    min_workers: int | None = Field(
        default=None,
        ge=1,
        description="Elastic training: begin and go on with this many; with room for more, from the newest checkpoint.",
    )
    gpus: float = Field(default=0, ge=0, description="GPUs of a worker (in a cluster).")
    cpus: float = Field(default=1, gt=0, description="CPUs of a worker.")
    memory: str | None = Field(default=None, description="Memory of a worker, e.g. 24Gi (in a cluster).")
    sharding: Literal["ddp", "fsdp"] = Field(
        default="ddp",
        description=(
            "ddp: every worker holds the whole model. fsdp (FSDP2): parameters, gradients and the optimizer's state "
            "are spread over the workers, for a model that one GPU does not hold. Checkpoints are the same."
        ),
    )

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError("minWorkers must not exceed workers")
        return self


class EvaluationResources(SpecModel):
    """What evaluation takes."""

    actors: int = Field(default=1, ge=1, description="Evaluation actors.")
    gpus: float = Field(default=0, ge=0, description="GPUs of an actor (in a cluster).")
    cpus: float = Field(default=1, gt=0, description="CPUs of an actor.")
    memory: str | None = Field(default=None, description="Memory of an actor, e.g. 8Gi (in a cluster).")


class PreparationResources(SpecModel):
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


class Resources(SpecModel):
    """Workers, actors and what each takes.

    May change between attempts: the result does not depend on it.
    """

    training: TrainingResources = Field(default_factory=TrainingResources, description="Training workers.")
    evaluation: EvaluationResources = Field(default_factory=EvaluationResources, description="Evaluation actors.")
    preparation: PreparationResources = Field(default_factory=PreparationResources, description="Preparation.")


class HeadResources(SpecModel):
    """What the head of the Ray cluster takes. It computes nothing: Ray's own services run there."""

    cpus: float = Field(default=1, gt=0, description="CPUs of the head's pod.")
    memory: str = Field(default="4Gi", description="Memory of the head's pod.")


class ClusterSpec(SpecModel):
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
        default=3, ge=0, le=50, description="Further attempts after a failure that is not the job's or the data's."
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


class Spec(SpecModel):
    """What is to be done."""

    model: str = Field(
        min_length=1,
        description="The model to start from: hub id, local folder, s3:// folder, or run://NAME (an earlier run's).",
        examples=["google/flan-t5-base", "./my-model", "run://samsum"],
    )
    storage: StorageLocation | None = Field(
        default=None,
        description="Where shards and runs live: flag, then job, then RAYTRAIN_STORAGE, then ./raytrain-storage.",
    )
    tasks: list[Task] = Field(min_length=1, max_length=2000, description="The tasks, probes among them.")
    mixture: Mixture = Field(default_factory=Mixture, description="In which shares the tasks are mixed.")
    training: TrainingSpec = Field(description="How the model is trained.")
    evaluation: EvaluationSpec = Field(default_factory=EvaluationSpec, description="How checkpoints are scored.")
    resources: Resources = Field(default_factory=Resources, description="Workers, actors and what each takes.")
    cluster: ClusterSpec | None = Field(default=None, description="Placement in a Kubernetes cluster.")

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
        if unknown := sorted(self.training.task_weights.keys() - trained):
            raise ValueError(f"training.taskWeights names what is no trained task: {', '.join(unknown)}")
        return self

    @model_validator(mode="after")
    def _sharding_fits(self) -> Self:
        if self.resources.training.sharding == "fsdp" and self.training.method == "lora":
            raise ValueError(
                "resources.training.sharding is fsdp, but training.method is lora: adapters leave little to spread; "
                "take sharding: ddp, and for a large model training.precision: bf16-pure"
            )
        return self

    @property
    def trained_tasks(self) -> list[Task]:
        """The tasks that have a share of the mixture."""
        return [t for t in self.tasks if not t.probe]


class FineTuneJob(SpecModel):
    """One job: a multitask fine-tuning of a T5 from raw rows to a before/after report."""

    api_version: Literal["raytrain.dev/v1alpha1"] = Field(description="Version of the job's format.")
    kind: Literal["FineTuneJob"] = Field(description="Always FineTuneJob.")
    metadata: Metadata = Field(description="Name of the run.")
    spec: Spec = Field(description="What is to be done.")
