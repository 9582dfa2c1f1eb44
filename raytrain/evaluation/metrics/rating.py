"""Metrics of ratings: is the answer the right label, how far off is it."""

import re
from collections.abc import Sequence

from data_prep.task_types import RATING_LABELS
from raytrain.evaluation.metrics.base import MeanMetric, Meta

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
        if wanted is None:  # the document was not checked; the whole scale is the most that can be said
            return max(positions) - min(positions)
        return max(abs(position - positions[wanted]) for position in positions)
