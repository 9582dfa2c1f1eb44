"""The report as data: the one object that the HTML, the Markdown and the JSON are rendered from.

Scores are fractions (0 to 1), except for error measures (`scale: raw`), which keep their own unit.

Free text from jobs, rows, models and logs is untrusted. Fields of the types below make it safe when
the model is constructed: they cut it and replace control characters. Renderers only escape it.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from raytrain.report.safe_text import readable


def _safe(limit: int) -> AfterValidator:
    def make_safe(text: str, info: ValidationInfo) -> str:
        return text if info.mode == "json" else readable(text, limit)  # stored JSON is safe already

    return AfterValidator(make_safe)


Text80 = Annotated[str, _safe(80)]
Text200 = Annotated[str, _safe(200)]
Text300 = Annotated[str, _safe(300)]
Text500 = Annotated[str, _safe(500)]
Text1200 = Annotated[str, _safe(1200)]
Text2000 = Annotated[str, _safe(2000)]
Text200k = Annotated[str, _safe(200_000)]

Verdict = Literal["better", "worse", "noise", "few", "unknown"]
TaskVerdict = Literal["better", "not-above-baseline", "worse", "noise", "few", "unknown"]
BaselineVerdict = Literal["above", "below", "noise", "few", "unknown", "none"]
SampleKind = Literal["gain", "loss", "random"]


class ReportPart(BaseModel):
    """Base of all parts of a report: frozen, without undeclared fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(ReportPart):
    """A value with its 95 % confidence interval, if one is known."""

    value: float
    low: float | None = None
    high: float | None = None


class Difference(ReportPart):
    """The paired difference over rows that both sides answered, with its 95 % interval."""

    value: float = Field(description="Second minus first (after minus before), in the metric's unit.")
    low: float | None = None
    high: float | None = None
    gain: float = Field(description="The same with its sign chosen so that positive is better.")
    rows: int = Field(description="Number of rows that both sides answered.")
    p: float | None = Field(
        default=None, description="Two-sided p-value, corrected for the number of tasks (Holm); null if not tested."
    )
    verdict: Verdict = Field(
        description="better, worse: p is at most 0.05; noise: it is larger; few: too few rows; unknown: not tested."
    )


class Metric(ReportPart):
    """One metric of a task, before and after training."""

    name: str
    label: str
    better: Literal["higher", "lower"]
    scale: Literal["percent", "raw"]
    before: Interval | None = None
    after: Interval | None = None
    protocol: str | None = None
    reference: float | None = Field(
        default=None, description="What the references score against themselves, if that is not perfect."
    )
    rows: int | None = Field(
        default=None, description="Number of rows that could be scored after training (else before)."
    )
    error: Text300 | None = Field(default=None, description="Why some rows could not be scored.")
    unparsable: float | None = Field(
        default=None, description="Share of the answers after training (else before) that this metric could not read."
    )


class Baseline(ReportPart):
    """The score of an answer that needs no model, on the same rows."""

    name: str
    label: str
    value: float
    difference: Difference | None = Field(
        default=None, description="The trained model minus this baseline, on rows that both were scored on."
    )


class Agreement(ReportPart):
    """What people score against each other: each reference against the others of its row."""

    value: float
    low: float
    high: float
    rows: int = Field(description="Number of rows with several references.")
    references: int = Field(description="Most references of a row: the model has the best of so many.")
    against: int = Field(description="Each reference has the best of so many, one less, which is lower.")
    sentence: str


class WithoutTwins(ReportPart):
    """The primary metric without the test rows that training rows of the task repeat, or nearly."""

    rows: int = Field(description="Number of scored rows whose input equals a training row's or overlaps with it.")
    of: int = Field(description="Number of all scored rows.")
    before: Interval | None = None
    after: Interval | None = None
    sentence: str


class CurvePoint(ReportPart):
    """The primary metric of one checkpoint on validation rows."""

    step: int
    value: float
    low: float | None = None
    high: float | None = None


class LossPoint(ReportPart):
    """Mean training loss since the previous point, weighted by target tokens."""

    step: int
    loss: float


class TemplateScore(ReportPart):
    """The primary metric of one instruction template."""

    template: int
    text: Text300 | None = Field(default=None, description="The template, if the job defines it.")
    rows: int
    before: float | None = None
    after: float | None = None


class Slice(ReportPart):
    """The primary metric on part of the rows: prompts of similar length, or one label."""

    name: Text80
    rows: int
    before: float | None = None
    after: float | None = None


