"""Counts the rows of a task, and fails if too many are bad."""

from typing import Self

from data_prep.config import Task
from data_prep.tally import Tally
from data_prep.tasks.task_rows import TaskRow
from raytrain_core.errors import DataError

NAMED_BAD_ROWS = 5


class BadRows:
    """Tallies rows, names the first five bad ones, and knows how many the job tolerates."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.tally = Tally()
        self.count = 0
        self.first: list[str] = []
        """The first five, each as `file:line: reason`."""

    @property
    def left_out(self) -> int:
        """The number of rows left out on purpose (`where`, `transform`)."""
        return self.tally.count("where") + self.tally.count("transform")

    @property
    def fatal(self) -> bool:
        """Whether there are more than the job tolerates.

        Preparation will fail, so nothing more needs to be written.
        """
        return self.count > (self._task.bad_row_limit if self._task.on_bad_row == "skip" else 0)

    def add(self, row: TaskRow) -> None:
        """Counts a row and what happened to it; never raises."""
        self.tally.add_row(row.file.name, row.number, row.events)
        if not row.error:
            return
        self.count += 1
        if len(self.first) < NAMED_BAD_ROWS:
            self.first.append(f"{row.where}: {row.error}")

    def merge(self, later: Self) -> None:
        """Adds what was counted of the rows that follow."""
        self.tally.merge(later.tally)
        self.count += later.count
        self.first += later.first[: NAMED_BAD_ROWS - len(self.first)]

    def fail_early(self) -> None:
        """Raises DataError as soon as there are too many bad rows and enough of them to name."""
        if len(self.first) == NAMED_BAD_ROWS:
            self.check()

    def check(self) -> None:
        """Raises DataError if there are more bad rows than the job tolerates."""
        if not self.fatal:
            return
        lines = "\n".join(self.first)
        if self._task.on_bad_row == "skip":
            raise DataError(
                f"task {self._task.name}: more than {self._task.bad_row_limit:,} bad rows; the first are\n{lines}",
                hint="Check the column mapping, or raise badRowLimit.",
            )
        rows = "a bad row" if self.count == 1 else "bad rows; the first are"
        raise DataError(
            f"task {self._task.name}: {rows}\n{lines}",
            hint="Correct them, or skip bad rows with onBadRow: skip.",
        )
