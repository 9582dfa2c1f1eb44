"""Rows that become no example: those that cannot are named, counted, and borne up to the job's limit."""

from typing import Any

from data_prep.config import Task
from raytrain_core.errors import DataError

NAMED_BAD_ROWS = 5


class BadRows:
    """Counts the rows of a task that become no example and decides when bad ones end its preparation."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._count = 0
        self._first: list[str] = []
        self.left_out = 0
        """Rows that the task does not want (`where`, `transform`)."""

    @property
    def fatal(self) -> bool:
        """Whether preparation will end because of them: nothing needs to be written any more."""
        return self._count > (self._task.bad_row_limit if self._task.on_bad_row == "skip" else 0)

    def add(self, file: str, number: int, reason: str) -> None:
        """One more; ends at once when there are too many, or enough to name under onBadRow: fail."""
        self._count += 1
        if len(self._first) < NAMED_BAD_ROWS:
            self._first.append(f"{file}:{number}: {reason}")
        if self.fatal and len(self._first) == NAMED_BAD_ROWS:
            self.finish()

    def finish(self) -> None:
        """DataError if there were more than are borne."""
        if not self.fatal:
            return
        lines = "\n".join(self._first)
        if self._task.on_bad_row == "skip":
            raise DataError(
                f"task {self._task.name}: more than {self._task.bad_row_limit:,} bad rows, the first are\n{lines}",
                hint="Is a column mapped wrongly? Or raise badRowLimit.",
            )
        rows = "a bad row" if self._count == 1 else "bad rows, the first are"
        raise DataError(
            f"task {self._task.name}: {rows}\n{lines}",
            hint="Correct them, or leave bad rows out with onBadRow: skip.",
        )

    def summary(self) -> dict[str, Any]:
        """For the manifest."""
        return {"count": self._count, "first": self._first}
