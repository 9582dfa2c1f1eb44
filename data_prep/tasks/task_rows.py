"""The rows of a task's files, one after the other.

Each with its example, or with why it became none.

Preparation, `raytrain check` and `raytrain data show` all read rows here, so they agree on which
rows are bad and which are left out.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.config import Task
from data_prep.sources.files import SourceFile
from data_prep.sources.source_row import SourceRow
from data_prep.tally import Event
from data_prep.tasks.examples import Example, LeftOut, example_maker
from raytrain_core.errors import RowError

Make = Callable[[Mapping[str, Any]], Example | LeftOut]


class TaskRow(NamedTuple):
    """One row of a source file.

    A bad row has an `error`; a row without example and error is left out on purpose (`where`,
    `transform`), as its `events` say.
    """

    file: SourceFile
    number: int
    """Line in the file (row in Parquet), from 1."""
    example: Example | None
    error: str = ""
    events: tuple[Event, ...] = ()
    """What happened to the row, for the tally."""

    @property
    def where(self) -> str:
        """`file:line`, for messages."""
        return f"{self.file.name}:{self.number}"


def read_task_rows(task: Task, files: Iterable[SourceFile], scratch: Path) -> Iterator[TaskRow]:
    """Yields every row of `files` in order; files in a bucket are downloaded to `scratch`."""
    make = example_maker(task)
    for file in files:
        for row in file.rows(scratch):
            yield _task_row(make, file, row)


def _task_row(make: Make, file: SourceFile, row: SourceRow) -> TaskRow:
    if row.values is None:
        return _bad(file, row.number, row.reason)
    try:
        made = make(row.values)
    except RowError as error:
        return _bad(file, row.number, str(error))
    if isinstance(made, LeftOut):
        return TaskRow(file, row.number, None, events=(*row.events, Event(made.kind)))
    events = (*row.events, *made.events)
    return TaskRow(file, row.number, replace(made, events=events, place=(file.name, row.number)), events=events)


def _bad(file: SourceFile, number: int, reason: str) -> TaskRow:
    return TaskRow(file, number, None, reason, (Event("bad-row", reason),))