class Sample(ReportPart):
    """One row with the answers before and after training."""

    id: Text200
    kind: SampleKind
    template: int
    input: Text2000
    references: list[Text1200]
    before: Text1200 | None
    after: Text1200 | None
    before_score: float | None = None
    after_score: float | None = None


class Confusion(ReportPart):
    """Rows by correct and by predicted label."""

    labels: list[Text80]
    counts: list[list[int]] = Field(
        description="One row for each correct label, one column for each predicted one; the last column: no label."
    )


class Mistake(ReportPart):
    """Rows of one label whose answer was read as another, or as none."""

    label: str
    read_as: str
    rows: int


class EntityType(ReportPart):
    """The entities of one type: exact matches of type and text."""

    name: Text80
    expected: int
    predicted: int
    correct: int
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None


class Forgetting(ReportPart):
    """Forgetting on one task in the metric's unit; positive means forgotten."""

    before_minus_after: float | None = Field(default=None, description="On test rows; the main measure of forgetting.")
    best_minus_now: float | None = Field(
        default=None, description="Best minus last validation score over all checkpoints (Chaudhry et al. 2018)."
    )


class Task(ReportPart):
    """Everything the report says about one task."""

    name: str
    type: str
    type_label: str
    probe: bool
    primary_metric: Metric
    split: str
    rows: int
    scored: int
    difference: Difference | None = None
    sentence: str = Field(description="What happened to this task.")
    verdict: TaskVerdict = Field(
        default="unknown",
        description="better: than before and than the best trivial baseline; not-above-baseline: than before alone.",
    )
    baselines: list[Baseline] = []
    best_baseline: str | None = Field(default=None, description="Name of the baseline with the best score.")
    baseline_verdict: BaselineVerdict = Field(
        default="unknown", description="The trained model against its baselines; none: the task has no baseline."
    )
    agreement: Agreement | None = Field(default=None, description="People against each other; null if not known.")
    without_twins: WithoutTwins | None = Field(
        default=None, description="Scores without rows that have a near-twin in training; null if no row has one."
    )
    one_answer: bool = Field(
        default=False, description="After training, one answer is far more frequent than any reference."
    )
    metrics: list[Metric] = []
    templates: list[TemplateScore] = []
    by_length: list[Slice] = Field(default=[], description="By prompt length in tokens.")
    by_label: list[Slice] = Field(default=[], description="By reference label or entity type.")
    unmade: list[Text500] = Field(default=[], description="Which breakdowns could not be made, and why.")
    confusion: Confusion | None = Field(default=None, description="After training (else before), of tasks with labels.")
    entity_types: list[EntityType] = Field(default=[], description="After training (else before), of NER tasks.")
    split_gap: str | None = Field(
        default=None, description="Said where one model scores clearly differently on validation and on test rows."
    )
    validation: list[CurvePoint] = []
    validation_rows: int | None = None
    loss: list[LossPoint] = []
    forgetting: Forgetting | None = None
    samples: list[Sample] = []
    protocol: dict[str, Text500] = {}
    lengths: dict[str, float] = Field(default={}, description="Statistics of the answers' lengths after training.")


