"""The examples to score: rows of a shard set, and the generation requests made from them."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from data_prep.config import Task
from data_prep.tasks.labels import labels_of
from data_prep.tasks.task_types import TargetFormat, letter
from raytrain.evaluation.metrics.entities import entity_types
from raytrain.generation.requests import GenerationRequest

if TYPE_CHECKING:
    from data_prep.shards.text_reader import TextRow


@dataclass(frozen=True, slots=True)
class Example:
    """One row to score: the rendered prompt, its references, and what is known about the row."""

    id: str
    template: int
    input: str
    targets: tuple[str, ...]
    meta: Mapping[str, Any]
    target_format: TargetFormat = field(default_factory=TargetFormat)
    """How the model is trained to write a target."""

    @property
    def raw_input(self) -> str:
        """The text that the task works on, without the instruction template."""
        raw = self.meta.get("input")
        return raw if isinstance(raw, str) else self.input


def generation_request(example: Example, measured: Collection[str]) -> GenerationRequest:
    """Returns the request for an example.

    `measured` names the losses to measure: `loss`, `choice_losses`. Choices are scored by
    their letters, in the target format.
    """
    write = example.target_format.wrap
    choices = example.meta.get("choices") or () if "choice_losses" in measured else ()
    target = write(example.targets[0]) if example.targets and "loss" in measured else None
    return GenerationRequest(example.input, target, tuple(write(letter(index)) for index in range(len(choices))))


def examples_from_rows(rows: "Iterable[TextRow]", task: Task) -> list[Example]:
    """Returns the examples of rows that `data_prep.shards.text_reader.read_rows` yields.

    Targets are without the task's target format; `meta` is extended by what metrics need to know
    about the task.
    """
    known: dict[str, Any] = {}
    if task.type in ("rating", "sentiment") and (allowed := labels_of(task)):
        known = {"labels": list(allowed)}
    elif task.type == "code-translation":
        known = {"language": task.fields.get("to")}
    target_format = TargetFormat.of(task)
    examples = []
    for row in rows:
        targets = tuple(target_format.unwrap(target) for target in row.targets)
        examples.append(Example(row.id, row.template, row.input, targets, {**row.meta, **known}, target_format))
    return _with_entity_types(examples, task) if task.type == "ner" else examples


def _with_entity_types(examples: list[Example], task: Task) -> list[Example]:
    """Tells each row which types of entities the task has: its labels, and those of all rows."""
    types = (*(task.labels or ()), *entity_types([example.targets for example in examples]))
    known = {"entity_types": sorted(set(types))}
    return [replace(example, meta={**example.meta, **known}) for example in examples]
