"""Turns a source row into an example: raw input, targets and metadata."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from data_prep.config import Task
from data_prep.row_conditions import compile_condition
from data_prep.sources.plugins import ROWS, load_plugin, short
from data_prep.tally import Event
from data_prep.tasks.columns import alternatives, needed_columns, used_columns
from data_prep.tasks.labels import label_name, labels_of, require_label
from data_prep.tasks.pii import Masker
from data_prep.tasks.task_types import (
    TargetFormat,
    entities_of,
    find_choice,
    format_entities,
    format_options,
    letter,
    parse_entities,
)
from raytrain_core.errors import RowError
from raytrain_core.text import show_value

Row = Mapping[str, Any]

_NUMERIC_TARGETS = ("rating", "sentiment", "text", "question-answering", "multiple-choice")


@dataclass(frozen=True, slots=True)
class Example:
    """One example, before an instruction is added."""

    input: str
    targets: list[str]
    """At least one. The first is trained on; all are references for scoring."""
    meta: dict[str, Any]
    """Stored as JSON; always has `input`, the text that the task works on."""
    id: str | None
    events: tuple[Event, ...] = ()
    """What was changed on the way from the row."""
    place: tuple[str, int] = ("", 0)
    """File and line of the row."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that the job leaves out on purpose; `kind` is `where` or `transform`."""

    kind: str


def example_maker(task: Task) -> Callable[[Row], Example | LeftOut]:
    """Returns a function from a row of `task` to its example, or to why the job leaves it out.

    The function raises RowError with the reason for a bad row.
    """
    needed_columns(task)
    make = _MAKERS.get(task.type, _plain)
    transform = row_transform(task)
    condition = compile_condition(task.where) if task.where is not None else None
    masker, used = (Masker(task.mask), used_columns(task)) if task.mask is not None else (None, [])
    target_format = TargetFormat.of(task)

    def example_of(source_row: Row) -> Example | LeftOut:
        row = transform(source_row)
        if row is None:
            return LeftOut("transform")
        if condition is not None and not condition.holds(row):
            return LeftOut("where")
        row, masked = masker.mask(row, used) if masker is not None else (row, {})
        example = make(task, row)
        targets = [target_format.wrap(target) for target in example.targets]
        events = tuple(Event(f"masked:{kind}", times=times) for kind, times in masked.items())
        return replace(example, targets=targets, id=_identifier(task, row), events=(*example.events, *events))

    return example_of


def row_transform(task: Task) -> Callable[[Row], Row | None]:
    """Returns the task's row function (`transform`), or one that changes nothing.

    It raises RowError on failure.
    """
    if task.transform is None:
        return lambda row: row
    plugin = load_plugin(ROWS, task.transform, f"task {task.name}")

    def transformed(row: Row) -> Row | None:
        try:
            found = plugin.function(dict(row))
        except Exception as error:  # third-party code may raise anything
            raise RowError(f"{plugin.name} failed ({short(error)})") from None
        if found is not None and not isinstance(found, Mapping):
            raise RowError(f"{plugin.name} returned {show_value(found)} instead of a row or None")
        return found

    return transformed


def _identifier(task: Task, row: Row) -> str | None:
    if task.columns.id is None:
        return None
    identifier = _value(row, task.columns.id)
    if identifier is None or isinstance(identifier, list | dict) or not str(identifier).strip():
        raise RowError(f"{task.columns.id!r} (the row's id) is {show_value(identifier)}")
    return _clean(str(identifier))


def _plain(task: Task, row: Row) -> Example:
    text = _text(row, task.columns.input, code=task.type == "code-translation")
    targets = _texts(task, row)
    labels = labels_of(task)
    if labels is None:
        return Example(text, targets, {"input": text}, None)
    targets = [require_label(target, labels) for target in targets]
    return Example(text, targets, {"input": text, "label": targets[0]}, None)


