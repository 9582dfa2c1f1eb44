"""The labels that a task allows, and the refusal of any other one."""

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from data_prep.config import Task
from raytrain_core.errors import DataError, RowError
from raytrain_core.text import show_value

RATING_LABELS = ("1", "2", "3", "4", "5")
SENTIMENT_LABELS = ("negative", "positive")

_NUMBER = re.compile(r"[+-]?(\d{1,400}(\.\d*)?|\.\d+)")  # Python converts no more than 4,300 digits
_INSIDE = re.compile(r"(?:(?<!\w)[+-])?\d+(?:\.\d+)?")


def labels_of(task: Task) -> tuple[str, ...] | None:
    """Returns the targets that a task allows; None if any.

    They are its `labels`, else the names of its source's labels, else those of its type.
    """
    if task.labels is not None:
        return tuple(task.labels)
    if task.label_names is not None and task.type != "ner":
        return tuple(dict.fromkeys(task.label_names.values()))
    return {"rating": RATING_LABELS, "sentiment": SENTIMENT_LABELS}.get(task.type)


def normal_label(value: str) -> str:
    """Strips spaces from a label, and what does not matter from a number.

    `5.0`, `05` and `+5` become `5`, `1.50` and `01.5` become `1.5`.
    """
    text = value.strip()
    if _NUMBER.fullmatch(text):
        number = Decimal(text)
        return str(int(number)) if number == number.to_integral_value() else f"{number.normalize():f}"
    return text


def find_label(value: str, labels: Sequence[str]) -> str | None:
    """Returns the label equal to `value` after `normal_label`, else the only one but for case.

    If no label is a number, a whole number is a position counted from 0. Returns None if none
    matches.
    """
    normal = normal_label(value)
    for label in labels:
        if normal_label(label) == normal:
            return label.strip()
    folded = [label.strip() for label in labels if normal_label(label).casefold() == normal.casefold()]
    if len(folded) == 1:
        return folded[0]
    if normal.isdecimal() and len(normal) < 10 and int(normal) < len(labels) and not _has_numbers(labels):
        return labels[int(normal)].strip()
    return None


def _has_numbers(labels: Sequence[str]) -> bool:
    return any(_NUMBER.fullmatch(label.strip()) for label in labels)


def places_of_labels(values: Iterable[str], labels: Sequence[str]) -> bool:
    """Whether a column has numbers that are taken for places of labels, counted from 0."""
    return not _has_numbers(labels) and any(normal_label(value).isdecimal() for value in values)


def labels_by_their_number(values: Iterable[str], labels: Sequence[str], where: str) -> bool:
    """Whether numbers in a column are those in the labels, as 5 is `5 stars`, and not places.

    Raises DataError if they can be both: with the labels `1 star` to `5 stars`, 1 to 4 are numbers
    in labels or places counted from 0; with a 0 or a 5 among them, only one of the two.
    """
    numbers = {number for value in values if _NUMBER.fullmatch(number := normal_label(value))}
    named = _numbers_in(labels)
    if not numbers or named is None or _has_numbers(labels) or not numbers <= named.keys():
        return False
    if any(find_label(number, labels) is None for number in numbers):
        return True
    if differing := sorted(number for number in numbers if named[number] != labels[int(number)].strip()):
        value = differing[0]
        raise DataError(
            f"{where}: a number in the target can be the one in a label or a label's place: {value} is "
            f"{named[value]!r} or, counted from 0, {labels[int(value)].strip()!r}",
            hint=f"Say which with labelNames, e.g. labelNames: {{{value}: {named[value]}, ...}}.",
        )
    return True


def _numbers_in(labels: Sequence[str]) -> dict[str, str] | None:
    """Labels by the one number in each; None if they have none or share one."""
    found = [_INSIDE.findall(label) for label in labels]
    if any(len(numbers) != 1 for numbers in found):
        return None
    named = {normal_label(numbers[0]): label.strip() for numbers, label in zip(found, labels, strict=True)}
    return named if len(named) == len(labels) else None


def require_label(value: str, labels: Sequence[str], *, by_number: bool = False) -> str:
    """Returns the label that `value` means; raises RowError if it is not one of `labels`.

    `by_number` as `labels_by_their_number` found for the column.
    """
    named = _numbers_in(labels) if by_number else None
    label = (named or {}).get(normal_label(value)) or find_label(value, labels)
    if label is None:
        raise RowError(f"label {show_value(value)} is not one of {', '.join(labels)}")
    return label


def label_name(value: Any, names: Mapping[str, str]) -> str:
    """The name of a source label."""
    key = str(value).lower() if isinstance(value, bool) else normal_label(str(value))
    if key not in names:
        normal = {normal_label(name).casefold(): name for name in names}
        key = normal.get(key.casefold(), key) if len(normal) == len(names) else key
    if key not in names:
        raise RowError(f"label {show_value(value)} is not one of labelNames ({', '.join(names)})")
    return names[key]
