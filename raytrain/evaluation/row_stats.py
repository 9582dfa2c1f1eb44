"""Row statistics of a metric; rows that it fails on are left out, counted and explained."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raytrain.evaluation.metrics import Floats, Meta, Metric
from raytrain_core.errors import UserError


@dataclass(frozen=True, slots=True)
class RowStats:
    """Statistics of the rows that could be scored, shape (n, statistics), and which they are."""

    stats: Floats
    scored: NDArray[np.bool_]
    """Shape (rows,)."""
    reason: str | None
    """Why the first of the other rows could not be scored."""

    def per_row(self) -> list[tuple[float, ...]]:
        """Returns the statistics of every row, () for a row that could not be scored."""
        stats = iter(self.stats.tolist())
        return [tuple(next(stats)) if scored else () for scored in self.scored]


def compute_row_stats(
    metric: Metric, predictions: Sequence[str], targets: Sequence[Sequence[str]], metas: Sequence[Meta]
) -> RowStats:
    """Returns the statistics of each row; never raises because of a row."""
    try:
        return RowStats(metric.stats_many(predictions, targets, metas), np.ones(len(predictions), dtype=bool), None)
    except Exception:
        return _compute_one_by_one(metric, predictions, targets, metas)


def _compute_one_by_one(
    metric: Metric, predictions: Sequence[str], targets: Sequence[Sequence[str]], metas: Sequence[Meta]
) -> RowStats:
    rows, scored, reason = [], np.zeros(len(predictions), dtype=bool), None
    for row, (prediction, references, meta) in enumerate(zip(predictions, targets, metas, strict=True)):
        try:
            rows.append(metric.stats_many([prediction], [references], [meta])[0])
            scored[row] = True
        except Exception as error:
            reason = reason or reason_of(error)
    stats = np.array(rows) if rows else np.zeros((0, len(metric.columns)))
    return RowStats(stats, scored, reason or "the metric can only score one row at a time")


def reason_of(error: BaseException) -> str:
    """Returns one line that says what happened."""
    if isinstance(error, UserError):
        return error.message
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
