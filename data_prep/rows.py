"""From a row as its source holds it to an example: raw input, targets, and what is known besides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_prep.document import Task
from data_prep.errors import UsageError
from data_prep.task_types import (
    RATING_LABELS,
    RowError,
    entities_of,
    find_choice,
    find_label,
    format_entities,
    format_options,
    letter,
    parse_entities,
)

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """One example, before an instruction is put around it."""

    input: str
    targets: list[str]
    """At least one; the first is trained on, all are references when an answer is scored."""
    meta: dict[str, Any]
    """Becomes JSON; `input` is always there: the text that the task works on."""
    id: str | None


def needed_columns(task: Task) -> list[str]:
    """The columns that every row must have. `a|b` stands for whichever of a and b a row has."""
    columns = task.columns
    if columns.tokens is not None and columns.tags is not None:
        if task.type != "ner":
            raise UsageError(f"task {task.name}: columns tokens and tags are for ner, not for {task.type}")
        needed = [columns.tokens, columns.tags]
    else:
        needed = [columns.input, columns.target]
    if columns.choices is not None:
        if task.type != "multiple-choice":
            raise UsageError(f"task {task.name}: column choices is for multiple-choice, not for {task.type}")
        needed.append(columns.choices)
    return needed + ([columns.id] if columns.id is not None else [])


def alternatives(column: str) -> list[str]:
    """The names that a column mapping stands for: `summary|summaries` is the first of the two that a row has."""
    return [name.strip() for name in column.split("|")]


def example_maker(task: Task) -> Callable[[Row], Example]:
    """How a row of `task` becomes an example; the function raises RowError with the reason for a bad row."""
    needed_columns(task)
    make = _MAKERS.get(task.type, _plain)

    def example_of(row: Row) -> Example:
        example = make(task, row)
        if task.columns.id is None:
            return example
        identifier = _value(row, task.columns.id)
        if identifier is None or isinstance(identifier, list | dict) or not str(identifier).strip():
            raise RowError(f"{task.columns.id!r} (the row's id) is {_show(identifier)}")
        return Example(example.input, example.targets, example.meta, _clean(str(identifier)))

    return example_of


def _plain(task: Task, row: Row) -> Example:
    text = _text(row, task.columns.input, code=task.type == "code-translation")
    targets = _texts(row, task.columns.target, task.type)
    if task.labels:
        targets = [_label(target, task.labels) for target in targets]
    return Example(text, targets, {"input": text}, None)


def _rating(task: Task, row: Row) -> Example:
    text = _text(row, task.columns.input)
    labels = task.labels or RATING_LABELS
    targets = [_label(value, labels) for value in _texts(row, task.columns.target, task.type)]
    return Example(text, targets, {"input": text, "label": targets[0]}, None)


def _ner(task: Task, row: Row) -> Example:
    if task.columns.tokens is None or task.columns.tags is None:
        text = _text(row, task.columns.input)
        targets = _texts(row, task.columns.target, task.type)
        parsed = parse_entities(targets[0])
        if parsed is None:
            raise RowError(f"{task.columns.target!r} is {_show(targets[0])}, not `TYPE: text | TYPE: text` or none")
        entities = parsed
    else:
        tokens = _list(row, task.columns.tokens)
        tags = _list(row, task.columns.tags)
        if any(isinstance(tag, int) for tag in tags):
            raise RowError(f"{task.columns.tags!r} holds numbers; tags must be names such as B-PER, I-PER, O")
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
            raise RowError(f"entity type {kind!r} is none of labels ({', '.join(task.labels)})")
    return Example(text, targets, {"input": text, "entities": [list(entity) for entity in entities]}, None)


def _multiple_choice(task: Task, row: Row) -> Example:
    if task.columns.choices is None:
        return _plain(task, row)
    question = _text(row, task.columns.input)
    choices, names = _choices(row, task.columns.choices)
    answer = _value(row, task.columns.target)
    if isinstance(answer, bool) or not isinstance(answer, str | int):
        raise RowError(f"{task.columns.target!r} is {_show(answer)} instead of a choice, its letter or its number")
    index = find_choice(answer if isinstance(answer, int) else _clean(answer), choices, names)
    text = f"{question}\n{format_options(choices)}"
    return Example(text, [letter(index)], {"input": text, "choices": choices, "label": letter(index)}, None)


_MAKERS: dict[str, Callable[[Task, Row], Example]] = {
    "rating": _rating,
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
        raise RowError(f"{column!r} is {_show(value)} instead of text")
    text = _clean(value)
    if not text.strip():
        raise RowError(f"{column!r} is empty")
    return text.strip("\n") if code else text.strip()


def _texts(row: Row, column: str, kind: str) -> list[str]:
    """One target or several; a number is fine where the answer can be one."""
    value = _value(row, column)
    values = value if isinstance(value, list) else [value]
    if not values:
        raise RowError(f"{column!r} is an empty list")
    texts = []
    for one in values:
        number = isinstance(one, int | float) and not isinstance(one, bool)
        if number and kind in ("rating", "text", "question-answering", "multiple-choice"):
            texts.append(str(one))
        else:
            texts.append(_check_text(one, column, code=kind == "code-translation"))
    return texts


def _list(row: Row, column: str) -> list[Any]:
    value = _value(row, column)
    if not isinstance(value, list):
        raise RowError(f"{column!r} is {_show(value)} instead of a list")
    return value


def _choices(row: Row, column: str) -> tuple[list[str], Sequence[str] | None]:
    """The choices, and their names where the column holds {text: [...], label: [...]}."""
    value = _value(row, column)
    names = None
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        names = value.get("label")
        value = value["text"]
    if not isinstance(value, list) or not 2 <= len(value) <= 26:
        raise RowError(f"{column!r} is {_show(value)} instead of a list of 2 to 26 choices")
    choices = [_check_text(choice, column) for choice in map(_choice_text, value)]
    return choices, names if isinstance(names, list) and len(names) == len(choices) else None


def _choice_text(choice: Any) -> Any:
    return str(choice) if isinstance(choice, int | float) and not isinstance(choice, bool) else choice


def _label(value: str, labels: Sequence[str]) -> str:
    label = find_label(value, labels)
    if label is None:
        raise RowError(f"label {_show(value)} is none of {', '.join(labels)}")
    return label


def _clean(text: str) -> str:
    """Line ends as \\n; RowError for what is no Unicode text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RowError(f"{_show(text)} holds half a character (a lone surrogate)") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _show(value: Any) -> str:
    text = "null" if value is None else ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
