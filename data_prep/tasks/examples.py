"""Turns a source row into an example: raw input, targets and metadata."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from data_prep.config import Task
from data_prep.config.row_conditions import compile_condition
from data_prep.sources.plugins import ROWS, load_plugin, short
from data_prep.tally import Event
from data_prep.tasks.answers import choice_texts, find_choice
from data_prep.tasks.columns import alternatives, needed_columns, used_columns
from data_prep.tasks.labels import label_name, labels_of, require_label
from data_prep.tasks.pii import Masker
from data_prep.tasks.profile import LIST_TASKS, Profile
from data_prep.tasks.task_types import (
    TargetFormat,
    entities_of,
    format_entities,
    format_options,
    letter,
    parse_entities,
)
from data_prep.tasks.values import (
    has_point_zero,
    is_number,
    looks_like_list,
    number_text,
    parse_list,
    require_finite,
    spells_texts,
    unpacked,
    without_nan,
)
from raytrain_core.errors import RowError
from raytrain_core.text import show_value

Row = Mapping[str, Any]

_OPTIONS = re.compile(r"\n(?:Options|Choices):[ ]*\n(?:[^\n]*\n?){2,26}\Z")
_FOR_MISSING = frozenset(("nan", "NaN", "NaT", "<NA>", "\\N", "null", "NULL", "NA", "N/A", "n/a", "#N/A", "None"))
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
    tail: int = 0
    """Characters at the end of the input that are never cut: the options of multiple-choice."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that the job leaves out on purpose; `kind` is `where` or `transform`."""

    kind: str


def example_maker(task: Task, profile: Profile | None = None) -> Callable[[Row], Example | LeftOut]:
    """Returns a function from a row of `task` to its example, or to why the job leaves it out.

    The function raises RowError with the reason for a bad row. `profile` is what the whole column
    tells (`data_prep.tasks.profile`).
    """
    needed_columns(task)
    make = partial(_MAKERS.get(task.type, _plain), task, profile or Profile())
    transform = row_transform(task)
    condition = compile_condition(task.where) if task.where is not None else None
    used = used_columns(task)
    masker = Masker(task.mask) if task.mask is not None else None
    target_format = TargetFormat.of(task)
    watched = {*used, *(condition.columns if condition is not None else ())}

    def example_of(source_row: Row) -> Example | LeftOut:
        present, missing = without_nan(source_row, watched)
        row = transform(present)
        if row is None:
            return LeftOut("transform")
        if task.transform is not None:
            row, missing = without_nan(row, watched)
        if condition is not None and not condition.holds(row):
            return LeftOut("where")
        row, masked = masker.mask(row, used) if masker is not None else (row, {})
        example = make(row)
        targets = [target_format.wrap(target) for target in example.targets]
        events = [Event("number-missing", ", ".join(missing), len(missing))] if missing else []
        events += [Event(f"masked:{kind}", times=times) for kind, times in masked.items()]
        identifier = _identifier(task, profile or Profile(), row)
        # not `replace`, which takes three times as long, and that for every row
        return Example(example.input, targets, example.meta, identifier, (*example.events, *events), tail=example.tail)

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


def _identifier(task: Task, profile: Profile, row: Row) -> str | None:
    if task.columns.id is None:
        return None
    name, identifier = _named_value(row, task.columns.id)
    if is_number(identifier):
        identifier = number_text(identifier, whole=name in profile.whole)
    if identifier is None or isinstance(identifier, list | dict) or not str(identifier).strip():
        raise RowError(f"{task.columns.id!r} (the row's id) is {show_value(identifier)}")
    return _clean(str(identifier))


def _plain(task: Task, profile: Profile, row: Row) -> Example:
    text = _text(row, task.columns.input, code=task.type == "code-translation")
    events = list[Event]()
    targets = _texts(task, profile, row, events)
    labels = labels_of(task)
    if labels is None:
        tail = options_at_end(task, text)
        return Example(text, targets, {"input": text}, None, tuple(events), tail=tail)
    if profile.labels_by_number:
        events.append(Event("label-matched"))
    targets = [require_label(target, labels, by_number=profile.labels_by_number) for target in targets]
    return Example(text, targets, {"input": text, "label": targets[0]}, None, tuple(events))


def options_at_end(task: Task, text: str) -> int:
    """Returns how many characters the options at the end of a text take (BIG-Bench Hard).

    0 without any, and for tasks that have none.
    """
    found = _OPTIONS.search(text) if task.type in ("multiple-choice", "question-answering") else None
    return len(text) - found.start() if found is not None else 0


def _ner(task: Task, profile: Profile, row: Row) -> Example:
    events = list[Event]()
    if task.columns.tokens is None or task.columns.tags is None:
        text = _text(row, task.columns.input)
        targets = _texts(task, profile, row, events)
        parsed = parse_entities(targets[0])
        if parsed is None:
            raise RowError(
                f"{task.columns.target!r} is {show_value(targets[0])}, not `TYPE: text | TYPE: text` or none"
            )
        entities = parsed
    else:
        tokens = _list(row, task.columns.tokens, events)
        tags = _tags(task, profile, row, events)
        if not all(isinstance(value, str) for value in [*tokens, *tags]):
            raise RowError(f"{task.columns.tokens!r} and {task.columns.tags!r} must hold text only")
        words = [_clean(token) for token in tokens]
        text = " ".join(" ".join(words).split())
        if not text:
            raise RowError(f"{task.columns.tokens!r} is empty")
        entities = entities_of(words, tags, profile.tags.read if profile.tags is not None else None)
        targets = [format_entities(entities)]
    for kind, _ in entities:
        if task.labels and kind not in task.labels:
            raise RowError(f"entity type {kind!r} is not one of labels ({', '.join(task.labels)})")
    return Example(
        text, targets, {"input": text, "entities": [list(entity) for entity in entities]}, None, tuple(events)
    )


