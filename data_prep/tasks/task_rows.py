"""The rows of a task's files, one after the other.

Each with its example, or with why it became none.

Preparation, `raytrain check` and `raytrain data show` all read rows here, so they agree on which
rows are bad and which are left out.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.config import Task
from data_prep.sources.files import SourceFile
from data_prep.sources.readers import SourceRow
from data_prep.tasks.examples import Example, example_maker
from raytrain_core.errors import RowError

Make = Callable[[Mapping[str, Any]], Example | None]


class TaskRow(NamedTuple):
    """One row of a source file.

    A bad row has an `error`; a row without example and error is left out on purpose (`where`,
    `transform`).
    """

    file: SourceFile
    number: int
    """Line in the file (row in Parquet), from 1."""
    example: Example | None
    error: str = ""

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
        return TaskRow(file, row.number, None, row.reason)
    try:
        return TaskRow(file, row.number, make(row.values))
    except RowError as error:
        return TaskRow(file, row.number, None, str(error))
