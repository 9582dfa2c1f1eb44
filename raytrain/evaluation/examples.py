"""The rows that are scored, and how they are cut into pieces of work."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from data_prep.document.models import Task
from data_prep.task_types import AnswerFrame, labels_of

if TYPE_CHECKING:
    from data_prep.shards import TextRow


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


def from_rows(rows: "Iterable[TextRow]", task: Task) -> list[Example]:
    """Examples of text rows as `data_prep.shards.read_rows` gives them, with the task's labels added to `meta`.

    Targets are without what the task's `answer` writes around them.
    """
    allowed = labels_of(task) if task.type in ("rating", "sentiment") else None
    labels = {"labels": list(allowed)} if allowed else {}
    frame = AnswerFrame.of(task)
    examples = []
    for row in rows:
        targets = tuple(frame.inside(target) for target in row.targets)
        examples.append(Example(row.id, row.template, row.input, targets, {**row.meta, **labels}))
    return examples


def chunks(examples: Sequence[Example], size: int) -> list[list[int]]:
    """Indices into `examples`, longest prompts first, in pieces of `size`.

    The pieces depend on the examples alone. Since an answer can depend, in the last bit of a float, on the batch
    that it was made in, this is what makes scores the same from any number of actors and after any restart.
    """
    order = sorted(range(len(examples)), key=lambda i: (-len(examples[i].input), examples[i].id, i))
    return [order[start : start + size] for start in range(0, len(order), size)]
