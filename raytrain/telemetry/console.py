"""Shows the progress of a run on standard error.

A terminal gets a progress bar with the remaining time; a log file or CI gets a line every few
seconds. Results go to standard output, which this module does not touch.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from raytrain_core.text import duration

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Console:
    """Shows phases with progress, lines and warnings; may be called from several threads.

    `stream` defaults to standard error, `interactive` to whether that is a terminal. `interval` is
    the minimum number of seconds between two progress lines if it is not; `clock` returns monotonic
    seconds.
    """

    def __init__(
        self,
        *,
        stream: TextIO | None = None,
        interactive: bool | None = None,
        interval: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._interactive = is_interactive(self._stream) if interactive is None else interactive
        self._interval = interval
        self._clock = clock
        self._lock = threading.RLock()
        self._phase = ""
        self._began = clock()
        self._first: float | None = None  # progress at the first update: a resumed run starts in the middle
        self._last_line = float("-inf")
        self._last_text = ""
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def phase(self, name: str) -> None:
        """Begins a phase and finishes the bar of the previous one."""
        with self._lock:
            self.close()
            self._phase, self._began, self._first = name, self._clock(), None
            self._last_line, self._last_text = float("-inf"), ""
            if not self._interactive:
                self._write(f"{name} ...")

    def update(self, done: float, total: float | None = None, text: str = "") -> None:
        """Shows `done` of `total` (None if unknown), and a short text such as the loss."""
        with self._lock:
            if self._first is None:
                self._first, self._began = done, self._clock()
            if self._interactive:
                self._draw(done, total, text)
                return
            finished = total is not None and done >= total
            now = self._clock()
            line = self._progress_line(done, total, text, now)
            if line != self._last_text and (finished or now - self._last_line >= self._interval):
                self._last_line, self._last_text = now, line
                self._write(line)

    def line(self, text: str) -> None:
        """Prints a line that stays on the screen."""
        with self._lock:
            if self._bar is not None:
                self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                self._write(text)

    def warning(self, text: str) -> None:
        """Prints a warning; the run goes on."""
        self.line(f"warning: {text}")

    def close(self) -> None:
        """Finishes the current bar, if any; the console remains usable."""
        with self._lock:
            if self._bar is not None:
                self._bar.stop()
                self._bar = self._task = None

    def _progress_line(self, done: float, total: float | None, text: str, now: float) -> str:
        parts = [f"{self._phase}: {_count(done)}" + (f"/{_count(total)}" if total else "")]
        if total:
            parts[0] += f" ({done / total:.0%})"
            gained, spent = done - (self._first or 0.0), now - self._began
            if gained > 0 and spent > 0 and done < total:
                parts.append(f"{duration(spent * (total - done) / gained)} left")
        return ", ".join([*parts, *([text] if text else [])])

    def _draw(self, done: float, total: float | None, text: str) -> None:
        if self._bar is None:
            self._bar = _new_bar(self._stream)
            self._task = self._bar.add_task(self._phase, total=total, text=text)
            self._bar.start()
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total, text=text)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            pass  # the reader is gone: progress output must never end a run


def is_interactive(stream: TextIO) -> bool:
    """Whether the stream can show progress bars: a terminal that is not dumb, outside CI."""
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")


def _count(number: float) -> str:
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.1f}"


def _new_bar(stream: TextIO) -> "Progress":
    import rich.console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        console=rich.console.Console(file=stream, force_terminal=True, no_color="NO_COLOR" in os.environ),
        transient=False,
        refresh_per_second=4,
    )
