"""The rows that are scored, and how they are cut into pieces of work."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from data_prep.document.models import Task
from data_prep.task_types import RATING_LABELS


@dataclass(frozen=True, slots=True)
class Example:
    """One row to answer: the rendered prompt, its references, and what is known of the row."""

    id: str
    template: int
    input: str
    targets: tuple[str, ...]
    meta: Mapping[str, Any]

    @property
    def raw_input(self) -> str:
        """The text that the task works on, without the instruction around it."""
        raw = self.meta.get("input")
        return raw if isinstance(raw, str) else self.input


class _Row(Protocol):
    id: str
    template: int
    input: str
    targets: Any
    meta: Any


def from_rows(rows: Iterable[_Row], task: Task) -> list[Example]:
    """Examples of text rows as `data_prep.shards.read_rows` gives them, with the task's labels added to `meta`."""
    labels = {"labels": list(task.labels or RATING_LABELS)} if task.type == "rating" else {}
    examples = []
    for row in rows:
        meta = json.loads(row.meta) if isinstance(row.meta, str) else dict(row.meta or {})
        examples.append(Example(row.id, row.template, row.input, tuple(row.targets), {**meta, **labels}))
    return examples


def chunks(examples: Sequence[Example], size: int) -> list[list[int]]:
    """Indices into `examples`, longest prompts first, in pieces of `size`.

    The pieces depend on the examples alone. Since an answer can depend, in the last bit of a float, on the batch
    that it was made in, this is what makes scores the same from any number of actors and after any restart.
    """
    order = sorted(range(len(examples)), key=lambda i: (-len(examples[i].input), examples[i].id, i))
    return [order[start : start + size] for start in range(0, len(order), size)]
