"""The result of `raytrain data plan`: what training will see of each task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from raytrain.config.job import FineTuneJob


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """One trained task; None stands for what is unknown before the data is prepared."""

    task: str
    part: str
    """Its group of the mixture, `replay`, or empty."""
    rows: int | None
    """Training rows that exist."""
    variants: int
    """Templates that each row is rendered with."""
    share: float | None
    """Share of all examples, 0..1."""
    seen: int | None
    """Examples that training sees."""
    epochs: float | None
    times: tuple[int, int] | None
    """How often a row is seen, least and most; its repeats take the templates in turn."""
    source_tokens: int | None
    """Tokens seen, over all steps."""
    target_tokens: int | None


@dataclass(frozen=True, slots=True)
class PlanReport:
    """The plan of a job; `exact` if its examples were counted, not estimated."""

    run: str
    exact: bool
    basis: str
    steps: int | None
    batch_tokens: int
    """Tokens of a step, at most."""
    rows_per_step: int | None
    row: tuple[int, int] | None
    """Source and target tokens that a packed row holds."""
    examples: int | None
    tokens: int | None
    """Source and target tokens over all steps, without padding."""
    fill: float | None
    """Share of the positions of all packed rows that hold a token, 0..1."""
    tasks: list[TaskPlan]
    notes: list[str] = field(default_factory=list)


def mixture_parts(job: FineTuneJob) -> Mapping[str, str]:
    """Returns the group (or `replay`) of each task that is in one."""
    mixture = job.spec.mixture
    groups = {name: group.name for group in mixture.groups or [] for name in group.tasks}
    return groups | dict.fromkeys(mixture.replay.tasks if mixture.replay else [], "replay")


def plan_notes(tasks: Sequence[TaskPlan]) -> list[str]:
    """Returns what deserves attention.

    Rows never seen, and rows repeated often with few templates.
    """
    notes = []
    for task in tasks:
        if task.times is None or task.rows is None:
            continue
        least, most = task.times
        if least == 0 and task.seen is not None:
            notes.append(f"{task.task}: {max(0, task.rows - task.seen):,} of {task.rows:,} rows are never seen")
        if most > 4 * task.variants:
            notes.append(f"{task.task}: a row is seen {most:,} times with {task.variants} templates")
    return notes
