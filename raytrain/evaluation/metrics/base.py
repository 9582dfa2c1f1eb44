"""What every metric can do: turn a row into numbers that add up, and sums of those into a score.

A score over many rows is a function of the *sum* of the rows' statistics. So intervals, paired
tests and scores of any subset of rows come from a stored matrix of statistics, without scoring a
text twice.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raytrain_core.errors import DataError

Floats = NDArray[np.float64]
Meta = Mapping[str, Any]
Better = Literal["higher", "lower"]
Scale = Literal["percent", "raw"]


class Metric(ABC):
    """One metric. Scores are fractions (`scale` percent: 0..1), or in a unit of their own (`raw`: errors, perplexity).

    `columns` names the statistics of a row, in the order in which `stats` gives them; it is empty
    where their number depends on the task (one for each pair of labels). `measured` names what the
    model has to be asked besides its answer, as keys of a row's meta: "loss" (with "loss_tokens")
    and "choice_losses".
    """

    name: str
    better: Better = "higher"
    scale: Scale = "percent"
    columns: tuple[str, ...]
    measured: tuple[str, ...] = ()

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
        """Statistics of all rows, shape (rows, statistics)."""
        rows = [self.stats(p, t, m) for p, t, m in zip(predictions, targets, metas, strict=True)]
        return np.array(rows, dtype=np.float64).reshape(len(rows), -1 if rows else len(self.columns))

    def combine(self, sums: ArrayLike) -> float:
        """Score of one sum of statistics, shape (statistics,)."""
        return float(self.combine_many(np.asarray(sums, dtype=np.float64).reshape(1, -1))[0])

    def score_rows(self, stats: Floats) -> Floats:
        """Score of each row taken alone, shape (rows,)."""
        return self.combine_many(stats)

    def score(self, stats: Floats) -> float:
        """Score of all rows together."""
        return self.combine(stats.sum(axis=0))

    def by_label(
        self, predictions: Sequence[str], targets: Sequence[Sequence[str]], metas: Sequence[Meta], stats: Floats
    ) -> dict[str, tuple[int, float]]:
        """Rows and score of every label: the rows whose right answer it is; empty where answers are no labels."""
        right = [
            str(meta.get("label") or (several[0] if meta.get("labels") and several else ""))
            for meta, several in zip(metas, targets, strict=True)
        ]
        labels = np.array(right, dtype=object)
        return {
            str(label): (int((labels == label).sum()), self.score(stats[labels == label]))
            for label in sorted(set(labels) - {""})
        }

    def of_references(self, targets: Sequence[Sequence[str]], metas: Sequence[Meta]) -> float | None:
        """What the references themselves score; None where that is no question (they are right by definition)."""
        return None

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
