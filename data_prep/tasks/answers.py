"""What the target of multiple-choice means: a choice's text, name or letter, or its place.

A number may be the text of a choice or its place, counted from 0 or from 1. One rule holds for
numbers in JSON and for the same digits in CSV: the meaning that fits all rows of the column. If two
fit and differ, the column is refused with both.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from data_prep.config import Task
from data_prep.tasks.columns import alternatives
from data_prep.tasks.values import is_number, is_whole, number_text, unpacked
from raytrain_core.errors import DataError, RowError

Row = Mapping[str, Any]
Reading = Literal["text", "from-0", "from-1"]

_LETTER = re.compile(r"^\(?([A-Za-z])\)?[.:]?$")
_DIGITS = re.compile(r"[+-]?\d{1,400}(\.0)?")  # floats have up to 309, Python converts no more than 4,300


def find_choice(
    value: Any, choices: Sequence[str], names: Sequence[str] | None = None, reading: Reading | None = None
) -> int:
    """Returns the index of the choice that `value` is: its name, text, letter or place.

    Without a `reading` of the whole column, a number that is both a text and another one's place is
    refused. Raises RowError if it is none of them.
    """
    text = number_text(value, whole=True) if is_number(value) else str(value).strip()
    if names and text in names:
        return names.index(text)
    if _DIGITS.fullmatch(text):
        return _number(text, choices, reading)
    if choices.count(text) == 1:
        return choices.index(text)
    match = _LETTER.match(text)
    if match and (index := ord(match[1].upper()) - ord("A")) < len(choices):
        return index
    raise RowError(f"target {text[:60]!r} is not one of the choices")


def _number(text: str, choices: Sequence[str], reading: Reading | None) -> int:
    found = meanings(text, choices)
    if reading is None:
        found = {name: index for name, index in found.items() if name != "from-1"}
        if len(set(found.values())) > 1:
            raise RowError(f"target {text} is {_both(found, choices)}: say which with numberChoices")
        reading = next(iter(found), "from-0")
    if reading not in found:
        how = "one of the choices" if reading == "text" else f"one of the {len(choices)} choices"
        raise RowError(f"target {text} is not {how}" + ("" if reading == "text" else f" (counted {_from(reading)})"))
    return found[reading]


def _from(reading: Reading | None) -> str:
    return "from 1" if reading == "from-1" else "from 0"


def _both(found: Mapping[Reading, int], choices: Sequence[str]) -> str:
    parts = [
        f"the text of ({chr(ord('A') + index)})"
        if reading == "text"
        else f"the place, counted {_from(reading)}, of ({chr(ord('A') + index)}) {choices[index][:40]!r}"
        for reading, index in found.items()
    ]
    return " and also ".join(parts)


def meanings(text: str, choices: Sequence[str]) -> dict[Reading, int]:
    """Returns the index of the choice for each meaning of a number that gives one."""
    number = _integer(text)
    found: dict[Reading, int] = {}
    same = [
        index
        for index, choice in enumerate(choices)
        if _DIGITS.fullmatch(choice.strip()) and _integer(choice) == number
    ]
    if len(same) == 1:
        found["text"] = same[0]
    if 0 <= number < len(choices):
        found["from-0"] = number
    if 1 <= number <= len(choices):
        found["from-1"] = number - 1
    return found


def _integer(text: str) -> int:
    """All digits of it: as a float, 9007199254740993 would be 9007199254740992."""
    return int(text.strip().removesuffix(".0"))


def choice_texts(value: Any) -> tuple[list[Any], list[str] | None] | None:
    """Returns choices and their names (or None) of a cell; None if it holds no list."""
    value, names = unpacked(value), None
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        names = value.get("label")
        value = value["text"]
    if not isinstance(value, list):
        return None
    fits = isinstance(names, list) and len(names) == len(value)
    texts = [number_text(one, whole=_whole(value)) if is_number(one) else one for one in value]
    return texts, [str(name) for name in names] if fits and names is not None else None


def _whole(values: Sequence[Any]) -> bool:
    """Whether the numbers of a list are whole, so that pandas' .0 of them means nothing."""
    return all(is_whole(value) for value in values if value is not None)


Meanings = tuple[tuple[Reading, int], ...]
"""The choice that each meaning of a row's number gives."""


def number_meanings(task: Task, row: Row) -> tuple[Meanings, str]:
    """Returns the meanings of a row's number, and the row in words; none if it has no number."""
    answer = next((row[name] for name in alternatives(task.columns.target) if name in row), None)
    column = task.columns.choices or ""
    found = next((choice_texts(row[name]) for name in alternatives(column) if name in row), None)
    if isinstance(answer, bool) or not isinstance(answer, int | float | str) or found is None:
        return (), ""
    try:
        text = answer.strip() if isinstance(answer, str) else number_text(answer, whole=True)
    except RowError:
        return (), ""
    choices, names = [str(choice) for choice in found[0]], found[1]
    if (names and text in names) or not _DIGITS.fullmatch(text):
        return (), ""
    possible = meanings(text, choices)
    told = f"{text} is {_both({r: i for r, i in possible.items() if r != 'from-1'}, choices)}"
    return tuple(possible.items()), told if possible.get("text", -1) != possible.get("from-0", -1) else ""


def decide_reading(task: Task, rows: Mapping[Meanings, int], example: str) -> Reading | None:
    """Returns the meaning that fits most rows with numbers; None if there are none.

    Raises DataError if two of them fit equally many rows but mean other choices.
    """
    if task.number_choices is not None:
        return task.number_choices
    fits: dict[Reading, int] = {"text": 0, "from-0": 0, "from-1": 0}
    for found, count in rows.items():
        for reading, _ in found:
            fits[reading] += count
    best = max(fits.values())
    if not best:
        return None
    fitting = [reading for reading, count in fits.items() if count == best]
    if fitting[0] == "text" and "from-0" in fitting and any(_differ(dict(found)) for found in rows):
        raise DataError(
            f"task {task.name}: a number in {task.columns.target!r} can be a choice's text or its place: {example}",
            hint="Say which with numberChoices: text, from-0 or from-1.",
        )
    if fitting == ["from-0", "from-1"]:
        raise DataError(
            f"task {task.name}: the numbers in {task.columns.target!r} can be places of the choices counted from 0 or "
            "from 1: both fit equally many rows",
            hint="Say which with numberChoices: from-0 or from-1.",
        )
    return fitting[0]


def _differ(found: Mapping[Reading, int]) -> bool:
    return "text" in found and "from-0" in found and found["text"] != found["from-0"]
