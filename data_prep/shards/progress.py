"""The progress of a preparation.

How it is counted, reported and shown on a terminal or in a log.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TextIO

from raytrain_core.text import duration

_READ_ROWS = 2000  # between two reports while rows are only read
_SECONDS = 0.2, 10.0  # between two lines on a terminal, and elsewhere


@dataclass(frozen=True, slots=True)
class PrepareProgress:
    """Examples finished, how many there are to prepare, and the task whose rows are being read.

    `total` is None if the rows cannot be counted before they are read. Until a task's rows are
    read, it may be somewhat too large.
    """

    task: str
    done: int
    total: int | None


OnProgress = Callable[[PrepareProgress], None]


class ProgressMeter:
    """Counts finished examples.

    Also reports while rows are only read, so that the receiver can stop there.
    """

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._totals: dict[str, int | None] = {}
        self._task = ""
        self._done = self._read = 0

    def expect(self, task: str, examples: int | None) -> None:
        """Sets how many examples a task will have; None if that is not known yet."""
        self._totals[task] = examples

    def start_task(self, task: str) -> None:
        """Sets the task whose rows are being read."""
        self._task = task

    def add_read(self, rows: int) -> None:
        """Counts more rows as read, and reports now and then."""
        before, self._read = self._read, self._read + rows
        if before // _READ_ROWS != self._read // _READ_ROWS:
            self.report()

    def advance(self, examples: int) -> None:
        """Counts more examples as finished, and reports."""
        self._done += examples
        self.report()

    def report(self) -> None:
        """Calls `on_progress` with the present state."""
        known = [total for total in self._totals.values() if total is not None]
        total = sum(known) if len(known) == len(self._totals) else None
        self._on_progress(PrepareProgress(self._task, self._done, total))


class ProgressLine:
    """Shows progress and the time left.

    On one line of a terminal, or as a line now and then in a log.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._terminal = stream, stream.isatty()
        self._began = self._shown = time.monotonic()
        self._open = False
        self.used = False
        """Whether there was any progress to show."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def show(self, progress: PrepareProgress) -> None:
        """Shows this state unless the last one was shown a moment ago."""
        now = time.monotonic()
        if not self.used:
            self.used, self._began = True, now
        finished = progress.done == progress.total
        if now - self._shown < _SECONDS[not self._terminal] and not (finished and self._terminal):
            return
        self._shown = now
        text = self._text(progress, now)
        self._open = self._terminal
        print(f"\r\x1b[K{text}" if self._terminal else text, end="" if self._terminal else "\n", file=self._stream)
        self._stream.flush()

    def close(self) -> None:
        """Ends the line, so that later output starts on a line of its own."""
        if self._open:
            print(file=self._stream)
        self._open = False

    def _text(self, progress: PrepareProgress, now: float) -> str:
        if not progress.total:
            return f"{progress.task}: {progress.done:,} examples"
        text = f"{progress.task}: {progress.done:,} of {progress.total:,} examples"
        text += f" ({progress.done / progress.total:.0%})"
        if progress.done and progress.done != progress.total:
            left = (now - self._began) * (progress.total - progress.done) / progress.done
            text += f", {duration(left)} left"
        return text
