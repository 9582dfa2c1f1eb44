"""The result of `raytrain check`; None stands for what is unknown."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TaskCheck:
    """What is known of one task."""

    name: str
    type: str
    probe: bool
    source: str
    rows: dict[str, int] | None
    """Rows by split, as they will be divided."""
    note: str
    """Why rows are unknown, or how they are divided."""
    bad_rows: int
    events: list[str]
    """What happened to the rows read, a line for each kind."""
    share: float | None
    """Share of the mixture, 0..1; None for probes."""
    epochs: float | None
    """How often each training row is seen."""
    input_tokens: float | None
    target_tokens: float | None
    cut: float | None
    """Share of the sampled rows that are truncated, 0..1."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What the job would do."""

    run: str
    storage: str
    model: str
    parameters: int | None
    model_note: str
    tasks: list[TaskCheck]
    steps: int
    tokens_per_step: int
    """Source and target tokens, at most."""
    tokens: int
    row: tuple[int, int] | None
    """Source and target tokens of a packed row."""
    lengths_basis: str
    checkpoints: int
    scored_checkpoints: int
    memory_bytes: int | None
    """Of each worker at the peak of a step."""
    memory_parts: dict[str, int]
    """Of that, by what it is for; empty where only weights and what belongs to them are known."""
    memory_note: str
    seconds: float | None
    seconds_basis: str
    ignored: list[str]
    benchmarks: list[str]
    """What the probe of each benchmark would score, a line for each."""
    warnings: list[str]
    in_cluster: list[str] = field(default_factory=list)
    """With a namespace: what the job would take there, a line each."""