class SplitCard(ReportPart):
    """One prepared split of one task.

    `truncated_*` are fractions of the rows, `unknown_tokens` is a fraction of the tokens.
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


class RowEvents(ReportPart):
    """One kind of what happened to the rows of a task."""

    what: Text200
    effect: Text200 = Field(description="lost, changed, left out, cut, or noted, which changes no row.")
    count: int
    first: list[Text500] = Field(default=[], description="The first three places: file, line and what was there.")


class DataCard(ReportPart):
    """One prepared task."""

    task: str
    probe: bool
    share: float | None = Field(default=None, description="Share of the mixture; null for probes.")
    digest: str
    source: Text500
    bad_rows: int = Field(default=0, description="Number of rows that were skipped as unusable.")
    happened: list[RowEvents] = Field(default=[], description="What happened to the rows on the way to the model.")
    warning: Text2000 = Field(
        default="", description="A sentence if more than 1 % of the rows were lost, changed or cut; else empty."
    )
    splits: list[SplitCard] = []


class Data(ReportPart):
    """The data that the run trained and scored on."""

    digest: str | None = Field(default=None, description="Digest of the shard set.")
    tokenizer: str | None = Field(default=None, description="Digest of the tokenizer.")
    mixture: dict[str, Any] = {}
    limits: dict[str, int] = Field(
        default={}, description="Maximum lengths of input and target in tokens; longer texts are cut."
    )
    note: Text2000 | None = Field(default=None, description="The job's annotation raytrain.dev/data-note.")
    tasks: list[DataCard] = []
    leakage: list[str] = Field(default=[], description="Held-out rows that training saw as well, one sentence each.")


class Training(ReportPart):
    """Totals of the training, and its loss curve."""

    steps: int = 0
    planned_steps: int | None = None
    source_tokens: int = 0
    target_tokens: int = 0
    examples: int = 0
    seconds: float = 0.0
    tokens_per_second: float | None = None
    loss: list[LossPoint] = []
    chosen_step: int | None = Field(default=None, description="Step of the checkpoint that was exported as the model.")


class Event(ReportPart):
    """Something that happened during the run."""

    time: str | None
    attempt: int | None
    kind: Text80
    message: Text500
    warning: bool = False


class Attempt(ReportPart):
    """One start of the run."""

    number: int
    started: str | None = None
    ended: str | None = None
    first_step: int | None = None
    last_step: int | None = Field(default=None, description="Of the steps that no later attempt repeated.")
    host: Text200 | None = None


class Preference(ReportPart):
    """What people chose between the answers before and after training, blinded."""

    task: str | None = Field(description="null: all tasks together.")
    after: int = Field(description="Number of rows on which the answer after training was chosen.")
    before: int
    ties: int = Field(description="Rows without a preference; they count neither way.")
    share: float | None = Field(description="after / (after + before); null if all rows are ties.")
    low: float = Field(description="95 % interval of the share by Clopper and Pearson.")
    high: float
    p: float = Field(description="Two-sided exact sign test against 0.5; of single tasks after Holm's correction.")
    verdict: Verdict


class ReviewResult(ReportPart):
    """A review by people that was read back (`raytrain report --review-choices`)."""

    digest: str = Field(description="Digest of the rows, their answers and their order.")
    seed: int
    rows: int
    alike: int = Field(description="Rows whose answers were alike, so that there was nothing to choose.")
    preferences: list[Preference] = Field(description="All tasks together first, then each task.")


class Summary(ReportPart):
    """The top of the report."""

    lead: Text2000
    sentences: list[Text2000]
    warnings: list[Text2000] = []


class Published(ReportPart):
    """A score that others published for a benchmark, beside this run's scores on its own rows."""

    probe: str
    metric: str
    model: str = Field(description="The model whose score was published.")
    value: float
    before: float | None = Field(default=None, description="This run's model before training.")
    after: float | None = Field(default=None, description="This run's model after training.")
    source: str
    protocol: str = Field(description="How the published score was measured, as far as it is stated.")
    difference: str = Field(description="How the scores of this run were measured otherwise.")


class ReportData(ReportPart):
    """A complete report."""

    format: Literal["raytrain.dev/report/v3"] = "raytrain.dev/report/v3"
    run: str
    uri: str = Field(description="The run's folder in storage, without credentials.")
    model: Text300
    model_digest: str | None = None
    phase: str | None = None
    started: str | None = None
    finished: str | None = None
    summary: Summary
    tasks: list[Task]
    average_forgetting: float | None = Field(
        default=None,
        description="Mean of best_minus_now over the probes that have a validation curve and a percent scale.",
    )
    backward_transfer: float | None = Field(
        default=None, description="Mean of after minus before over the probes with a percent scale."
    )
    published: list[Published] = Field(default=[], description="Published scores of the benchmarks that were scored.")
    reviews: list[ReviewResult] = []
    training: Training
    data: Data
    versions: dict[str, Text200] = {}
    job_yaml: Text200k = Field(description="The resolved job, as YAML.")
    identity: str | None = None
    attempts: list[Attempt] = []
    events: list[Event] = []
    missing: list[Text500] = Field(
        default=[], description="Parts of the run that do not exist (yet) or are damaged, one sentence each."
    )

    @property
    def trained(self) -> list[Task]:
        """The tasks that the run trained on."""
        return [t for t in self.tasks if not t.probe]

    @property
    def probes(self) -> list[Task]:
        """The tasks that the run only scored."""
        return [t for t in self.tasks if t.probe]

    @property
    def steps(self) -> list[int]:
        """Steps of all scored checkpoints, ascending."""
        return sorted({p.step for t in self.tasks for p in t.validation})
