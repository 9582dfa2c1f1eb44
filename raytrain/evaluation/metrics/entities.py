"""Metrics of named entities answered as text: strict spans by type, counted over all rows (micro)."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from data_prep.tasks.task_types import parse_entities
from raytrain.evaluation.metrics.base import Floats, Meta, Metric, ratio

_Entity = tuple[str, str]  # type, text

_COUNTING = (
    "strict: an entity counts if type and text are equal, as often as the reference has it; micro over all rows; "
    "an answer that is no list of entities has none"
)


class EntityMetric(Metric):
    """Base of the entity metrics: all share the same counts."""

    columns = ("right", "given", "wanted", "unparsable", "rows")

    @property
    def protocol(self) -> str:
        """What counts as right."""
        return _COUNTING

    def row(self, prediction: str, targets: Sequence[str], meta: Meta) -> tuple[float, ...]:
        """Counts against the reference with the best F1 (the first of equals)."""
        return _best(parse_entities(prediction), [parse_entities(target) or [] for target in targets])

    def by_label(
        self, predictions: Sequence[str], targets: Sequence[Sequence[str]], metas: Sequence[Meta], stats: Floats
    ) -> dict[str, tuple[int, float]]:
        """For every type of the references: rows that have it, and the score of the entities of that type alone."""
        kinds = sorted({kind for several in targets for target in several for kind, _ in parse_entities(target) or []})
        return {kind: self._of_kind(kind, predictions, targets) for kind in kinds}

    def _of_kind(self, kind: str, predictions: Sequence[str], targets: Sequence[Sequence[str]]) -> tuple[int, float]:
        sums, rows = np.zeros(len(self.columns)), 0
        for prediction, several in zip(predictions, targets, strict=True):
            parsed = parse_entities(prediction)
            wanted = [[e for e in parse_entities(target) or [] if e[0] == kind] for target in several]
            rows += any(wanted)
            given = None if parsed is None else [e for e in parsed if e[0] == kind]
            sums += _best(given, wanted)
        return rows, self.combine(sums)


def _best(given: Sequence[_Entity] | None, references: Sequence[Sequence[_Entity]]) -> tuple[float, ...]:
    """Counts against the reference with the best F1, the first of equals."""
    answered = Counter(given or [])
    best: tuple[float, ...] = ()
    best_f1 = -1.0
    for reference in references:
        wanted = Counter(reference)
        right = (answered & wanted).total()
        counts = (float(right), float(answered.total()), float(wanted.total()), float(given is None), 1.0)
        f1 = _f1(np.array([counts]))[0]
        if f1 > best_f1:
            best, best_f1 = counts, f1
    return best


def _f1(sums: Floats) -> Floats:
    # Nothing to find and nothing found is right: rows without entities are part of the task. An
    # answer that cannot be read is not "nothing found".
    empty = np.where(sums[:, 3] > 0, 0.0, 1.0)
    found = sums[:, 1] + sums[:, 2]
    return np.where(found == 0, empty, ratio(2 * sums[:, 0], found, empty=0.0))


class EntityF1(EntityMetric):
    """Harmonic mean of precision and recall."""

    name = "f1"

    def combine_many(self, sums: Floats) -> Floats:
        """2 right / (given + wanted); 1 where nothing was wanted and nothing given."""
        return _f1(sums)


class EntityPrecision(EntityMetric):
    """Share of the given entities that are right."""

    name = "precision"

    def combine_many(self, sums: Floats) -> Floats:
        """Right / given; with nothing given 1 if nothing was wanted, else 0."""
        nothing = np.where((sums[:, 2] == 0) & (sums[:, 3] == 0), 1.0, 0.0)
        return np.where(sums[:, 1] == 0, nothing, ratio(sums[:, 0], sums[:, 1], empty=0.0))


class EntityRecall(EntityMetric):
    """Share of the wanted entities that were given."""

    name = "recall"

    def combine_many(self, sums: Floats) -> Floats:
        """Right / wanted; 1 where nothing was wanted."""
        return ratio(sums[:, 0], sums[:, 2], empty=1.0)


class Unparsable(EntityMetric):
    """Share of answers that are no list of entities."""

    name = "unparsable"
    better = "lower"

    def combine_many(self, sums: Floats) -> Floats:
        """Unparsable answers / rows."""
        return ratio(sums[:, 3], sums[:, 4], empty=np.nan)
