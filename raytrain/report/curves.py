"""Loss curves from the metrics of a run: many steps averaged into few points."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from raytrain.report.model import LossPoint

POINTS = 80  # more cannot be seen in a small chart


def total_loss(lines: Sequence[Mapping[str, Any]]) -> list[LossPoint]:
    """Returns the training loss over all tasks."""
    return _average([(x["step"], x["loss"], x.get("target_tokens") or 1) for x in lines if x.get("loss") is not None])


def task_loss(lines: Sequence[Mapping[str, Any]], task: str) -> list[LossPoint]:
    """Returns the training loss of one task; steps without tokens of the task are left out."""
    points = []
    for line in lines:
        loss = (line.get("loss_by_task") or {}).get(task)
        tokens = (line.get("target_tokens_by_task") or {}).get(task, 1)
        if loss is not None and tokens:
            points.append((int(line["step"]), float(loss), float(tokens)))
    return _average(points)


def _average(points: list[tuple[int, float, float]]) -> list[LossPoint]:
    """Averages into at most POINTS token-weighted means, each at the last step it covers."""
    points = [p for p in points if math.isfinite(p[1])]
    if not points:
        return []
    size = -(-len(points) // POINTS)
    averaged = []
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        weight = sum(w for _, _, w in stretch)
        averaged.append(LossPoint(step=stretch[-1][0], loss=round(sum(x * w for _, x, w in stretch) / weight, 5)))
    return averaged
