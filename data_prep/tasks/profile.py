"""What only the whole of a column tells: tag spelling, whole numbers, what a number means.

Tasks that need it read their rows once more beforehand. `Observations` of parts of the rows merge
in any order to those of all, so the outcome does not depend on how reading was divided.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from data_prep.config import Task
from data_prep.config.row_conditions import compile_condition
from data_prep.config.unused_settings import NUMBER_TASKS
from data_prep.sources.source_row import SourceRow
from data_prep.tally import Tally
from data_prep.tasks.answers import Meanings, Reading, decide_reading, number_meanings
from data_prep.tasks.columns import alternatives
from data_prep.tasks.kept_rows import Row, Transform, kept_rows
from data_prep.tasks.labels import label_name, labels_by_their_number, labels_of, places_of_labels
from data_prep.tasks.tag_schemes import Tags, describe, detect, spellings
from data_prep.tasks.values import has_point_zero, is_whole, looks_like_list, parse_list, unpacked
from raytrain_core.errors import RowError

LIST_TASKS = ("question-answering", "summarization", "ner", "multiple-choice")
"""Task types whose targets may be lists of references, never a text in brackets."""
_MOST_LABELS = 1000


@dataclass(frozen=True, slots=True)
class Profile:
    """What was found over the whole column; None and empty where that does not matter."""

    tags: Tags | None = None
    whole: frozenset[str] = frozenset()
    """Columns whose every number is whole although some are written with `.0`."""
    lists: frozenset[str] = frozenset()
    """Columns of texts that all spell lists."""
    reading: Reading | None = None
    """What a number in the target of multiple-choice means."""
    labels_by_number: bool = False
    """Whether a number is the one in a label (`5 stars`), not a place."""
    detected: tuple[str, ...] = ()
    """The findings in words, for the record."""

    def tally(self, file: str) -> Tally:
        """Returns what was detected, placed at the first file."""
        tally = Tally()
        for found in self.detected:
            tally.add("detected", file, note=found)
        return tally


@dataclass(slots=True)
class _Column:
    """What the values of one column look like."""

    values: int = 0
    whole: int = 0
    point_zero: int = 0
    lists: int = 0

    def add(self, value: Any) -> None:
        """Looks at one value."""
        if isinstance(value, str):
            if value[:1].isalpha() and value[0] != "a":  # nearly every text: no number, no list, no `array(`
                self.values += 1
                return
            if looks_like_list(value):
                self.lists += isinstance(parse_list(value), list)
        for one in value if isinstance(value, list) else [value]:
            if one is None or one == "":
                continue
            self.values += 1
            self.whole += is_whole(one)
            self.point_zero += has_point_zero(one)

    def merge(self, other: "_Column") -> None:
        """Adds what `other` saw."""
        self.values += other.values
        self.whole += other.whole
        self.point_zero += other.point_zero
        self.lists += other.lists


@dataclass(slots=True)
class Observations:
    """What was seen in rows; merges."""

    columns: dict[str, _Column] = field(default_factory=dict)
    tags: Counter[str] = field(default_factory=Counter)
    meanings: Counter[Meanings] = field(default_factory=Counter)
    """Rows of multiple-choice by what their number can mean."""
    ambiguous: str = ""
    """One of the rows whose number has two meanings, in words: the first in alphabetical order."""
    labels: set[str] = field(default_factory=set)

    def merge(self, other: Self) -> None:
        """Adds what `other` saw."""
        for name, column in other.columns.items():
            self.columns.setdefault(name, _Column()).merge(column)
        self.tags += other.tags
        self.meanings += other.meanings
        self.ambiguous = min(filter(None, (self.ambiguous, other.ambiguous)), default="")
        self.labels |= other.labels


def is_needed(task: Task) -> bool:
    """Whether examples of this task depend on whole columns."""
    choices = task.columns.choices is not None and task.number_choices is None
    return task.columns.tags is not None or choices or labels_of(task) is not None or bool(_observed(task))


def profile_of(task: Task, files: Iterable[Callable[[], Iterable[SourceRow]]], transform: Transform) -> Profile:
    """Reads the rows that the task keeps, if it needs that, and returns what they have in common.

    Raises DataError for a column that has two meanings.
    """
    if not is_needed(task):
        return Profile()
    seen = Observations()
    for rows in files:
        seen.merge(observe(task, rows(), transform))
    return conclude(task, seen)


def observe(task: Task, rows: Iterable[SourceRow], transform: Transform) -> Observations:
    """Returns what is seen in the rows that the task keeps."""
    seen, columns = Observations(), _observed(task)
    condition = compile_condition(task.where) if task.where is not None else None
    for row in kept_rows(rows, transform, condition):
        for name in columns:
            if name in row:
                seen.columns.setdefault(name, _Column()).add(row[name])
        if task.columns.tags is not None:
            _observe_tags(task, seen, row)
        elif task.columns.choices is not None:
            found, told = number_meanings(task, row)
            seen.meanings[found] += 1
            seen.ambiguous = min(filter(None, (seen.ambiguous, told)), default="")
        elif labels_of(task) is not None and len(seen.labels) < _MOST_LABELS:
            values = (row.get(name) for name in alternatives(task.columns.target))
            seen.labels.update(str(value) for value in values if value is not None)
    return seen


def _observed(task: Task) -> list[str]:
    """Columns whose numbers or lists depend on the whole column."""
    columns = [task.columns.id] if task.columns.id is not None else []
    if labels_of(task) is None and task.label_names is None and task.type in {*LIST_TASKS, *NUMBER_TASKS}:
        columns += [task.columns.target, *task.columns.references]
    return [name for column in columns for name in alternatives(column)]


def _observe_tags(task: Task, seen: Observations, row: Row) -> None:
    assert task.columns.tags is not None
    for name in alternatives(task.columns.tags):
        tags = unpacked(row.get(name))
        if not isinstance(tags, list):
            continue
        try:
            named = [label_name(tag, task.label_names) for tag in tags] if task.label_names else tags
        except RowError:  # a bad row: reported when it is read
            continue
        if any(isinstance(tag, str) for tag in named):
            seen.tags.update(str(tag) for tag in named if isinstance(tag, str | int))


def conclude(task: Task, seen: Observations) -> Profile:
    """Returns the profile that all rows together have; raises DataError for two meanings."""
    where = f"task {task.name}"
    tags = _tags(task, seen, where)
    reading = decide_reading(task, seen.meanings, seen.ambiguous)
    labels = labels_of(task) if task.label_names is None else None
    by_number = labels is not None and labels_by_their_number(seen.labels, labels, where)
    numeric = task.type in NUMBER_TASKS
    ids = alternatives(task.columns.id) if task.columns.id is not None else ()
    whole = {
        name
        for name, column in seen.columns.items()
        if task.whole_numbers == "detect"
        and (numeric or name in ids)
        and column.point_zero
        and column.whole == column.values
    }
    lists = {name for name, column in seen.columns.items() if column.lists and column.lists == column.values}
    found = [f"tags of column {task.columns.tags}: {describe(tags.scheme)}"] if tags is not None else []
    found += [f"column {name}: whole numbers, written without .0" for name in sorted(whole)]
    found += [f"column {name}: lists written as text" for name in sorted(lists) if task.type in LIST_TASKS]
    if reading is not None:
        found.append(f"numbers in column {task.columns.target}: {READINGS[reading]}")
    if labels is not None and (by_number or places_of_labels(seen.labels, labels)):
        meant = "those in the labels" if by_number else "places of the labels, counted from 0"
        found.append(f"numbers in column {task.columns.target}: {meant}")
    return Profile(tags, frozenset(whole), frozenset(lists), reading, by_number, tuple(found))


READINGS: dict[Reading, str] = {
    "text": "texts of the choices",
    "from-0": "places of the choices, counted from 0",
    "from-1": "places of the choices, counted from 1",
}


def _tags(task: Task, seen: Observations, where: str) -> Tags | None:
    if task.columns.tags is None:
        return None
    if task.tag_scheme is not None:
        return Tags(task.tag_scheme, spellings(seen.tags, task.tag_scheme, task.labels))
    return detect(seen.tags, task.labels, f"{where}: column {task.columns.tags}") if seen.tags else None
