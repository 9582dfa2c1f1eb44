"""Metric lines to curves: many steps folded into few points."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from raytrain.report.model import LossPoint

POINTS = 80  # a curve in a small chart shows no more


def total_loss(lines: Sequence[Mapping[str, Any]]) -> list[LossPoint]:
    """Training loss over all tasks."""
    return _fold([(x["step"], x["loss"], x.get("target_tokens") or 1) for x in lines if x.get("loss") is not None])


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
