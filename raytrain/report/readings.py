"""How the answers of a task were read: which label for which, which entities, how long."""

from collections.abc import Mapping

from raytrain.evaluation.results import ScoreCard
from raytrain.report.model import Confusion, EntityType, Mistake, Task

MATRIX_LABELS = 10  # a larger matrix cannot be read; its largest mistakes are listed instead
_MISTAKES = 10
_NO_LABEL = "no label"
_NO_ENTITY = "not an entity"


def confusion_of(card: ScoreCard | None) -> Confusion | None:
    """Returns the confusion matrix of a task with labels, None for other tasks."""
    if card is None or not card.confusion:
        return None
    return Confusion(labels=list(card.confusion["labels"]), counts=[list(row) for row in card.confusion["counts"]])


def entity_types_of(card: ScoreCard | None) -> list[EntityType]:
    """Returns the scores of each type of entity, the most frequent first."""
    if card is None:
        return []
    found = [_entity_type(name, counts) for name, counts in card.entity_types.items()]
    return sorted(found, key=lambda kind: (-kind.expected, kind.name))


def _entity_type(name: str, counts: Mapping[str, float]) -> EntityType:
    return EntityType(
        name=name or _NO_ENTITY,
        expected=int(counts["expected"]),
        predicted=int(counts["predicted"]),
        correct=int(counts["correct"]),
        precision=counts.get("precision"),
        recall=counts.get("recall"),
        f1=counts.get("f1"),
    )


def read_as(confusion: Confusion) -> list[str]:
    """Returns the names of the matrix' columns: the labels, then answers that name none."""
    return [*confusion.labels, _NO_LABEL]


def largest_mistakes(confusion: Confusion) -> list[Mistake]:
    """Returns the most frequent confusions of one label with another, or with none."""
    columns = read_as(confusion)
    found = [
        Mistake(label=label, read_as=columns[j], rows=count)
        for i, (label, row) in enumerate(zip(confusion.labels, confusion.counts, strict=True))
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(found, key=lambda mistake: -mistake.rows)[:_MISTAKES]


def shade(confusion: Confusion, row: int, column: int) -> str:
    """Returns the CSS class of a cell by its share of the row: blue if right, orange if wrong."""
    counts = confusion.counts[row]
    share = counts[column] / max(sum(counts), 1)
    level = sum(share > edge for edge in (0, 0.1, 0.3, 0.6, 0.85))
    return "" if level == 0 else f"{'up' if row == column else 'down'}{level}"


_LENGTHS = (("Prompt", "prompt"), ("Answer", "prediction"))
_COLUMNS = ("median", "mean", "p95", "max")


def length_rows(task: Task) -> list[tuple[str, list[float | None], float | None]]:
    """Returns (what, tokens as median, mean, 95 % quantile and maximum, share at the limit)."""
    limits = {"prompt": task.lengths.get("prompt_at_limit"), "prediction": task.lengths.get("cut_off")}
    rows = [
        (label, [task.lengths.get(f"{name}_tokens_{column}") for column in _COLUMNS], limits[name])
        for label, name in _LENGTHS
    ]
    return [row for row in rows if any(value is not None for value in row[1])]
