"""How the model is trained (`spec.training`)."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from raytrain_core.config.base import SpecModel


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
