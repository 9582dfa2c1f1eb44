"""Row statistics of a metric that may throw: the rows that it throws on are left out, counted and named."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raytrain.evaluation.metrics import Floats, Meta, Metric
from raytrain_core.errors import UserError


@dataclass(frozen=True, slots=True)
class RowStats:
    """Statistics of the rows that could be scored, shape (n, statistics), and which of all rows those are."""

    stats: Floats
    scored: NDArray[np.bool_]
    """Shape (rows,)."""
    reason: str | None
    """Why the first of the others could not be scored."""

    def of_all(self) -> list[tuple[float, ...]]:
        """Statistics of every row, () where there are none."""
        found = iter(self.stats.tolist())
        return [tuple(next(found)) if scored else () for scored in self.scored]


def row_stats(
    metric: Metric, predictions: Sequence[str], targets: Sequence[Sequence[str]], metas: Sequence[Meta]
) -> RowStats:
    """What `metric` makes of each row; never raises because of a row."""
    try:
        return RowStats(metric.stats_many(predictions, targets, metas), np.ones(len(predictions), dtype=bool), None)
    except Exception:
        found, scored, reason = [], np.zeros(len(predictions), dtype=bool), None
        for row, (prediction, several, meta) in enumerate(zip(predictions, targets, metas, strict=True)):
            try:
                found.append(metric.stats_many([prediction], [several], [meta])[0])
                scored[row] = True
            except Exception as error:
                reason = reason or reason_of(error)
        stats = np.array(found) if found else np.zeros((0, len(metric.columns)))
        return RowStats(stats, scored, reason or "it takes its rows one by one only")


def reason_of(error: BaseException) -> str:
    """One line that says what happened."""
    if isinstance(error, UserError):
        return error.message
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
