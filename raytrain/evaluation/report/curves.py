"""Metric segments to curves: attempts joined, redone steps dropped, many steps folded into few points."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from raytrain.evaluation.report.model import LossPoint

POINTS = 80  # a curve in a small chart shows no more


def joined(lines: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One line per step, ascending: where several attempts did a step, the latest attempt's counts.

    What an attempt did beyond the step from which a later one went on is dropped as well.
    """
    by_attempt: dict[int, dict[int, Mapping[str, Any]]] = {}
    for line in lines:
        by_attempt.setdefault(int(line["attempt"]), {})[int(line["step"])] = line
    kept: dict[int, Mapping[str, Any]] = {}
    for attempt in sorted(by_attempt):
        steps = by_attempt[attempt]
        first = min(steps)
        kept = {step: line for step, line in kept.items() if step < first} | steps
    return [kept[step] for step in sorted(kept)]


def total_loss(lines: Sequence[Mapping[str, Any]]) -> list[LossPoint]:
    """Training loss over all tasks."""
    return _fold([(int(x["step"]), float(x["loss"]), float(x.get("target_tokens") or 1)) for x in lines])


def task_loss(lines: Sequence[Mapping[str, Any]], task: str) -> list[LossPoint]:
    """Training loss of one task; steps that held none of its tokens are left out."""
    points = []
    for line in lines:
        loss = (line.get("loss_by_task") or {}).get(task)
        tokens = (line.get("target_tokens_by_task") or {}).get(task, 1)
        if loss is not None and tokens:
            points.append((int(line["step"]), float(loss), float(tokens)))
    return _fold(points)


def _fold(points: list[tuple[int, float, float]]) -> list[LossPoint]:
    """At most POINTS points; each is the token-weighted mean of a stretch, at the last step of it."""
    points = [p for p in points if math.isfinite(p[1])]
    if not points:
        return []
    size = -(-len(points) // POINTS)
    folded = []
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        weight = sum(w for _, _, w in stretch)
        folded.append(LossPoint(step=stretch[-1][0], loss=round(sum(x * w for _, x, w in stretch) / weight, 5)))
    return folded
