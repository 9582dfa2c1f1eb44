"""Metrics of ratings: is the answer the right label, how far off is it, does it rise where the label rises."""

import re
from collections.abc import Sequence
from itertools import count

import numpy as np

from data_prep.tasks.task_types import RATING_LABELS
from raytrain.evaluation.metrics.base import Floats, MeanMetric, Meta, Metric, ratio

_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")

_PARSING = (
    "the answer is the label it equals (case and surrounding white space aside), "
    "else the label that equals the first number in it"
)


def _labels(meta: Meta) -> tuple[str, ...]:
    return tuple(str(label) for label in meta.get("labels") or RATING_LABELS)


def _positions(labels: Sequence[str]) -> list[float]:
    """Where each label lies on the scale: its number, or its place in the list if any label is not a number."""
    if all(_NUMBER.fullmatch(label.strip()) for label in labels):
        return [float(label) for label in labels]
    return [float(place) for place in range(len(labels))]


def parse_rating(answer: str, labels: Sequence[str]) -> int | None:
    """Index of the label that `answer` gives, or None: "4", " 4.0 " and "4 stars" are 4; "7" and "" are none."""
    wanted = answer.strip().casefold()
    for index, label in enumerate(labels):
        if label.strip().casefold() == wanted:
            return index
    if number := _NUMBER.search(answer):
        for index, label in enumerate(labels):
            if _NUMBER.fullmatch(label.strip()) and float(label) == float(number[0]):
                return index
    return None


def _distance(prediction: str, target: str, labels: Sequence[str]) -> float | None:
    """Distance on the scale, None for an answer or a target that is no label."""
    given, wanted = parse_rating(prediction, labels), parse_rating(target, labels)
    if given is None or wanted is None:
        return None
    positions = _positions(labels)
    return abs(positions[given] - positions[wanted])


class Accuracy(MeanMetric):
    """Share of answers that are the right label."""

    name = "accuracy"

    @property
    def protocol(self) -> str:
        """How an answer is read."""
        return f"{_PARSING}; an answer that is no label is wrong"

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """1 or 0; right if it is right for any reference."""
        labels = _labels(meta)
        return float(any(_distance(prediction, target, labels) == 0 for target in targets))


class WithinOne(MeanMetric):
    """Share of answers at most one step of the scale away."""

    name = "within_one"

    @property
    def protocol(self) -> str:
        """How an answer is read, what a step is."""
        return f"{_PARSING}; at most 1 away (of labels that are no numbers: one place in their list); no label is wrong"

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """1 or 0."""
        labels = _labels(meta)
        distances = [_distance(prediction, target, labels) for target in targets]
        return float(any(d is not None and d <= 1 for d in distances))


class MeanAbsoluteError(MeanMetric):
    """Mean distance between answer and label on the scale."""

    name = "mae"
    better = "lower"
    scale = "raw"

    @property
    def protocol(self) -> str:
        """How an answer is read, what an unreadable one costs."""
        return f"{_PARSING}; an answer that is no label counts as the largest distance there is from the reference"

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """Distance to the nearest reference."""
        labels = _labels(meta)
        return min(self._one(prediction, target, labels) for target in targets)

    @staticmethod
    def _one(prediction: str, target: str, labels: Sequence[str]) -> float:
        distance = _distance(prediction, target, labels)
        if distance is not None:
            return distance
        positions = _positions(labels)
        wanted = parse_rating(target, labels)
        if wanted is None:  # the job was not checked; the whole scale is the most that can be said
            return max(positions) - min(positions)
        return max(abs(position - positions[wanted]) for position in positions)


class NoLabel(MeanMetric):
    """Share of answers that are no label at all."""

    name = "no_label"
    better = "lower"

    @property
    def protocol(self) -> str:
        """How an answer is read."""
        return _PARSING

    def value(self, prediction: str, targets: Sequence[str], meta: Meta) -> float:
        """1 or 0."""
        return float(parse_rating(prediction, _labels(meta)) is None)


class LabelTable(Metric):
    """Base of metrics of the table of labels: how often each one was answered where each one was right.

    A row's statistics are one cell of that table, shape (labels, labels + 1) flattened: right label
    by answer, labels in the order of the scale, the last column an answer that is no label. A
    target that is no label counts nowhere.
    """

    columns = ()

    def row(self, prediction: str, targets: Sequence[str], meta: Meta) -> tuple[float, ...]:
        """The table of one row; of several references the one that was answered, else the first."""
        labels = _labels(meta)
        positions = _positions(labels)
        places = sorted(range(len(labels)), key=positions.__getitem__)
        table = np.zeros((len(labels), len(labels) + 1))
        given = parse_rating(prediction, labels)
        wanted = [x for target in targets if (x := parse_rating(target, labels)) is not None]
        if wanted:
            right = given if given in wanted else wanted[0]
            assert right is not None
            table[places.index(right), len(labels) if given is None else places.index(given)] = 1
        return tuple(table.flat)

    @staticmethod
    def tables(sums: Floats) -> Floats:
        """Sums of statistics as tables, shape (n, labels, labels + 1)."""
        labels = next(n for n in count(1) if n * (n + 1) >= sums.shape[1])
        return sums.reshape(len(sums), labels, labels + 1)


class MacroF1(LabelTable):
    """Mean over labels of each one's F1: rare labels count as much as frequent ones."""

    name = "macro_f1"

    @property
    def protocol(self) -> str:
        """Which labels count."""
        return f"{_PARSING}; unweighted mean of F1 over the labels that occur in references or answers"

    def combine_many(self, sums: Floats) -> Floats:
        """Mean of 2 right / (given + wanted)."""
        tables = self.tables(sums)
        found = tables.sum(axis=2) + tables[:, :, :-1].sum(axis=1)
        right = np.einsum("nii->ni", tables[:, :, :-1])
        return ratio(ratio(2 * right, found, empty=0.0).sum(axis=1), (found > 0).sum(axis=1).astype(float), empty=0.0)


class Spearman(LabelTable):
    """Spearman's rank correlation between answers and references, ties at their mean rank."""

    name = "spearman"

    @property
    def protocol(self) -> str:
        """What becomes of an answer that has no rank."""
        return (
            f"{_PARSING}; ties at their mean rank; answers that are no label are left out; "
            "0 where all answers or all references are the same"
        )

    def combine_many(self, sums: Floats) -> Floats:
        """Pearson's correlation of the ranks, from the table alone."""
        tables = self.tables(sums)[:, :, :-1]
        wanted, given = tables.sum(axis=2), tables.sum(axis=1)
        first, second = _centred_ranks(wanted), _centred_ranks(given)
        together = np.einsum("ni,nij,nj->n", first, tables, second)
        spread = np.sqrt((wanted * first**2).sum(axis=1) * (given * second**2).sum(axis=1))
        return ratio(together, spread, empty=0.0)


def _centred_ranks(counts: Floats) -> Floats:
    """Mean rank of each label minus the mean of all ranks, shape (n, labels), from how often each label occurs."""
    before = np.cumsum(counts, axis=1) - counts
    centred: Floats = before + (counts + 1) / 2 - (counts.sum(axis=1, keepdims=True) + 1) / 2
    return centred
