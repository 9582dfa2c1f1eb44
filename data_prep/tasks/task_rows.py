"""The rows of a task's files, one after the other.

Each with its example, or with why it became none.

Preparation, `raytrain check` and `raytrain data show` all read rows here, so they agree on which
rows are bad and which are left out.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.config import Task
from data_prep.sources.files import SourceFile
from data_prep.sources.source_row import SourceRow
from data_prep.sources.spans import WHOLE, Span
from data_prep.tally import Event
from data_prep.tasks.examples import Example, LeftOut, example_maker, row_transform
from data_prep.tasks.profile import Profile, profile_of
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


def task_profile(task: Task, files: Iterable[SourceFile], scratch: Path) -> Profile:
    """Returns what the columns of all files tell; reads them if the task needs that."""
    return profile_of(task, [partial(file.rows, scratch) for file in files], row_transform(task))


def read_task_rows(
    task: Task, files: Sequence[SourceFile], scratch: Path, profile: Profile | None = None, span: Span = WHOLE
) -> Iterator[TaskRow]:
    """Yields every row of `files` in order, or of a span of the only one.

    Files in a bucket are downloaded to `scratch`. `profile` is that of all files of the task, by
    default of these.
    """
    make = example_maker(task, task_profile(task, files, scratch) if profile is None else profile)
    for file in files:
        for row in file.rows(scratch, span):
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
    place = (file.name, row.number)
    example = Example(made.input, made.targets, made.meta, made.id, events, place, made.tail)  # see `example_of`
    return TaskRow(file, row.number, example, events=events)


def _bad(file: SourceFile, number: int, reason: str) -> TaskRow:
    return TaskRow(file, number, None, reason, (Event("bad-row", reason),))
