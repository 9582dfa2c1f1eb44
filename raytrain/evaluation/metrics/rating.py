"""Metrics of ratings and other labels: accuracy, distance, macro F1, rank correlation."""

import re
from collections.abc import Sequence
from itertools import count

import numpy as np

from data_prep.tasks.labels import RATING_LABELS
from raytrain.evaluation.metrics.base import Floats, MeanMetric, Meta, Metric, ratio

_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")

_PARSING = (
    "a prediction gives the label that it equals (ignoring case and surrounding white space), "
    "else the label that equals the first number in it"
)


def _labels(meta: Meta) -> tuple[str, ...]:
    return tuple(str(label) for label in meta.get("labels") or RATING_LABELS)


def _positions(labels: Sequence[str]) -> list[float]:
    """Positions of the labels on the scale: their numbers, or indices if one is not a number."""
    if all(_NUMBER.fullmatch(label.strip()) for label in labels):
        return [float(label) for label in labels]
    return [float(place) for place in range(len(labels))]


def parse_rating(answer: str, labels: Sequence[str]) -> int | None:
    """Returns the index of the label that `answer` gives, or None.

    For labels 1 to 5, "4", " 4.0 " and "4 stars" give 4; "7" and "" give none.
    """
    folded = answer.strip().casefold()
    for index, label in enumerate(labels):
        if label.strip().casefold() == folded:
            return index
    if number := _NUMBER.search(answer):
        for index, label in enumerate(labels):
            if _NUMBER.fullmatch(label.strip()) and float(label) == float(number[0]):
                return index
    return None


def _distance(prediction: str, target: str, labels: Sequence[str]) -> float | None:
    """Distance on the scale, None if prediction or target is not a label."""
    predicted, expected = parse_rating(prediction, labels), parse_rating(target, labels)
    if predicted is None or expected is None:
        return None
    positions = _positions(labels)
    return abs(positions[predicted] - positions[expected])


class _WithinDistance(MeanMetric):
    """Share of predictions at most `max_distance` away from a reference."""

    max_distance: float

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns 1 or 0; a prediction is correct if it is correct for any reference."""
        labels = _labels(meta)
        distances = [_distance(prediction, target, labels) for target in targets]
        return float(any(d is not None and d <= self.max_distance for d in distances))


class Accuracy(_WithinDistance):
    """Share of predictions that are the correct label."""

    name = "accuracy"
    max_distance = 0

    @property
    def protocol(self) -> str:
        """How a prediction is parsed."""
        return f"{_PARSING}; a prediction that is not a label is wrong"


class WithinOne(_WithinDistance):
    """Share of predictions at most one step of the scale away (adjacent accuracy)."""

    name = "within_one"
    max_distance = 1

    @property
    def protocol(self) -> str:
        """How a prediction is parsed, and what a step is."""
        return (
            f"{_PARSING}; at most 1 away (for labels that are not numbers: one place in their list); "
            "a prediction that is not a label is wrong"
        )


class MeanAbsoluteError(MeanMetric):
    """Mean distance between prediction and label on the scale."""

    name = "mae"
    better = "lower"
    scale = "raw"

    @property
    def protocol(self) -> str:
        """How a prediction is parsed, and what one that is not a label costs."""
        return f"{_PARSING}; a prediction that is not a label counts as the largest possible distance"

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns the distance to the nearest reference."""
        labels = _labels(meta)
        return min(self._distance_or_largest(prediction, target, labels) for target in targets)

    @staticmethod
    def _distance_or_largest(prediction: str, target: str, labels: Sequence[str]) -> float:
        distance = _distance(prediction, target, labels)
        if distance is not None:
            return distance
        positions = _positions(labels)
        expected = parse_rating(target, labels)
        if expected is None:  # rows that were not checked: assume the length of the scale
            return max(positions) - min(positions)
        return max(abs(position - positions[expected]) for position in positions)


class NoLabel(MeanMetric):
    """Share of predictions that are not a label."""

    name = "no_label"
    better = "lower"

    @property
    def protocol(self) -> str:
        """How a prediction is parsed."""
        return _PARSING

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns 1 or 0."""
        return float(parse_rating(prediction, _labels(meta)) is None)


class LabelTable(Metric):
    """Base of metrics computed from the confusion matrix of labels.

    A row's statistics are one cell of that matrix, shape (labels, labels + 1) flattened: correct
    label by predicted label, labels in the order of the scale; the last column is a prediction that
    is not a label. A target that is not a label is not counted.
    """

    columns = ()

    def row(self, prediction: str, targets: Sequence[str], meta: Meta) -> tuple[float, ...]:
        """Returns the matrix of one row, for the reference that was predicted, else the first."""
        labels = _labels(meta)
        positions = _positions(labels)
        places = sorted(range(len(labels)), key=positions.__getitem__)
        table = np.zeros((len(labels), len(labels) + 1))
        predicted = parse_rating(prediction, labels)
        expected = [x for target in targets if (x := parse_rating(target, labels)) is not None]
        if expected:
            correct = predicted if predicted is not None and predicted in expected else expected[0]
            table[places.index(correct), len(labels) if predicted is None else places.index(predicted)] = 1
        return tuple(table.flat)

    @staticmethod
    def tables(sums: Floats) -> Floats:
        """Returns sums of statistics as matrices, shape (n, labels, labels + 1)."""
        labels = next(n for n in count(1) if n * (n + 1) >= sums.shape[1])
        return sums.reshape(len(sums), labels, labels + 1)


class MacroF1(LabelTable):
    """Unweighted mean of the F1 of each label: rare labels count as much as frequent ones.

    The same as scikit-learn's `f1_score(average="macro")`.
    """

    name = "macro_f1"

    @property
    def protocol(self) -> str:
        """Which labels count."""
        return f"{_PARSING}; unweighted mean of F1 over the labels that occur in references or predictions"

    def combine_many(self, sums: Floats) -> Floats:
        """Mean of 2 correct / (predicted + expected)."""
        tables = self.tables(sums)
        total = tables.sum(axis=2) + tables[:, :, :-1].sum(axis=1)
        correct = np.einsum("nii->ni", tables[:, :, :-1])
        return ratio(ratio(2 * correct, total, empty=0.0).sum(axis=1), (total > 0).sum(axis=1).astype(float), empty=0.0)


class Spearman(LabelTable):
    """Rank correlation of predictions and references, ties at their mean rank (Spearman 1904)."""

    name = "spearman"

    @property
    def protocol(self) -> str:
        """How ties and predictions without a rank are treated."""
        return (
            f"{_PARSING}; ties at their mean rank; predictions that are not a label are left out; "
            "0 where all predictions or all references are the same"
        )

    def combine_many(self, sums: Floats) -> Floats:
        """Pearson's correlation of the ranks, computed from the confusion matrix alone."""
        tables = self.tables(sums)[:, :, :-1]
        expected, predicted = tables.sum(axis=2), tables.sum(axis=1)
        first, second = _centred_ranks(expected), _centred_ranks(predicted)
        covariance = np.einsum("ni,nij,nj->n", first, tables, second)
        spread = np.sqrt((expected * first**2).sum(axis=1) * (predicted * second**2).sum(axis=1))
        return ratio(covariance, spread, empty=0.0)


def _centred_ranks(counts: Floats) -> Floats:
    """Mean rank of each label minus the mean of all ranks, shape (n, labels), from label counts."""
    before = np.cumsum(counts, axis=1) - counts
    centred: Floats = before + (counts + 1) / 2 - (counts.sum(axis=1, keepdims=True) + 1) / 2
    return centred
