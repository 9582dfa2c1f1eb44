"""What a report says, as data: the one object that the HTML, the Markdown and the JSON are rendered from.

Scores are fractions (0..1) except those of error measures (`scale: raw`), which stay in their own
unit. Texts are already cut and freed of control characters (`texts.readable`), but not escaped:
that is the renderers' duty.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["better", "worse", "noise", "unknown"]
SampleKind = Literal["gain", "loss", "random"]


class Part(BaseModel):
    """Base of all parts of a report: frozen, nothing but what is declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(Part):
    """A value with its confidence interval, where one is known."""

    value: float
    low: float | None = None
    high: float | None = None


class Difference(Part):
    """After minus before over the same rows, paired, with its interval."""

    value: float = Field(description="After minus before, in the metric's unit.")
    low: float | None = None
    high: float | None = None
    gain: float = Field(description="The same, turned so that positive is better.")
    rows: int = Field(description="Rows that both stages answered.")
    verdict: Verdict = Field(description="noise: the interval holds zero.")


class Metric(Part):
    """One metric of a task before and after."""

    name: str
    label: str
    better: Literal["higher", "lower"]
    scale: Literal["percent", "raw"]
    before: Interval | None = None
    after: Interval | None = None
    protocol: str | None = None
    reference: float | None = Field(default=None, description="What the references score, where that is a question.")
    rows: int | None = Field(default=None, description="Rows that it could score, after training (else before).")
    error: str | None = Field(default=None, description="Why it could not score all of them.")


class Baseline(Part):
    """What a trivial answer would score on the same rows."""

    name: str
    label: str
    value: float
    to_beat: bool = Field(default=True, description="False for people against each other: a height, not a hurdle.")


class CurvePoint(Part):
    """The headline of one checkpoint, on validation rows."""

    step: int
    value: float
    low: float | None = None
    high: float | None = None


class LossPoint(Part):
    """Training loss around one step: the mean over the steps since the point before, weighted by target tokens."""

    step: int
    loss: float


class TemplateScore(Part):
    """The headline for one wording of the instruction."""

    template: int
    text: str | None = Field(default=None, description="The wording, where the job holds it.")
    rows: int
    before: float | None = None
    after: float | None = None


class Slice(Part):
    """The headline for a part of the rows: prompts of a length, or one label."""

    name: str
    rows: int
    before: float | None = None
    after: float | None = None


class Sample(Part):
    """One row with its answers before and after."""

    id: str
    kind: SampleKind
    template: int
    input: str
    references: list[str]
    before: str | None
    after: str | None
    before_score: float | None = None
    after_score: float | None = None


class Forgetting(Part):
    """The figures of the continual-learning literature for one task, in the metric's unit, positive = forgotten."""

    before_minus_after: float | None = Field(default=None, description="Test rows; the headline of forgetting.")
    best_minus_now: float | None = Field(
        default=None, description="Best minus last over the checkpoints' validation scores (Chaudhry et al. 2018)."
    )


class Task(Part):
    """Everything about one task."""

    name: str
    type: str
    type_label: str
    probe: bool
    primary_metric: Metric
    split: str
    rows: int
    scored: int
    difference: Difference | None = None
    sentence: str = Field(description="What happened to this task, in plain words.")
    baselines: list[Baseline] = []
    below_baseline: str | None = Field(default=None, description="Which baseline the score after training is below.")
    one_answer: bool = Field(
        default=False, description="One answer is given to many more rows after training than one reference stands for."
    )
    metrics: list[Metric] = []
    templates: list[TemplateScore] = []
    by_length: list[Slice] = Field(default=[], description="By tokens of the prompt.")
    by_label: list[Slice] = Field(default=[], description="By the right label, or the type of an entity.")
    validation: list[CurvePoint] = []
    validation_rows: int | None = None
    loss: list[LossPoint] = []
    forgetting: Forgetting | None = None
    samples: list[Sample] = []
    protocol: dict[str, str] = {}
    lengths: dict[str, float] = Field(default={}, description="Of the answers after training.")


class SplitCard(Part):
    """One split of one task, as prepared.

    Shares are fractions of the rows (unknown: of the tokens).
    """

    split: str
    examples: int
    templates: int
    source_tokens_mean: float | None = None
    source_tokens_max: int | None = None
    target_tokens_mean: float | None = None
    target_tokens_max: int | None = None
    truncated_sources: float | None = None
    truncated_targets: float | None = None
    unknown_tokens: float | None = None
    duplicates: int | None = None


class DataCard(Part):
    """One task as prepared."""

    task: str
    probe: bool
    share: float | None = Field(default=None, description="Share of the mixture; probes have none.")
    digest: str
    source: str
    bad_rows: int = Field(default=0, description="Rows that were left out because they were not usable.")
    splits: list[SplitCard] = []


class Data(Part):
    """What was trained and scored on."""

    digest: str | None = Field(default=None, description="Of the shard set.")
    tokenizer: str | None = Field(default=None, description="Digest of the tokenizer.")
    mixture: dict[str, Any] = {}
    limits: dict[str, int] = Field(default={}, description="Longest input and target in tokens; the rest is cut.")
    note: str | None = Field(default=None, description="The annotation raytrain.dev/data-note of the job.")
    tasks: list[DataCard] = []
    leakage: list[str] = Field(default=[], description="Held-out rows that training saw too, one sentence each.")


class Training(Part):
    """How the training went."""

    steps: int = 0
    planned_steps: int | None = None
    source_tokens: int = 0
    target_tokens: int = 0
    examples: int = 0
    seconds: float = 0.0
    tokens_per_second: float | None = None
    loss: list[LossPoint] = []
    chosen_step: int | None = Field(default=None, description="The checkpoint that became the model.")


class Event(Part):
    """Something that happened, in plain words."""

    time: str | None
    attempt: int | None
    kind: str
    message: str
    trouble: bool = False


class Attempt(Part):
    """One start of the run."""

    number: int
    started: str | None = None
    ended: str | None = None
    first_step: int | None = None
    last_step: int | None = Field(default=None, description="Of the steps that no later attempt did again.")
    host: str | None = None


class Summary(Part):
    """The first thing a reader sees."""

    lead: str
    sentences: list[str]
    warnings: list[str] = []


class ReportData(Part):
    """A whole report."""

    format: Literal["raytrain.dev/report/v1"] = "raytrain.dev/report/v1"
    run: str
    uri: str = Field(description="Where the run lies (no credentials).")
    model: str
    model_digest: str | None = None
    phase: str | None = None
    started: str | None = None
    finished: str | None = None
    summary: Summary
    tasks: list[Task]
    average_forgetting: float | None = Field(
        default=None,
        description="Mean of best_minus_now over all tasks with a validation curve and a fraction as score.",
    )
    backward_transfer: float | None = Field(
        default=None, description="Mean of after minus before over the probes whose score is a fraction."
    )
    training: Training
    data: Data
    versions: dict[str, str] = {}
    job_yaml: str = Field(description="The resolved job, as YAML.")
    identity: str | None = None
    attempts: list[Attempt] = []
    events: list[Event] = []
    missing: list[str] = Field(default=[], description="What the run has not left (yet), one sentence each.")

    @property
    def trained(self) -> list[Task]:
        """The tasks that were trained on."""
        return [t for t in self.tasks if not t.probe]

    @property
    def probes(self) -> list[Task]:
        """The tasks that were only scored."""
        return [t for t in self.tasks if t.probe]

    @property
    def steps(self) -> list[int]:
        """Steps of all scored checkpoints, ascending."""
        return sorted({p.step for t in self.tasks for p in t.validation})
