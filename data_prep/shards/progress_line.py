"""How far preparation is, on one line of a terminal, or as a line now and then in a log."""

import time
from types import TracebackType
from typing import Self, TextIO

from data_prep.shards.progress import PrepareProgress
from raytrain_core.text import duration

_SECONDS = 0.2, 10.0  # between two lines on a terminal, and elsewhere


class ProgressLine:
    """Shows progress with the time that is left; `heard` says whether there was any."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._terminal = stream, stream.isatty()
        self._began = self._shown = time.monotonic()
        self._open = self.heard = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def show(self, progress: PrepareProgress) -> None:
        """Called as often as one likes."""
        now = time.monotonic()
        if not self.heard:
            self.heard, self._began = True, now
        finished = progress.done == progress.total
        if now - self._shown < _SECONDS[not self._terminal] and not (finished and self._terminal):
            return
        self._shown = now
        text = f"{progress.task}: {progress.done:,}"
        if progress.total:
            text += f" of {progress.total:,} examples ({progress.done / progress.total:.0%})"
            if progress.done and not finished:
                left = (now - self._began) * (progress.total - progress.done) / progress.done
                text += f", {duration(left)} left"
        else:
            text += " examples"
        self._open = self._terminal
        print(f"\r\x1b[K{text}" if self._terminal else text, end="" if self._terminal else "\n", file=self._stream)
        self._stream.flush()

    def close(self) -> None:
        """End the line; what is printed next stands on one of its own."""
        if self._open:
            print(file=self._stream)
        self._open = False
