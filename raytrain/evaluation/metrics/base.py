"""The base of all metrics: a row becomes statistics, and a sum of statistics becomes a score.

Since a score over many rows is a function of the *sum* of their statistics, intervals, paired tests
and scores of any subset of rows follow from a stored matrix of statistics, without scoring a text
twice. A sum may be weighted: its entries need not be whole numbers.
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
    """One metric.

    Scores are fractions from 0 to 1 (`scale` "percent"), or in a unit of their own (`scale` "raw":
    errors, perplexity). `columns` names the statistics of a row, in the order of `stats`; it is
    empty where their number depends on the task (one per pair of labels). `measured` names the
    losses that the metric needs besides the prediction, as keys of a row's meta: "loss" (with
    "loss_tokens") and "choice_losses".
    """

    name: str
    better: Better = "higher"
    scale: Scale = "percent"
    columns: tuple[str, ...]
    measured: tuple[str, ...] = ()

    @property
    def fewest_rows(self) -> int:
        """Fewest rows that a verdict on a difference can rest on (`benchmarks.verdicts`).

        Of five rows even five gains are no evidence: 2 / 2^5 > 5 %.
        """
        return 6 if self.scale == "percent" else 30

    @property
    @abstractmethod
    def protocol(self) -> str:
        """Everything that another implementation needs to know to compute the same score."""

    @abstractmethod
    def row(self, prediction: str, targets: Sequence[str], meta: Meta) -> tuple[float, ...]:
        """Returns the statistics of one row with at least one target."""

    @abstractmethod
    def combine_many(self, sums: Floats) -> Floats:
        """Returns the scores, shape (n,), of n sums of statistics, shape (n, len(columns))."""

    def stats(self, prediction: str, targets: Sequence[str], meta: Meta) -> tuple[float, ...]:
        """Returns the statistics of one row; raises DataError where it has no target."""
        if not targets:
            raise DataError(
                f"{self.name}: a row has no target", hint="Give every validation and test row at least one target."
            )
        return self.row(prediction, targets, meta)

    def stats_many(self, predictions: Sequence[str], targets: Sequence[Sequence[str]], metas: Sequence[Meta]) -> Floats:
        """Returns the statistics of all rows, shape (rows, statistics)."""
        rows = [self.stats(p, t, m) for p, t, m in zip(predictions, targets, metas, strict=True)]
        return np.array(rows, dtype=np.float64).reshape(len(rows), -1 if rows else len(self.columns))

    def combine(self, sums: ArrayLike) -> float:
        """Returns the score of one sum of statistics, shape (statistics,)."""
        return float(self.combine_many(np.asarray(sums, dtype=np.float64).reshape(1, -1))[0])

    def score_rows(self, stats: Floats) -> Floats:
        """Returns the score of each row alone, shape (rows,)."""
        return self.combine_many(stats)

    def score(self, stats: Floats) -> float:
        """Returns the score of all rows together."""
        return self.combine(stats.sum(axis=0))

    def by_label(
        self, predictions: Sequence[str], targets: Sequence[Sequence[str]], metas: Sequence[Meta], stats: Floats
    ) -> dict[str, tuple[int, float]]:
        """Returns rows and score of every correct label; empty where targets are not labels."""
        correct = [
            str(meta.get("label") or (references[0] if meta.get("labels") and references else ""))
            for meta, references in zip(metas, targets, strict=True)
        ]
        labels = np.array(correct, dtype=object)
        return {
            str(label): (int((labels == label).sum()), self.score(stats[labels == label]))
            for label in sorted(set(labels) - {""})
        }

    def unreadable(self, prediction: str, meta: Meta) -> bool | None:
        """Whether `prediction` is nothing that the metric can read; None where every text is."""
        return None

    def extremes(self, stats: Floats) -> tuple[Floats, Floats]:
        """Returns the statistics of the lowest and of the highest scoring row that is conceivable.

        `stats` are the rows that were scored, shape (rows, statistics). Intervals allow for one
        such row that was not seen. Where a metric does not know, those are the extremes of `stats`.
        """
        scores = np.nan_to_num(self.score_rows(stats), nan=0.0)
        return stats[int(scores.argmin())], stats[int(scores.argmax())]

    def improvement(self, difference: float) -> float:
        """Returns `difference` (after minus before), its sign set so that positive is better."""
        return difference if self.better == "higher" else -difference


class MeanMetric(Metric):
    """Base of metrics whose score is the mean of one value per row."""

    columns: tuple[str, ...] = ("value", "rows")

    def extremes(self, stats: Floats) -> tuple[Floats, Floats]:
        """A share is between 0 and 1."""
        if self.scale == "percent":
            return np.array([0.0, 1.0]), np.array([1.0, 1.0])
        return super().extremes(stats)

    @abstractmethod
    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns the value of one row with at least one target."""

    def row(self, prediction: str, targets: Sequence[str], meta: Meta) -> tuple[float, ...]:
        """Returns (value, 1)."""
        return self.value(prediction, targets, meta), 1.0

    def combine_many(self, sums: Floats) -> Floats:
        """Returns the means; NaN where there are no rows."""
        return ratio(sums[:, 0], sums[:, 1], empty=np.nan)


def ratio(numerator: Floats, denominator: Floats, *, empty: float) -> Floats:
    """Returns `numerator / denominator`, and `empty` where the denominator is 0."""
    safe = np.where(denominator == 0, 1.0, denominator)
    return np.where(denominator == 0, empty, numerator / safe)
