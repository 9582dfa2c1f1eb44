"""The columns that a task needs, and whether a source has them."""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence

from data_prep.config import Task
from data_prep.config.row_conditions import compile_condition
from data_prep.sources.file_names import format_of
from data_prep.sources.source_row import SourceRow
from data_prep.tasks.kept_rows import Row, Transform, kept_rows
from raytrain_core.errors import DataError
from raytrain_core.text import did_you_mean

_FIRST_ROWS = 1000  # a column that rows may omit must occur in the first rows of a file


def needed_columns(task: Task) -> list[str]:
    """Returns the columns that every row must have.

    `a|b` stands for whichever of the two a row has.
    """
    columns = task.columns
    if columns.tokens is not None and columns.tags is not None:
        needed = [columns.tokens, columns.tags]
    else:
        needed = [columns.input, columns.target]
    if columns.choices is not None:
        needed.append(columns.choices)
    return needed + ([columns.id] if columns.id is not None else [])


def used_columns(task: Task) -> list[str]:
    """Returns every column that can end up in an example."""
    return [name for column in [*needed_columns(task), *task.columns.references] for name in alternatives(column)]


@functools.cache  # asked for every row
def alternatives(column: str) -> tuple[str, ...]:
    """Splits `summary|summaries` into its names; the first that a row has is used."""
    return tuple(name.strip() for name in column.split("|"))


def check_columns(task: Task, file: str, rows: Callable[[], Iterable[SourceRow]], transform: Transform) -> None:
    """Raises DataError unless a file has the task's columns.

    The first row kept by `where` must have the needed columns; columns that rows may omit must
    occur among the first rows. `rows` starts reading the file from its beginning.
    """
    condition = compile_condition(task.where) if task.where is not None else None
    everything, kept = kept_rows(rows(), transform), kept_rows(rows(), transform, condition)
    if condition is not None:
        first = itertools.islice(everything, _FIRST_ROWS)
        _check(task, file, condition.columns, _columns(first, condition.columns))
    for row in kept:
        _check(task, file, needed_columns(task), list(row))
        more = itertools.islice(kept, _FIRST_ROWS)
        _check(task, file, task.columns.references, _columns(itertools.chain([row], more), task.columns.references))
        return


def _columns(rows: Iterable[Row], required: Sequence[str]) -> list[str] | None:
    """The columns of `rows`, read until all required ones were found; None if there are no rows."""
    known: dict[str, None] = {}
    for row in rows:
        known |= dict.fromkeys(row)
        if all(any(name in known for name in alternatives(column)) for column in required):
            break
    return list(known) or None


def _check(task: Task, file: str, required: Sequence[str], columns: Sequence[str] | None) -> None:
    if columns is None:
        return
    for column in required:
        names = alternatives(column)
        if not any(name in columns for name in names):
            alone = "If its fields are divided by another character, set source.csv.delimiter."
            raise DataError(
                f"task {task.name}: {file} has no column {' or '.join(map(repr, names))}"
                f"{did_you_mean(names[0], columns)}",
                hint=f"Its columns are {', '.join(map(repr, columns))}. Map them with `columns`; "
                "`a|b` uses whichever of the two a row has."
                + (f" {alone}" if len(columns) == 1 and format_of(file) in ("csv", "tsv") else ""),
            )
