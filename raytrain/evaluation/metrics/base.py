"""What every metric can do: turn a row into numbers that add up, and sums of those into a score.

A score over many rows is a function of the *sum* of the rows' statistics. So intervals, paired tests and
scores of any subset of rows come from a stored matrix of statistics, without scoring a text twice.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_prep.errors import DataError

Floats = NDArray[np.float64]
Meta = Mapping[str, Any]
Better = Literal["higher", "lower"]


class Metric(ABC):
    """One metric. Scores are fractions (0..1); error measures are in their own unit.

    `columns` names the statistics of a row, in the order in which `stats` gives them.
    """

    name: str
    better: Better = "higher"
    columns: tuple[str, ...]

    @property
    @abstractmethod
    def protocol(self) -> str:
        """Everything that another implementation needs to know to arrive at the same number."""

    @abstractmethod
    def row(self, prediction: str, targets: Sequence[str], meta: Meta) -> tuple[float, ...]:
        """Statistics of one row with at least one target."""

    @abstractmethod
    def combine_many(self, sums: Floats) -> Floats:
        """Scores, shape (n,), of n sums of statistics, shape (n, len(columns))."""

    def stats(self, prediction: str, targets: Sequence[str], meta: Meta) -> tuple[float, ...]:
        """Sufficient statistics of one row; DataError where there is nothing to compare with."""
        if not targets:
            raise DataError(
                f"{self.name}: a row has no reference", hint="Give every validation and test row at least one target."
            )
        return self.row(prediction, targets, meta)

    def stats_many(self, predictions: Sequence[str], targets: Sequence[Sequence[str]], metas: Sequence[Meta]) -> Floats:
        """Statistics of all rows, shape (rows, len(columns))."""
        rows = [self.stats(p, t, m) for p, t, m in zip(predictions, targets, metas, strict=True)]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.columns))

    def combine(self, sums: ArrayLike) -> float:
        """Score of one sum of statistics, shape (len(columns),)."""
        return float(self.combine_many(np.asarray(sums, dtype=np.float64).reshape(1, -1))[0])

    def score_rows(self, stats: Floats) -> Floats:
        """Score of each row taken alone, shape (rows,)."""
        return self.combine_many(stats)

    def score(self, stats: Floats) -> float:
        """Score of all rows together."""
        return self.combine(stats.sum(axis=0))

    def improvement(self, difference: float) -> float:
        """`difference` (after minus before) turned so that positive means better."""
        return difference if self.better == "higher" else -difference


class MeanMetric(Metric):
    """A metric whose score is the mean of a value per row."""

    columns = ("value", "rows")

    @abstractmethod
    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Value of one row."""

    def row(self, prediction: str, targets: Sequence[str], meta: Meta) -> tuple[float, ...]:
        """(value, 1)."""
        return self.value(prediction, targets, meta), 1.0

    def combine_many(self, sums: Floats) -> Floats:
        """Means; not a number over no rows."""
        return ratio(sums[:, 0], sums[:, 1], empty=np.nan)


def ratio(above: Floats, below: Floats, *, empty: float) -> Floats:
    """`above / below`, and `empty` where `below` is 0."""
    safe = np.where(below == 0, 1.0, below)
    return np.where(below == 0, empty, above / safe)
