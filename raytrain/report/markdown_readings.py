"""What answers were read as, in Markdown: the confusion of labels, and entities by type."""

from collections.abc import Sequence

from raytrain.report.formatting import format_score
from raytrain.report.markdown_text import escape, table
from raytrain.report.model import Confusion, EntityType
from raytrain.report.readings import MATRIX_LABELS, largest_mistakes, read_as


def confusion_table(task: str, found: Confusion) -> str:
    """Renders rows by correct and by predicted label; of many labels the largest mistakes."""
    if len(found.labels) > MATRIX_LABELS:
        head = [f"{escape(task)}: largest mistakes of {len(found.labels)} labels, correct", "read as", "rows"]
        mistakes = largest_mistakes(found)
        return table(head, [[escape(x.label), escape(x.read_as), f"{x.rows:,}"] for x in mistakes], numbers_from=2)
    head = [f"{escape(task)}: correct label, read as", *(escape(name) for name in read_as(found))]
    rows = zip(found.labels, found.counts, strict=True)
    return table(
        head, [[escape(label), *(f"{count:,}" if count else "·" for count in counts)] for label, counts in rows]
    )


def entity_table(task: str, kinds: Sequence[EntityType]) -> str:
    """Renders precision, recall, F1 (0 to 100) and counts of each type of entity."""
    head = [f"{escape(task)}: entity type", "precision", "recall", "F1", "correct", "predicted", "expected"]
    rows = [
        [
            escape(x.name),
            *(format_score(value) for value in (x.precision, x.recall, x.f1)),
            *(f"{count:,}" for count in (x.correct, x.predicted, x.expected)),
        ]
        for x in kinds
    ]
    return table(head, rows)
