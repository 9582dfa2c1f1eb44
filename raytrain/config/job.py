"""The FineTuneJob: tasks, mixture, model, training, evaluation, resources.

These models are the one definition of a job. The JSON Schema, the CRD, `raytrain explain` and the
reference documentation are generated from them. Tasks and mixture are defined in
`data_prep.config`, the storage in `raytrain_core.storage.location`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from data_prep.config import Mixture, Name, Task
from data_prep.tasks.mixture import misfit
from raytrain.config.benchmark import Benchmark
from raytrain.config.pod_fields import Memory, PodTemplate, Toleration
from raytrain.config.serving import ServingSpec
from raytrain_core.config.base import SpecModel, checked_by
from raytrain_core.storage import StorageLocation
from raytrain_core.storage.uri import check_model_uri

API_VERSION = "raytrain.dev/v1alpha1"
KIND = "FineTuneJob"

ObjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
"""Name of another Kubernetes object."""


class Metadata(SpecModel):
    """Name of the run, and Kubernetes metadata."""

    name: Name = Field(description=("Name of the run."))
    namespace: str | None = Field(default=None, description="Kubernetes namespace; unused outside a cluster.")
    labels: dict[str, str] = Field(default_factory=dict, description="Kubernetes labels; unused outside a cluster.")
    annotations: dict[str, str] = Field(
        default_factory=dict, description="Kubernetes annotations; unused outside a cluster."
    )


class PackingShape(SpecModel):
    """Shape of a packed row.

    Several examples share a row; an example is never split across rows.
    """

    source: int = Field(ge=8, le=1 << 20, description="Source tokens in a packed row.")
    target: int = Field(ge=4, le=1 << 20, description="Target tokens in a packed row.")


class Lora(SpecModel):
    """Low-rank adapters on linear layers, merged into the weights for scoring and export."""

    rank: int = Field(default=16, ge=1, le=1024, description="Rank of each adapter.")
    alpha: float = Field(default=32.0, gt=0, description="Scale: an adapter's output is multiplied by alpha / rank.")
    targets: list[Literal["q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo"]] = Field(
        default=["q", "v"],
        min_length=1,
        description=(
            "Linear layers of encoder and decoder that get an adapter: q, k, v, o in every attention; wi and wo "
            "(T5), or wi_0, wi_1 and wo (T5 v1.1, FLAN-T5), in the feed-forward layers."
        ),
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on an adapter's input.")


class TrainingSpec(SpecModel):
    """How the model is trained."""

    steps: int | None = Field(
        default=None,
        ge=0,
        description="Length of training in optimizer steps. Give exactly one of steps, epochs and tokens.",
    )
    epochs: float | None = Field(
        default=None,
        gt=0,
        description=(
            "Length of training in epochs: one epoch draws as many examples as all trained tasks have together. "
            "How often each task is drawn depends on the mixture."
        ),
    )
    tokens: int | None = Field(
        default=None, ge=1, description="Length of training in tokens (source and target, without padding)."
    )
    batch_tokens: int = Field(
        default=65536,
        ge=16,
        description="Maximum number of tokens (source and target) per optimizer step, over all workers.",
    )
    packing: PackingShape | None = Field(
        default=None,
        description=("Shape of the packed rows; by default derived from batchTokens and the lengths of the examples."),
    )
    max_input_tokens: int = Field(
        default=512,
        ge=8,
        le=8192,
        description="Maximum source length in tokens; longer sources are truncated and counted.",
    )
    max_target_tokens: int = Field(
        default=128,
        ge=2,
        le=4096,
        description="Maximum target length in tokens; longer targets are truncated and counted.",
    )
    optimizer: Literal["adafactor", "adamw"] = Field(
        default="adafactor", description="adafactor (as FLAN was trained: no relative step size) or adamw (fused)."
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="Peak learning rate.")
    schedule: Literal["constant", "linear", "cosine", "inverse-square-root"] = Field(
        default="constant",
        description=(
            "Learning rate after warm-up: constant; linear or cosine, decaying to finalLearningRateShare; or "
            "inverse-square-root, the peak times sqrt(warmupSteps / step)."
        ),
    )
    warmup_steps: int = Field(
        default=0, ge=0, description="Number of steps over which the learning rate rises linearly to its peak."
    )
    final_learning_rate_share: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="For linear and cosine: the learning rate at the last step, as a share of the peak.",
    )
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="Decay rates of AdamW's moment estimates.")
    weight_decay: float = Field(default=0.0, ge=0, description="Decoupled weight decay; norms and biases have none.")
    gradient_clip: float | None = Field(
        default=1.0, gt=0, description="Maximum norm of the gradient; null disables clipping."
    )
    dropout: float | None = Field(default=None, ge=0, lt=1, description="Dropout rate; by default the model's own.")
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Share of each target's probability that is spread over the vocabulary."
    )
    z_loss: float = Field(
        default=0.0,
        ge=0,
        description=(
            "Weight of an auxiliary loss: the squared log of the softmax's normalizer (1e-4 in T5's pre-training)."
        ),
    )
    task_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description=(
            "Weight of a task's target tokens in the loss (default 1); the loss is divided by the sum of the "
            "weights. To draw a task more often, change the mixture instead."
        ),
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description=(
            "Decay of an exponential moving average of the weights, e.g. 0.999; the average is what is scored and "
            "exported. Null disables it."
        ),
    )
    anchor: float = Field(
        default=0.0,
        ge=0,
        description=(
            "Decoupled L2 penalty towards the initial weights (L2-SP): each step shrinks every weight's distance "
            "from its initial value by the fraction anchor × learning rate. Reduces forgetting."
        ),
    )
    interpolation: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description=(
            "Scored and exported weights are interpolated between the initial weights (0) and the tuned ones (1), "
            "as in WiSE-FT; training itself is unaffected. Values below 1 reduce forgetting."
        ),
    )
    precision: Literal["auto", "fp32", "bf16", "bf16-pure"] = Field(
        default="fp32",
        description=(
            "fp32; bf16 (autocast, with fp32 where reductions need it); bf16-pure (the whole model in bf16); or auto: "
            "bf16 if every worker's device multiplies bf16 natively, else fp32, as the event of the start says. "
            "The optimizer's weights and the accumulated gradients are always fp32. There is no fp16: T5 "
            "overflows in it."
        ),
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto uses a GPU if there is one.")
    method: Literal["full", "lora"] = Field(
        default="full",
        description=(
            "full trains every weight that is not frozen; lora trains adapters only (see lora). The embeddings of "
            "tokens that preparation adds to the vocabulary are always trained."
        ),
    )
    lora: Lora | None = Field(default=None, description="Adapters for method: lora; by default rank 16 on q and v.")
    freeze: list[Literal["embeddings", "encoder", "decoder", "head"]] = Field(
        default_factory=list,
        description=(
            "Parts of the model that are not trained; head is the output layer, which T5 v1.0 shares with its "
            "embeddings. With lora: parts that get no adapters (embeddings and head never have any)."
        ),
    )
    activation_checkpointing: bool = Field(
        default=False,
        description=(
            "Recompute activations in the backward pass instead of storing them: slower, but needs less memory."
        ),
    )
    micro_batch_tokens: int | None = Field(
        default=None,
        ge=16,
        description=(
            "Maximum number of tokens in one forward pass; larger rows are split between their examples. By "
            "default a row is processed in one pass, and split in half when it does not fit into the GPU's "
            "memory."
        ),
    )
    checkpoint_every: int = Field(default=250, ge=1, description="Number of steps between checkpoints.")
    keep_checkpoints: int = Field(
        default=3, ge=1, description="How many of the newest checkpoints to keep; the best one is always kept."
    )
    seed: int = Field(default=17, ge=0, lt=2**63, description="Seed of dropout and of newly initialized weights.")
    hang_timeout_seconds: float = Field(
        default=120.0,
        ge=0,
        description=(
            "A worker that makes no progress for this long (and for ten times its longest pause so far) writes "
            "its stack traces to its log, and all workers restart from the newest checkpoint. 0 disables the "
            "check."
        ),
    )
    trackers: list[Literal["tensorboard", "mlflow", "wandb"]] = Field(
        default_factory=list,
        description=(
            "Experiment trackers that receive the job, each step's metrics, the scores, the report and the model, in "
            "addition to the run's own files. tensorboard writes into the run's folder (local storage only); the "
            "others are configured by their own environment variables. A tracker that fails never stops training."
        ),
    )
    register_model: str | None = Field(
        default=None,
        min_length=1,
        max_length=250,
        description="Name in MLflow's model registry of which the exported model becomes a version. Needs mlflow in "
        "trackers.",
    )

    @property
    def last_step(self) -> int:
        """Number of steps; ValueError if it depends on unprepared data (see `RunRecord.job`)."""
        if self.steps is None:
            raise ValueError("the number of steps is known only once the data is prepared")
        return self.steps

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if sum(length is not None for length in (self.steps, self.epochs, self.tokens)) != 1:
            raise ValueError("give exactly one of steps, epochs and tokens")
        return self

    @field_validator("precision", mode="before")
    @classmethod
    def _no_fp16(cls, value: Any) -> Any:
        if value in ("fp16", "float16", "half"):
            raise ValueError(
                "fp16 is not supported: T5's activations exceed its largest number (65,504), and the loss becomes "
                "NaN; use bf16 or fp32"
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
    def _registry_of_a_tracker(self) -> Self:
        if self.register_model is not None and "mlflow" not in self.trackers:
            raise ValueError("registerModel is set, but mlflow is not in trackers; add it, or remove registerModel")
        return self

    @model_validator(mode="after")
    def _row_holds_an_example(self) -> Self:
        if self.packing and (
            self.packing.source < self.max_input_tokens or self.packing.target < self.max_target_tokens
        ):
            raise ValueError(
                "packing is too small for an example: it needs at least maxInputTokens and maxTargetTokens"
            )
        if self.packing and self.packing.source + self.packing.target > self.batch_tokens:
            raise ValueError("batchTokens is smaller than one packed row")
        return self


class EvaluationSpec(SpecModel):
    """How models and checkpoints are scored."""

    every: int = Field(
        default=500, ge=1, description="Checkpoints at multiples of this step are scored on validation rows."
    )
    examples_per_task: int = Field(
        default=200, ge=2, description="Number of rows scored per task; the same rows each time."
    )
    max_new_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Maximum length of a generated answer in tokens; by default training.maxTargetTokens.",
    )
    max_pending_checkpoints: int = Field(
        default=4,
        ge=1,
        description=(
            "Maximum number of checkpoints waiting to be scored; when evaluation is slower than training, the "
            "oldest waiting ones are skipped. The last checkpoint is always scored."
        ),
    )
    batch_size: int = Field(
        default=32, ge=1, description="Number of examples that an actor generates at the same time."
    )
    beams: int = Field(
        default=1, ge=1, le=32, description="Number of beams: 1 is greedy decoding; beam search is slower."
    )
    select: Literal["best", "last"] = Field(
        default="best",
        description=(
            "Which checkpoint becomes the model: the best on validation rows (mean of the tasks' primary "
            "metrics), or the last."
        ),
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Early stopping: training ends when this many scored checkpoints in a row have not improved on the "
            "best one."
        ),
    )
    max_forgetting: float | None = Field(
        default=None,
        ge=0,
        description=(
            "Largest tolerated drop of a probe's primary metric on validation rows, compared with the base model "
            "(0.02 is two points of 100). Checkpoints beyond it are not chosen, unless all are beyond it."
        ),
    )


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


def _or_a_name(schema: dict[str, Any]) -> None:
    """Lets editors accept the name of a benchmark in place of its mapping."""
    schema["items"] = {"anyOf": [{"type": "string"}, schema["items"]]}


class Spec(SpecModel):
    """What to train, on which data, and how."""

    model: Annotated[str, checked_by(check_model_uri)] = Field(
        min_length=1,
        description=(
            "The model to start from: a Hugging Face id, if needed with @ and a branch, tag or commit; a local "
            "folder; a prefix in a bucket (s3://, gs://, az://); or run://NAME (the model of an "
            "earlier run). A run goes on with the commit that it started with. "
            "Private models need HF_TOKEN; HF_ENDPOINT names a mirror."
        ),
        examples=["google/flan-t5-base", "google/flan-t5-base@main", "./my-model", "run://samsum"],
    )
    storage: StorageLocation | None = Field(
        default=None,
        description=(
            "Where shards and runs are stored. Order of precedence: the flag --storage, this field, "
            "RAYTRAIN_STORAGE, ./raytrain-storage."
        ),
    )
    tasks: list[Task] = Field(min_length=1, max_length=2000, description="The tasks, including probes.")
    probes: list[Benchmark] = Field(
        default_factory=list,
        max_length=100,
        description=(
            "Standard benchmarks that are scored before and after training, to show what the model forgets; a name "
            "alone, such as mmlu, is short for {benchmark: mmlu}. For probes with rows of your own see tasks[].probe."
        ),
        examples=["[mmlu, bbh, arc_easy]"],
        json_schema_extra=_or_a_name,
    )
    mixture: Mixture = Field(default_factory=Mixture, description="Sampling rates of the tasks.")
    training: TrainingSpec = Field(description="Training settings.")
    evaluation: EvaluationSpec = Field(default_factory=EvaluationSpec, description="Evaluation settings.")
    resources: Resources = Field(
        default_factory=Resources, description="Number of workers and actors, and the resources of each."
    )
    cluster: ClusterSpec | None = Field(default=None, description="Placement in a Kubernetes cluster.")
    serving: ServingSpec | None = Field(
        default=None,
        description=(
            "Serve the tuned model once the run is complete, in a Kubernetes cluster; elsewhere use raytrain serve. It "
            "may be added, changed and removed at any time."
        ),
    )

    @model_validator(mode="after")
    def _tasks_fit(self) -> Self:
        names = [*(t.name for t in self.tasks), *(benchmark.probe for benchmark in self.probes)]
        if double := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"two {'tasks or probes' if self.probes else 'tasks'} are named {', '.join(double)}")
        trained = {t.name for t in self.tasks if not t.probe}
        if not trained:
            raise ValueError("every task is a probe: nothing would be trained")
        if wrong := misfit(self.mixture, trained):
            raise ValueError(wrong)
        if unknown := sorted(self.training.task_weights.keys() - trained):
            raise ValueError(f"training.taskWeights names tasks that are not trained: {', '.join(unknown)}")
        if not any(self.training.task_weights.get(name, 1.0) for name in trained):
            raise ValueError("training.taskWeights is 0 for every trained task: nothing would be learned")
        return self

    @model_validator(mode="after")
    def _sharding_fits(self) -> Self:
        if self.resources.training.sharding == "fsdp" and self.training.method == "lora":
            raise ValueError(
                "resources.training.sharding is fsdp, but training.method is lora: adapters leave little to shard; "
                "use sharding: ddp, and for a large model training.precision: bf16-pure"
            )
        return self

    @property
    def trained_tasks(self) -> list[Task]:
        """The tasks that are trained on: all but probes."""
        return [t for t in self.tasks if not t.probe]


class FineTuneJob(SpecModel):
    """A multitask fine-tuning of a T5 model, from raw rows to a before/after report."""

    api_version: Literal["raytrain.dev/v1alpha1"] = Field(description="Version of the format.")
    kind: Literal["FineTuneJob"] = Field(description="Always FineTuneJob.")
    metadata: Metadata = Field(description="Name of the run.")
    spec: Spec = Field(description="What to train, on which data, and how.")
