"""The labels that a task allows, and the refusal of any other one."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.config import Task
from raytrain_core.errors import RowError
from raytrain_core.text import show_value

RATING_LABELS = ("1", "2", "3", "4", "5")
SENTIMENT_LABELS = ("negative", "positive")

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")


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
    """Strips spaces from a label, and zeros from a whole number: `5.0` and `05` become `5`."""
    text = value.strip()
    if re.fullmatch(r"[+-]?\d+(\.0*)?", text):
        return str(int(text.partition(".")[0]))
    return text


def find_label(value: str, labels: Sequence[str]) -> str | None:
    """Returns the label equal to `value` after `normal_label`, else the only one but for case.

    If no label is a number, a whole number is a position counted from 0. Returns None if none
    matches.
    """
    normal = normal_label(value)
    for label in labels:
        if normal_label(label) == normal:
            return normal_label(label)
    folded = [normal_label(label) for label in labels if normal_label(label).casefold() == normal.casefold()]
    if len(folded) == 1:
        return folded[0]
    if normal.isdecimal() and int(normal) < len(labels) and not any(_NUMBER.fullmatch(one.strip()) for one in labels):
        return normal_label(labels[int(normal)])
    return None


def require_label(value: str, labels: Sequence[str]) -> str:
    """Returns the label that `value` means; raises RowError if it is not one of `labels`."""
    label = find_label(value, labels)
    if label is None:
        raise RowError(f"label {show_value(value)} is not one of {', '.join(labels)}")
    return label


def label_name(value: Any, names: Mapping[str, str]) -> str:
    """The name of a source label."""
    key = str(value).lower() if isinstance(value, bool) else normal_label(str(value))
    if key not in names:
        raise RowError(f"label {show_value(value)} is not one of labelNames ({', '.join(names)})")
    return names[key]