def _tags(task: Task, profile: Profile, row: Row, events: list[Event]) -> list[Any]:
    """The tags of a row as text; notes if their spelling is not that of CoNLL."""
    column = task.columns.tags or ""
    tags = _list(row, column, events)
    if task.label_names is not None:
        tags = [label_name(tag, task.label_names) for tag in tags]
    numbers = [tag for tag in tags if isinstance(tag, int)]
    if numbers and (profile.tags is None or any(numbers)):
        raise RowError(f"{column!r} holds numbers; map each to a tag (O, B-PER, I-PER, ...) with labelNames")
    if profile.tags is not None and not profile.tags.is_plain:
        events.append(Event("tags-rewritten"))
    return [str(tag) if isinstance(tag, int) else tag for tag in tags]  # 0 for O among texts


def _multiple_choice(task: Task, profile: Profile, row: Row) -> Example:
    if task.columns.choices is None:
        return _plain(task, profile, row)
    question, events = _text(row, task.columns.input), list[Event]()
    choices, names = _choices(row, task.columns.choices)
    answer = _value(row, task.columns.target)
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise RowError(f"{task.columns.target!r} is {show_value(answer)} instead of a choice, its letter or its number")
    reading = profile.reading or task.number_choices
    index = find_choice(_clean(answer) if isinstance(answer, str) else answer, choices, names, reading)
    options = f"\n{format_options(choices)}"
    text = question + options
    meta = {"input": text, "choices": choices, "label": letter(index)}
    return Example(text, [letter(index)], meta, None, tuple(events), tail=len(options))


_MAKERS: dict[str, Callable[[Task, Profile, Row], Example]] = {
    "ner": _ner,
    "multiple-choice": _multiple_choice,
}


def _value(row: Row, column: str) -> Any:
    return _named_value(row, column)[1]


def _named_value(row: Row, column: str) -> tuple[str, Any]:
    """The column that a row has of `a|b`, and its value."""
    names = alternatives(column)
    for name in names:
        if name in row:
            return name, row[name]
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


def _texts(task: Task, profile: Profile, row: Row, events: list[Event]) -> list[str]:
    """The targets and further references, with label names instead of source labels."""
    name, value = _named_value(row, task.columns.target)
    targets = _several(task, profile, name, value, events)
    if not targets:
        raise RowError(f"{task.columns.target!r} is an empty list")
    for column in task.columns.references:
        name, value = next(((name, row[name]) for name in alternatives(column) if name in row), (column, None))
        value = _as_list(task, profile, name, value, events)
        given = [one for one in (value if isinstance(value, list) else [value]) if one is not None and one != ""]
        targets += _several(task, profile, name, given, events)
    return targets


def _several(task: Task, profile: Profile, column: str, value: Any, events: list[Event]) -> list[str]:
    value = _as_list(task, profile, column, value, events)
    texts = []
    for one in value if isinstance(value, list) else [value]:
        require_finite(one, column)
        if task.label_names is not None and task.type != "ner" and one is not None:
            texts.append(label_name(one, task.label_names))
        elif is_number(one) and task.type in _NUMERIC_TARGETS:
            texts.append(_number(task, profile, column, one, events))
        else:
            text = _check_text(one, column, code=task.type == "code-translation")
            if text in _FOR_MISSING:
                events.append(Event("missing-kept", column))
            if column in profile.whole and has_point_zero(text):
                text = text.removesuffix(".0")
                events.append(Event("number-whole", column))
            texts.append(text)
    return texts


def _as_list(task: Task, profile: Profile, column: str, value: Any, events: list[Event]) -> Any:
    """The list that a text spells, where the whole column and the task say that it is one."""
    if not isinstance(value, str) or not looks_like_list(value):
        return value
    found = parse_list(value)
    if not isinstance(found, list):
        if task.type in LIST_TASKS and spells_texts(value):
            events.append(Event("list-kept", column))
        return value
    if column in profile.lists and task.type in LIST_TASKS:
        events.append(Event("list-parsed", column))
        return found
    events.append(Event("list-kept", column))
    return value


def _number(task: Task, profile: Profile, column: str, value: float, events: list[Event]) -> str:
    if has_point_zero(value) and labels_of(task) is None:
        events.append(Event("number-whole" if column in profile.whole else "number-as-written", column))
    return number_text(value, whole=column in profile.whole)


def _list(row: Row, column: str, events: list[Event]) -> list[Any]:
    value = _value(row, column)
    found = unpacked(value)
    if not isinstance(found, list):
        raise RowError(f"{column!r} is {show_value(value)} instead of a list")
    if isinstance(value, str):
        events.append(Event("list-parsed", column))
    return found


def _choices(row: Row, column: str) -> tuple[list[str], Sequence[str] | None]:
    """The choices, and their names if the column holds {text: [...], label: [...]}."""
    value = _value(row, column)
    found = choice_texts(value)
    if found is None or not 2 <= len(found[0]) <= 26:
        raise RowError(f"{column!r} is {show_value(value)} instead of a list of 2 to 26 choices")
    return [_check_text(choice, column) for choice in found[0]], found[1]


def _clean(text: str) -> str:
    """Normalises line ends to \\n; raises RowError if the text is not valid Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RowError(f"{show_value(text)} is not valid Unicode (a lone surrogate)") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
