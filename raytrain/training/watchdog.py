"""Notices a worker that makes no progress.

The worker can then log where it hangs and end, and its group restarts. A collective waits for the
slowest: when one worker hangs, all of them do, and each logs its own stacks. A worker that the
system has stopped cannot; Ray finds it by its silence.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Self

LONGEST_FACTOR = 10.0
"""A silence must be this many times the longest one so far: large models take long steps."""
FIRST_FACTOR = 5.0
"""The first step may take this many times as long: kernels are chosen, workers are late."""


class Watchdog:
    """Calls `on_hang(seconds of silence, stacks)` if there is no heartbeat for `seconds`.

    Never if that is 0. If `on_hang` returns there was a reason to wait, and the watch begins again.
    Use it as a context manager around the work, which calls `heartbeat` after every piece of
    progress.
    """

    def __init__(self, seconds: float, on_hang: Callable[[float, str], None]) -> None:
        self._seconds, self._on_hang = seconds, on_hang
        self._last, self._longest, self._beats = time.monotonic(), 0.0, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def heartbeat(self) -> None:
        """Notes that the work has made progress."""
        now = time.monotonic()
        if self._beats:
            self._longest = max(self._longest, now - self._last)
        self._last = now
        self._beats += 1

    @property
    def limit(self) -> float:
        """Seconds of silence that count as a hang now."""
        if self._beats < 2:
            return FIRST_FACTOR * self._seconds
        return max(self._seconds, LONGEST_FACTOR * self._longest)

    def __enter__(self) -> Self:
        self._last = time.monotonic()
        if self._seconds > 0:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self._seconds / 10)):
            silent = time.monotonic() - self._last
            if silent > self.limit:
                self._on_hang(silent, stacks())
                self._last = time.monotonic()


def stacks() -> str:
    """Returns the stack of every thread of this process, the innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame)).rstrip()}"
        for ident, frame in sys._current_frames().items()
    )
