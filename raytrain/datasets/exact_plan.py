"""The exact plan of a job whose data is prepared: every example of every packed row is counted."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raytrain.config.job import FineTuneJob
from raytrain.datasets.plan_report import PlanReport, TaskPlan, mixture_parts, plan_notes
from raytrain.datasets.resolve import Prepared
from raytrain.training.data.loader import DataLoader


@dataclass(frozen=True, slots=True)
class _Counts:
    """By task: examples seen, how often a row is seen (least and most), and tokens."""

    seen: NDArray[Any]
    least: NDArray[Any]
    most: NDArray[Any]
    tokens: NDArray[np.float64]
    """Shape (2, tasks): source and target."""


def count_plan(job: FineTuneJob, prepared: Prepared) -> PlanReport:
    """Counts what training will take; a second for some millions of examples."""
    loader = DataLoader.open(job, prepared.shard_set, prepared.store, prepared.cache)
    steps = loader.last_step(job.spec.training)
    rows, shape = steps * loader.rows_per_step, loader.packed_order.shape
    counts = _count(loader, rows)
    tasks = _tasks(job, loader, counts)
    total = int(counts.tokens.sum())
    return PlanReport(
        run=job.metadata.name,
        exact=True,
        basis=f"shard set {prepared.shard_set.digest[:12]}, counted in the plan",
        steps=steps,
        batch_tokens=job.spec.training.batch_tokens,
        rows_per_step=loader.rows_per_step,
        row=(shape.source, shape.target),
        examples=int(counts.seen.sum()),
        tokens=total,
        fill=total / (rows * (shape.source + shape.target)) if rows else None,
        tasks=tasks,
        notes=plan_notes(tasks),
    )


def _count(loader: DataLoader, rows: int) -> _Counts:
    lengths = loader.packed_order.lengths
    first = np.cumsum(lengths.examples) - lengths.examples
    times = np.zeros(int(lengths.examples.sum()), np.int64)
    tokens = np.zeros((2, len(loader.tasks)))
    for placed in loader.packed_order.before(rows):
        np.add.at(times, first[placed["task"]] + placed["example"], 1)
        sides = lengths.at(placed)
        tokens += [np.bincount(placed["task"], weights=side, minlength=len(loader.tasks)) for side in sides]
    least, most = np.minimum.reduceat(times, first), np.maximum.reduceat(times, first)
    return _Counts(np.add.reduceat(times, first), least, most, tokens)


def _tasks(job: FineTuneJob, loader: DataLoader, counts: _Counts) -> list[TaskPlan]:
    lengths, parts = loader.packed_order.lengths, mixture_parts(job)
    return [
        TaskPlan(
            task=name,
            part=parts.get(name, ""),
            rows=int(lengths.examples[i]),
            variants=int(lengths.variants[i]),
            share=loader.packed_order.order.streams[i].rate,
            seen=int(counts.seen[i]),
            epochs=float(counts.seen[i] / lengths.examples[i]),
            times=(int(counts.least[i]), int(counts.most[i])),
            source_tokens=int(counts.tokens[0, i]),
            target_tokens=int(counts.tokens[1, i]),
        )
        for i, name in enumerate(loader.tasks)
    ]
