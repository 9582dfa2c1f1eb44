"""Metrics of named entities predicted as text: strict spans by type, counted over all rows (micro).

As in the CoNLL-2003 shared task (Tjong Kim Sang & De Meulder 2003), but spans are compared by text
instead of position.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from data_prep.tasks.task_types import parse_entities
from raytrain.evaluation.metrics.base import Floats, Meta, Metric, ratio

_Entity = tuple[str, str]  # type, text

_COUNTING = (
    "strict: an entity is correct if type and text are equal, at most as often as in the reference; micro over all "
    "rows; a prediction that is not a list of entities has none"
)


class EntityMetric(Metric):
    """Base of the entity metrics, which share the same counts."""

    columns = ("correct", "predicted", "expected", "unparsable", "rows")

    @property
    def protocol(self) -> str:
        """What counts as correct."""
        return _COUNTING

    def row(self, prediction: str, targets: Sequence[str], meta: Meta) -> tuple[float, ...]:
        """Returns the counts against the reference with the best F1, of equals the first."""
        return _best_counts(parse_entities(prediction), [parse_entities(target) or [] for target in targets])

    def by_label(
        self, predictions: Sequence[str], targets: Sequence[Sequence[str]], metas: Sequence[Meta], stats: Floats
    ) -> dict[str, tuple[int, float]]:
        """Returns per type of entity the rows that have one, and the score of that type."""
        kinds = sorted(
            {kind for references in targets for target in references for kind, _ in parse_entities(target) or []}
        )
        return {kind: self._of_kind(kind, predictions, targets) for kind in kinds}

    def _of_kind(self, kind: str, predictions: Sequence[str], targets: Sequence[Sequence[str]]) -> tuple[int, float]:
        sums, rows = np.zeros(len(self.columns)), 0
        for prediction, references in zip(predictions, targets, strict=True):
            parsed = parse_entities(prediction)
            expected = [[e for e in parse_entities(target) or [] if e[0] == kind] for target in references]
            rows += any(expected)
            predicted = None if parsed is None else [e for e in parsed if e[0] == kind]
            sums += _best_counts(predicted, expected)
        return rows, self.combine(sums)


def _best_counts(predicted: Sequence[_Entity] | None, references: Sequence[Sequence[_Entity]]) -> tuple[float, ...]:
    """Counts against the reference with the best F1, of equals the first."""
    given = Counter(predicted or [])
    best: tuple[float, ...] = ()
    best_f1 = -1.0
    for reference in references:
        expected = Counter(reference)
        correct = (given & expected).total()
        counts = (float(correct), float(given.total()), float(expected.total()), float(predicted is None), 1.0)
        f1 = _f1(np.array([counts]))[0]
        if f1 > best_f1:
            best, best_f1 = counts, f1
    return best


def _f1(sums: Floats) -> Floats:
    # Predicting nothing where nothing is expected is correct: rows without entities are part of the
    # task. An unparsable prediction is not "nothing".
    empty = np.where(sums[:, 3] > 0, 0.0, 1.0)
    total = sums[:, 1] + sums[:, 2]
    return np.where(total == 0, empty, ratio(2 * sums[:, 0], total, empty=0.0))


class EntityF1(EntityMetric):
    """Harmonic mean of precision and recall."""

    name = "f1"

    def combine_many(self, sums: Floats) -> Floats:
        """2 correct / (predicted + expected); 1 where nothing is expected and nothing predicted."""
        return _f1(sums)


class EntityPrecision(EntityMetric):
    """Share of the predicted entities that are correct."""

    name = "precision"

    def combine_many(self, sums: Floats) -> Floats:
        """Correct / predicted; where nothing is predicted, 1 if nothing is expected, else 0."""
        nothing = np.where((sums[:, 2] == 0) & (sums[:, 3] == 0), 1.0, 0.0)
        return np.where(sums[:, 1] == 0, nothing, ratio(sums[:, 0], sums[:, 1], empty=0.0))


class EntityRecall(EntityMetric):
    """Share of the expected entities that are predicted."""

    name = "recall"

    def combine_many(self, sums: Floats) -> Floats:
        """Correct / expected; 1 where nothing is expected."""
        return ratio(sums[:, 0], sums[:, 2], empty=1.0)


class Unparsable(EntityMetric):
    """Share of predictions that are not a list of entities."""

    name = "unparsable"
    better = "lower"

    def combine_many(self, sums: Floats) -> Floats:
        """Unparsable predictions / rows."""
        return ratio(sums[:, 3], sums[:, 4], empty=np.nan)
