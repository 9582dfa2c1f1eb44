"""The rows that are scored, and how they are cut into pieces of work."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from data_prep.config import Task
from data_prep.tasks.task_types import TargetFormat, labels_of, letter
from raytrain.generation.requests import GenerationRequest

if TYPE_CHECKING:
    from data_prep.shards.reader import TextRow


@dataclass(frozen=True, slots=True)
class Example:
    """One row to answer: the rendered prompt, its references, and what is known of the row."""

    id: str
    template: int
    input: str
    targets: tuple[str, ...]
    meta: Mapping[str, Any]
    frame: TargetFormat = field(default_factory=TargetFormat)
    """What stands around a target when it is written as an answer."""

    @property
    def raw_input(self) -> str:
        """The text that the task works on, without the instruction around it."""
        raw = self.meta.get("input")
        return raw if isinstance(raw, str) else self.input


def question(example: Example, measured: Collection[str]) -> GenerationRequest:
    """An example as a question, of which `measured` is to be known beside the answer: `loss`, `choice_losses`.

    Choices are asked by their letters, as the answer's format has them.
    """
    choices = example.meta.get("choices") or () if "choice_losses" in measured else ()
    target = example.frame.wrap(example.targets[0]) if example.targets and "loss" in measured else None
    letters = tuple(example.frame.wrap(letter(index)) for index in range(len(choices)))
    return GenerationRequest(example.input, target, letters)


def from_rows(rows: "Iterable[TextRow]", task: Task) -> list[Example]:
    """Examples of rows as `data_prep.shards.manifest.read_rows` gives them; `meta` with what metrics must know of the task.

    Targets are without what the task's `answer` writes around them.
    """
    known: dict[str, Any] = {}
    if task.type in ("rating", "sentiment") and (allowed := labels_of(task)):
        known = {"labels": list(allowed)}
    elif task.type == "code-translation":
        known = {"language": task.fields.get("to")}
    frame = TargetFormat.of(task)
    examples = []
    for row in rows:
        targets = tuple(frame.unwrap(target) for target in row.targets)
        examples.append(Example(row.id, row.template, row.input, targets, {**row.meta, **known}, frame))
    return examples


CHUNK_BATCHES = 2  # batches in a piece of work: enough to fill places that become free, few enough to share out


def chunks(examples: Sequence[Example], size: int) -> list[list[int]]:
    """Indices into `examples`, longest prompts first, in pieces of `size`.

    The pieces depend on the examples alone. Since an answer can depend, in the last bit of a float,
    on the batch that it was made in, this is what makes scores the same from any number of actors
    and after any restart.
    """
    order = sorted(range(len(examples)), key=lambda i: (-len(examples[i].input), examples[i].id, i))
    return [order[start : start + size] for start in range(0, len(order), size)]
