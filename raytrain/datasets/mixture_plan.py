"""What training will see of each task: shares, epochs, repeats and tokens, counted in the plan itself."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_prep.text.templates import templates_of
from raytrain.check import check
from raytrain.config.job import FineTuneJob
from raytrain.datasets import resolve as prepared
from raytrain.training.data.loader import DataLoader


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """One trained task; None is what is unknown before the data is prepared."""

    task: str
    part: str
    """The group of the mixture that it is in, `replay`, or nothing."""
    rows: int | None
    """Training rows that there are."""
    variants: int
    """Wordings of each row."""
    share: float | None
    """Share of all examples, 0..1."""
    seen: int | None
    """Examples that training sees."""
    epochs: float | None
    times: tuple[int, int] | None
    """How often a row is seen, the least and the most; its repeats take the wordings in turn."""
    source_tokens: int | None
    """Tokens seen, over all steps."""
    target_tokens: int | None


@dataclass(frozen=True, slots=True)
class PlanReport:
    """The whole plan. `exact`: counted in the plan, not estimated."""

    run: str
    exact: bool
    basis: str
    steps: int | None
    batch_tokens: int
    """Tokens of a step, at most."""
    rows_per_step: int | None
    row: tuple[int, int] | None
    """Source and target tokens that a row holds."""
    examples: int | None
    tokens: int | None
    """Source and target tokens over all steps, without padding."""
    fill: float | None
    """Tokens among the places of all rows, 0..1."""
    tasks: list[TaskPlan]
    notes: list[str] = field(default_factory=list)


def plan(job: FineTuneJob, *, storage: str | None = None, base_folder: Path = Path()) -> PlanReport:
    """Exact if the job's data is prepared; else estimated from the sources, as far as these can be read here."""
    found = prepared.of_job(job, storage=storage, base_folder=base_folder)
    if found is None:
        return _estimated(job, storage, base_folder)
    loader = DataLoader.open(job, found.shard_set, found.store, found.cache)
    return of_loader(job, loader, basis=f"shard set {found.shard_set.digest[:12]}, counted in the plan")


def of_loader(job: FineTuneJob, loader: DataLoader, *, basis: str) -> PlanReport:
    """Count every example of every row that training will take; a second for some millions of examples."""
    steps = loader.last_step(job.spec.training)
    lengths, rows = loader.packed_order.lengths, steps * loader.rows_per_step
    first = np.cumsum(lengths.examples) - lengths.examples
    times = np.zeros(int(lengths.examples.sum()), np.int64)
    tokens = np.zeros((2, len(loader.tasks)))
    for placed in loader.packed_order.before(rows):
        np.add.at(times, first[placed["task"]] + placed["example"], 1)
        sides = lengths.at(placed)
        tokens += [np.bincount(placed["task"], weights=side, minlength=len(loader.tasks)) for side in sides]
    seen = np.add.reduceat(times, first)
    least, most = np.minimum.reduceat(times, first), np.maximum.reduceat(times, first)
    shape, parts = loader.packed_order.shape, _parts(job)
    tasks = [
        TaskPlan(
            task=name,
            part=parts.get(name, ""),
            rows=int(lengths.examples[i]),
            variants=int(lengths.variants[i]),
            share=loader.packed_order.order.streams[i].rate,
            seen=int(seen[i]),
            epochs=float(seen[i] / lengths.examples[i]),
            times=(int(least[i]), int(most[i])),
            source_tokens=int(tokens[0, i]),
            target_tokens=int(tokens[1, i]),
        )
        for i, name in enumerate(loader.tasks)
    ]
    total = int(tokens.sum())
    return PlanReport(
        run=job.metadata.name,
        exact=True,
        basis=basis,
        steps=steps,
        batch_tokens=job.spec.training.batch_tokens,
        rows_per_step=loader.rows_per_step,
        row=(shape.source, shape.target),
        examples=int(seen.sum()),
        tokens=total,
        fill=total / (rows * (shape.source + shape.target)) if rows else None,
        tasks=tasks,
        notes=_notes(tasks),
    )


def _estimated(job: FineTuneJob, storage: str | None, base_folder: Path) -> PlanReport:
    """From the counts and mean lengths that `raytrain check` finds in the sources."""
    checked = check(job, storage=storage, base_folder=base_folder)
    variants = {task.name: min(task.templates_per_example, len(templates_of(task))) for task in job.spec.tasks}
    parts, tasks = _parts(job), list[TaskPlan]()
    for task in checked.tasks:
        if task.probe:
            continue
        rows = (task.rows or {}).get("train")
        seen = None if rows is None or task.epochs is None else round(task.epochs * rows)
        means = (task.input_tokens, task.target_tokens)
        source, target = (None if seen is None or mean is None else round(seen * mean) for mean in means)
        tasks.append(
            TaskPlan(
                task=task.name,
                part=parts.get(task.name, ""),
                rows=rows,
                variants=variants[task.name],
                share=task.share,
                seen=seen,
                epochs=task.epochs,
                times=None if task.epochs is None else (math.floor(task.epochs), math.ceil(task.epochs)),
                source_tokens=source,
                target_tokens=target,
            )
        )
    sums = [
        None if None in numbers else sum(n for n in numbers if n is not None)
        for numbers in ([t.seen for t in tasks], [t.source_tokens for t in tasks], [t.target_tokens for t in tasks])
    ]
    return PlanReport(
        run=checked.run,
        exact=False,
        basis="estimated from the sources, as if rows were full; `raytrain run` prepares them, then it is exact",
        steps=checked.steps if checked.steps or job.spec.training.steps == 0 else None,
        batch_tokens=job.spec.training.batch_tokens,
        rows_per_step=None if checked.row is None else checked.tokens_per_step // sum(checked.row),
        row=checked.row,
        examples=sums[0],
        tokens=None if sums[1] is None or sums[2] is None else sums[1] + sums[2],
        fill=None,
        tasks=tasks,
        notes=[
            *(f"{task.name}: {task.note}" for task in checked.tasks if task.rows is None and not task.probe),
            *_notes(tasks),
        ],
    )


def _parts(job: FineTuneJob) -> Mapping[str, str]:
    """In which part of the mixture a task is, for those that are in a named one."""
    mixture = job.spec.mixture
    found = {name: group.name for group in mixture.groups or [] for name in group.tasks}
    return found | dict.fromkeys(mixture.replay.tasks if mixture.replay else [], "replay")


def _notes(tasks: list[TaskPlan]) -> list[str]:
    """What deserves a look: rows that are never seen, and rows that are seen in one wording again and again."""
    found = []
    for task in tasks:
        if task.times is None or task.rows is None:
            continue
        if task.times[0] == 0 and task.seen is not None:
            found.append(f"{task.task}: {max(0, task.rows - task.seen):,} of {task.rows:,} rows are never seen")
        if task.times[1] > 4 * task.variants:
            found.append(f"{task.task}: a row is seen {task.times[1]:,} times in {task.variants} wordings")
    return found
