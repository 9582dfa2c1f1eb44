"""Metrics of named entities predicted as text: strict spans by type, counted over all rows (micro).

As in the CoNLL-2003 shared task (Tjong Kim Sang & De Meulder 2003), but spans are compared by text
instead of position.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from data_prep.tasks.task_types import parse_entities
from raytrain.evaluation.answers.entities import Entity, EntityAnswer, read_entities
from raytrain.evaluation.metrics.base import Floats, Meta, Metric, ratio

BROKEN = ""
"""The type, in a table of types, of what is no entity."""

_COUNTING = (
    "answers v3: an entity is correct if type and text are equal, at most as often as in the reference; micro over "
    "all rows; a part of a prediction that is not `TYPE: text` is one wrong entity (the cut tail too), a lead-in "
    "that is no known type is dropped; parts are separated by bars, and by semicolons, commas and line breaks before a "
    "known type; a prediction without any entity that is not `none` is unparsable"
)


def entity_types(targets: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Returns the types of all entities in references, sorted."""
    return tuple(sorted({kind for row in targets for target in row for kind, _ in parse_entities(target) or []}))


class EntityMetric(Metric):
    """Base of the entity metrics, which share the same counts.

    A row's meta may hold `entity_types`, all those that the task has; without, any type is one.
    """

    columns = ("correct", "predicted", "expected", "unparsable", "rows")

    @property
    def protocol(self) -> str:
        """What counts as correct."""
        return _COUNTING

    def row(self, prediction: str, targets: Sequence[str], meta: Meta) -> tuple[float, ...]:
        """Returns the counts against the reference with the best F1, of equals the first."""
        return _best_counts(_read(prediction, targets, meta), [parse_entities(target) or [] for target in targets])

    def extremes(self, stats: Floats) -> tuple[Floats, Floats]:
        """Returns a row as long as any that is unparsable, and one that is correct."""
        size = float(np.max(stats[:, 1:3], initial=1.0))
        return np.array([0.0, size, size, 1.0, 1.0]), np.array([size, size, size, 0.0, 1.0])

    def by_label(
        self, predictions: Sequence[str], targets: Sequence[Sequence[str]], metas: Sequence[Meta], stats: Floats
    ) -> dict[str, tuple[int, float]]:
        """Returns per type of entity the rows that have one, and the score of that type."""
        found = counts_by_type(predictions, targets, metas)
        return {kind: (rows, self.combine(sums)) for kind, (rows, sums) in found.items() if rows}

    def unreadable(self, prediction: str, meta: Meta) -> bool | None:
        """Whether `prediction` has no entity and does not say that there is none."""
        return not _read(prediction, (), meta).readable


def counts_by_type(
    predictions: Sequence[str], targets: Sequence[Sequence[str]], metas: Sequence[Meta]
) -> dict[str, tuple[int, Floats]]:
    """Returns per type the rows whose references have it, and the summed counts, shape (5,).

    Types that are only predicted are included, and `BROKEN` for parts that are no entity.
    """
    answers = [_read(*row) for row in zip(predictions, targets, metas, strict=True)]
    expected = [[parse_entities(target) or [] for target in row] for row in targets]
    kinds = {kind for row in expected for reference in row for kind, _ in reference}
    kinds |= {kind for answer in answers for kind, _ in answer.entities}
    found = {}
    for kind in sorted(kinds):
        sums, rows = np.zeros(len(EntityMetric.columns)), 0
        for answer, references in zip(answers, expected, strict=True):
            of_kind = [[entity for entity in reference if entity[0] == kind] for reference in references]
            rows += any(of_kind)
            given = tuple(entity for entity in answer.entities if entity[0] == kind)
            sums += _best_counts(EntityAnswer(given, 0, answer.readable), of_kind)
        found[kind] = rows, sums
    if broken := sum(answer.broken for answer in answers):
        found[BROKEN] = 0, np.array([0.0, broken, 0.0, 0.0, len(answers)])
    return found


def _read(prediction: str, targets: Sequence[str], meta: Meta) -> EntityAnswer:
    known = meta.get("entity_types")
    return read_entities(
        prediction,
        {*(known or ()), *entity_types([targets])},
        complete=known is not None,
        references=[entity for target in targets for entity in parse_entities(target) or []],
    )


def _best_counts(answer: EntityAnswer, references: Sequence[Sequence[Entity]]) -> tuple[float, ...]:
    """Counts against the reference with the best F1, of equals the first."""
    given = Counter(answer.entities)
    predicted = float(given.total() + answer.broken)
    best: tuple[float, ...] = ()
    best_f1 = -1.0
    for reference in references:
        expected = Counter(reference)
        correct = (given & expected).total()
        counts = (float(correct), predicted, float(expected.total()), float(not answer.readable), 1.0)
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

    def extremes(self, stats: Floats) -> tuple[Floats, Floats]:
        """Returns a correct row, which scores 0 here, and an unparsable one."""
        unparsable, correct = super().extremes(stats)
        return correct, unparsable

    def combine_many(self, sums: Floats) -> Floats:
        """Unparsable predictions / rows."""
        return ratio(sums[:, 3], sums[:, 4], empty=np.nan)