def _ner(task: Task, row: Row) -> Example:
    if task.columns.tokens is None or task.columns.tags is None:
        text = _text(row, task.columns.input)
        targets = _texts(task, row)
        parsed = parse_entities(targets[0])
        if parsed is None:
            raise RowError(
                f"{task.columns.target!r} is {show_value(targets[0])}, not `TYPE: text | TYPE: text` or none"
            )
        entities = parsed
    else:
        tokens = _list(row, task.columns.tokens)
        tags = _list(row, task.columns.tags)
        if task.label_names is not None:
            tags = [label_name(tag, task.label_names) for tag in tags]
        if any(isinstance(tag, int) for tag in tags):
            raise RowError(
                f"{task.columns.tags!r} holds numbers; map each to a tag (O, B-PER, I-PER, ...) with labelNames"
            )
        if not all(isinstance(value, str) for value in [*tokens, *tags]):
            raise RowError(f"{task.columns.tokens!r} and {task.columns.tags!r} must hold text only")
        words = [_clean(token) for token in tokens]
        text = " ".join(" ".join(words).split())
        if not text:
            raise RowError(f"{task.columns.tokens!r} is empty")
        entities = entities_of(words, tags)
        targets = [format_entities(entities)]
    for kind, _ in entities:
        if task.labels and kind not in task.labels:
            raise RowError(f"entity type {kind!r} is not one of labels ({', '.join(task.labels)})")
    return Example(text, targets, {"input": text, "entities": [list(entity) for entity in entities]}, None)


def _multiple_choice(task: Task, row: Row) -> Example:
    if task.columns.choices is None:
        return _plain(task, row)
    question = _text(row, task.columns.input)
    choices, names = _choices(row, task.columns.choices)
    answer = _value(row, task.columns.target)
    if isinstance(answer, bool) or not isinstance(answer, str | int):
        raise RowError(f"{task.columns.target!r} is {show_value(answer)} instead of a choice, its letter or its number")
    index = find_choice(answer if isinstance(answer, int) else _clean(answer), choices, names)
    text = f"{question}\n{format_options(choices)}"
    return Example(text, [letter(index)], {"input": text, "choices": choices, "label": letter(index)}, None)


_MAKERS: dict[str, Callable[[Task, Row], Example]] = {
    "ner": _ner,
    "multiple-choice": _multiple_choice,
}


def _value(row: Row, column: str) -> Any:
    names = alternatives(column)
    for name in names:
        if name in row:
            return row[name]
    raise RowError(f"no column {' or '.join(map(repr, names))}; the row has {', '.join(map(repr, row)) or 'none'}")


def _text(row: Row, column: str, *, code: bool = False) -> str:
    return _check_text(_value(row, column), column, code=code)


def _check_text(value: Any, column: str, *, code: bool = False) -> str:
    if value is None:
        raise RowError(f"{column!r} is null")
    if not isinstance(value, str):
        raise RowError(f"{column!r} is {show_value(value)} instead of text")
    text = _clean(value)
    if not text.strip():
        raise RowError(f"{column!r} is empty")
    return text.strip("\n") if code else text.strip()


def _texts(task: Task, row: Row) -> list[str]:
    """The targets and further references, with label names instead of source labels."""
    targets = _several(task, task.columns.target, _value(row, task.columns.target))
    if not targets:
        raise RowError(f"{task.columns.target!r} is an empty list")
    for column in task.columns.references:
        value = next((row[name] for name in alternatives(column) if name in row), None)
        given = [one for one in (value if isinstance(value, list) else [value]) if one is not None and one != ""]
        targets += _several(task, column, given)
    return targets


def _several(task: Task, column: str, value: Any) -> list[str]:
    texts = []
    for one in value if isinstance(value, list) else [value]:
        if task.label_names is not None and task.type != "ner" and one is not None:
            texts.append(label_name(one, task.label_names))
        elif isinstance(one, int | float) and not isinstance(one, bool) and task.type in _NUMERIC_TARGETS:
            texts.append(str(one))
        else:
            texts.append(_check_text(one, column, code=task.type == "code-translation"))
    return texts


def _list(row: Row, column: str) -> list[Any]:
    value = _unpacked(_value(row, column))
    if not isinstance(value, list):
        raise RowError(f"{column!r} is {show_value(value)} instead of a list")
    return value


def _unpacked(value: Any) -> Any:
    """Decodes a list or mapping that a CSV file holds as JSON."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _choices(row: Row, column: str) -> tuple[list[str], Sequence[str] | None]:
    """The choices, and their names if the column holds {text: [...], label: [...]}."""
    value = _unpacked(_value(row, column))
    names = None
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        names = value.get("label")
        value = value["text"]
    if not isinstance(value, list) or not 2 <= len(value) <= 26:
        raise RowError(f"{column!r} is {show_value(value)} instead of a list of 2 to 26 choices")
    choices = [_check_text(choice, column) for choice in map(_choice_text, value)]
    return choices, names if isinstance(names, list) and len(names) == len(choices) else None


def _choice_text(choice: Any) -> Any:
    return str(choice) if isinstance(choice, int | float) and not isinstance(choice, bool) else choice


def _clean(text: str) -> str:
    """Normalises line ends to \\n; raises RowError if the text is not valid Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RowError(f"{show_value(text)} is not valid Unicode (a lone surrogate)") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
