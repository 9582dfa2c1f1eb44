"""Which columns a task needs of a row, and whether a source has them."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from data_prep.document import Task
from data_prep.document.loader import suggest
from data_prep.errors import DataError, UsageError
from data_prep.expressions import compile_condition
from data_prep.readers import SourceRow
from data_prep.task_types import RowError

_LOOKED_AT = 100  # first rows of a file in which a column must be that some rows may leave out

Row = Mapping[str, Any]


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


def used_columns(task: Task) -> list[str]:
    """Every column that ends up in an example, as a row may have it."""
    return [name for column in [*needed_columns(task), *task.columns.references] for name in alternatives(column)]


def alternatives(column: str) -> list[str]:
    """The names that a column mapping stands for: `summary|summaries` is the first of the two that a row has."""
    return [name.strip() for name in column.split("|")]


def check_columns(task: Task, file: str, rows: Iterable[SourceRow], transform: Callable[[Row], Row | None]) -> None:
    """DataError unless the first row of a file has the columns that every row must have, and one of the first rows
    those that may be missing in some."""
    needed, optional = needed_columns(task), list(task.columns.references)
    if task.where is not None:
        optional += compile_condition(task.where).columns
    known: list[str] = []
    for row in itertools.islice(_transformed(rows, transform), _LOOKED_AT if optional else 1):
        if not known:
            _check(task, file, needed, list(row))
        known += [column for column in row if column not in known]
        if all(any(name in known for name in alternatives(column)) for column in optional):
            return
    if known:
        _check(task, file, optional, known)


def _transformed(rows: Iterable[SourceRow], transform: Callable[[Row], Row | None]) -> Iterable[Row]:
    for row in rows:
        if row.values is not None:
            try:
                found = transform(row.values)
            except RowError:  # a bad row, named when it is its turn
                continue
            if found is not None:
                yield found


def _check(task: Task, file: str, wanted: Sequence[str], columns: Sequence[str]) -> None:
    for column in wanted:
        names = alternatives(column)
        if not any(name in columns for name in names):
            meant = suggest(names[0], columns)
            raise DataError(
                f"task {task.name}: {file} has no column {' or '.join(map(repr, names))}"
                + (f", did you mean {meant!r}?" if meant else ""),
                hint=f"Its columns are {', '.join(map(repr, columns))}. Map them with `columns`; "
                "`a|b` takes whichever of the two a file has.",
            )
