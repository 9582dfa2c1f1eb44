"""Metrics of ratings and other labels: accuracy, distance, macro F1, rank correlation."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import count

import numpy as np

from data_prep.tasks.labels import RATING_LABELS
from raytrain.evaluation.answers.labels import label_reader
from raytrain.evaluation.answers.numbers import Scale
from raytrain.evaluation.metrics.base import Floats, MeanMetric, Meta, Metric, ratio

_SHORT_SCALE = 20  # labels

_PARSING = (
    "answers v2: a prediction gives the label that it is, or the only one that it mentions outside of a negation, "
    "decoration and lead-in aside; on a scale also as 4 stars, 4/5, four or ****; two labels, or a number that is no "
    "label, give none"
)


def _labels(meta: Meta) -> tuple[str, ...]:
    return tuple(str(label) for label in meta.get("labels") or RATING_LABELS)


def _positions(labels: Sequence[str]) -> Sequence[float]:
    """Positions of the labels on the scale: their numbers, or indices if one has no number."""
    scale = Scale.of([label.strip() for label in labels])
    return range(len(labels)) if scale is None else scale.values


@lru_cache(maxsize=1 << 15)  # each metric of a task reads the same answers
def _read(answer: str, labels: tuple[str, ...]) -> int | None:
    return label_reader(labels).read(answer)


def _distance(prediction: str, target: str, labels: tuple[str, ...]) -> float | None:
    """Distance on the scale, None if prediction or target is not a label."""
    predicted, expected = _read(prediction, labels), _read(target, labels)
    if predicted is None or expected is None:
        return None
    positions = _positions(labels)
    return abs(positions[predicted] - positions[expected])


class _ReadsLabels(Metric):
    """Base of the metrics that read a prediction as a label."""

    def unreadable(self, prediction: str, meta: Meta) -> bool | None:
        """Whether `prediction` names no label."""
        return _read(prediction, _labels(meta)) is None


class _WithinDistance(MeanMetric, _ReadsLabels):
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


class MeanAbsoluteError(MeanMetric, _ReadsLabels):
    """Mean distance between prediction and label on the scale."""

    name = "mae"
    better = "lower"
    scale = "raw"
    columns = ("value", "rows", "largest")

    @property
    def protocol(self) -> str:
        """How a prediction is parsed, and what one that is not a label costs."""
        return f"{_PARSING}; a prediction that is not a label counts as the largest possible distance"

    @property
    def fewest_rows(self) -> int:
        """A distance is bounded by the scale, as a share is."""
        return 6

    def row(self, prediction: str, targets: Sequence[str], meta: Meta) -> tuple[float, ...]:
        """Returns (distance, 1, length of the scale)."""
        positions = _positions(_labels(meta))
        return self.value(prediction, targets, meta), 1.0, max(positions) - min(positions)

    def extremes(self, stats: Floats) -> tuple[Floats, Floats]:
        """From no distance to the length of the scale."""
        largest = float(stats[:, 2].max())
        return np.array([0.0, 1.0, largest]), np.array([largest, 1.0, largest])

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns the distance to the nearest reference."""
        labels = _labels(meta)
        return min(self._distance_or_largest(prediction, target, labels) for target in targets)

    @staticmethod
    def _distance_or_largest(prediction: str, target: str, labels: tuple[str, ...]) -> float:
        distance = _distance(prediction, target, labels)
        if distance is not None:
            return distance
        positions = _positions(labels)
        expected = _read(target, labels)
        if expected is None:  # rows that were not checked: assume the length of the scale
            return max(positions) - min(positions)
        return max(abs(position - positions[expected]) for position in positions)


class NoLabel(MeanMetric, _ReadsLabels):
    """Share of predictions that are not a label."""

    name = "no_label"
    better = "lower"

    @property
    def protocol(self) -> str:
        """How a prediction is parsed."""
        return _PARSING

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Returns 1 or 0."""
        return float(_read(prediction, _labels(meta)) is None)


class LabelTable(_ReadsLabels):
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
        predicted = _read(prediction, labels)
        expected = [x for target in targets if (x := _read(target, labels)) is not None]
        if expected:
            correct = predicted if predicted is not None and predicted in expected else expected[0]
            table[places.index(correct), len(labels) if predicted is None else places.index(predicted)] = 1
        return tuple(table.flat)

    def extremes(self, stats: Floats) -> tuple[Floats, Floats]:
        """Returns the answers that would lower and raise the score of `stats` the most."""
        rows = self._conceivable(stats.shape[1])
        scores = self.combine_many(stats.sum(axis=0) + rows)
        return rows[int(scores.argmin())], rows[int(scores.argmax())]

    def _conceivable(self, cells: int) -> Floats:
        """Returns rows that could come next, shape (n, cells): one a cell, and two spread ones.

        A label that was never seen may turn out all right or all wrong: the spread ones give each
        label its share. Of a long scale only some cells are tried.
        """
        labels = self.tables(np.zeros((1, cells))).shape[1]
        correct = np.arange(labels) * (labels + 2)
        unparsable = np.arange(labels) * (labels + 1) + labels
        mistaken = np.arange(labels) * (labels + 1) + (np.arange(labels) + 1) % labels
        opposite = np.array([labels - 1, (labels - 1) * (labels + 1)])
        places = np.arange(cells) if labels <= _SHORT_SCALE else np.concatenate([correct, unparsable, opposite])
        rows = np.zeros((len(places) + 2, cells))
        rows[np.arange(len(places)), places] = 1
        rows[-2, correct] = rows[-1, mistaken] = 1 / labels
        return rows

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
    scale = "raw"

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


def confusion_matrix(
    predictions: Sequence[str], targets: Sequence[Sequence[str]], metas: Sequence[Meta]
) -> tuple[list[str], list[list[int]]]:
    """Returns the labels in the order of the scale, and rows by correct and by predicted label.

    Shape (labels, labels + 1); the last column counts predictions that name no label. All rows have
    the same labels.
    """
    metric, labels = MacroF1(), _labels(metas[0])
    sums = np.sum([metric.row(*row) for row in zip(predictions, targets, metas, strict=True)], axis=0)
    positions = _positions(labels)
    ordered = [labels[place] for place in sorted(range(len(labels)), key=positions.__getitem__)]
    return ordered, metric.tables(sums[None])[0].astype(int).tolist()
