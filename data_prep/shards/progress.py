"""How far preparation is, over all tasks that have something to do."""

from collections.abc import Callable
from dataclasses import dataclass

_READ_ROWS = 2000  # between two reports while rows are only read


@dataclass(frozen=True, slots=True)
class PrepareProgress:
    """Examples done of all that are to be prepared now, and the task that is worked on.

    `total` is None where the rows cannot be counted before they are read; until a task's rows are
    read it may be somewhat too large.
    """

    task: str
    done: int
    total: int | None


OnProgress = Callable[[PrepareProgress], None]


class ProgressMeter:
    """Counts the examples that are done; also tells while rows are only read, so that one can stop there."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._totals: dict[str, int | None] = {}
        self._task = ""
        self._done = self._read = 0

    def expect(self, task: str, examples: int | None) -> None:
        """A task is going to have so many examples; None where that is not known yet."""
        self._totals[task] = examples

    def working_on(self, task: str) -> None:
        """This task's rows are read now."""
        self._task = task

    def read(self) -> None:
        """One row more was read."""
        self._read += 1
        if self._read % _READ_ROWS == 0:
            self.report()

    def advance(self, examples: int) -> None:
        """So many more are done."""
        self._done += examples
        self.report()

    def report(self) -> None:
        """Say how far it is."""
        known = [total for total in self._totals.values() if total is not None]
        total = sum(known) if len(known) == len(self._totals) else None
        self._on_progress(PrepareProgress(self._task, self._done, total))
