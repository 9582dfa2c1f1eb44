"""Stores data from a background thread, so that a slow or broken store never delays training."""

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

_log = logging.getLogger(__name__)


class Background:
    """Calls `work` in a thread after `poke()`, at most every `seconds`, and once in `close()`.

    With `heartbeat`, `work` is also called whenever that many seconds have passed since the last
    call. An exception of `work` is logged as a warning, once per series of failures, and `work` is
    called again later. So `work` must keep whatever it could not store.
    """

    def __init__(self, what: str, work: Callable[[], None], seconds: float, *, heartbeat: float | None = None) -> None:
        self._what, self._work, self._seconds, self._heartbeat = what, work, seconds, heartbeat
        self._changed = threading.Condition()
        self._due = self._now = self._closing = self._failing = False
        self._next = float("-inf")  # monotonic time of the next regular call
        self._heartbeat_at = float("inf")  # monotonic time of the next heartbeat
        self._requested = self._done = 0  # calls requested and finished, for flush()
        self._thread: threading.Thread | None = None

    def poke(self, *, now: bool = False) -> None:
        """Requests a call of `work` and returns; `now` skips the rest of the interval."""
        with self._changed:
            if self._closing:
                return
            self._due = True
            self._now = self._now or now
            self._requested += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name=f"store-{self._what}", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self) -> bool:
        """Waits until all requests have been tried; returns whether the last try succeeded."""
        self.poke(now=True)
        with self._changed:
            requested = self._requested
            self._changed.wait_for(lambda: self._done >= requested or self._closing)
            return not self._failing

    def close(self) -> bool:
        """Calls `work` a last time and stops the thread; returns whether the call succeeded."""
        with self._changed:
            first, self._closing = not self._closing, True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join()
        if first:
            self._try()
        return not self._failing

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not self._closing and not self._now and time.monotonic() < (until := self._when()):
                    self._changed.wait(min(until - time.monotonic(), threading.TIMEOUT_MAX))
                if self._closing:
                    return
                self._due = self._now = False
                requested = self._requested
            self._try()
            with self._changed:
                self._done = requested
                self._next = time.monotonic() + self._seconds
                if self._heartbeat is not None:
                    self._heartbeat_at = time.monotonic() + self._heartbeat
                self._due = self._due or self._failing
                self._changed.notify_all()

    def _when(self) -> float:
        return min(self._next, self._heartbeat_at) if self._due else self._heartbeat_at

    def _try(self) -> None:
        try:
            self._work()
        except Exception as error:  # of any kind: training must go on
            if not self._failing:
                _log.warning("%s could not be stored and will be retried: %s", self._what, error)
            self._failing = True
        else:
            if self._failing:
                _log.info("%s is stored again", self._what)
            self._failing = False


class BackgroundWriter:
    """Base of writers that store their data in a background thread; use as a context manager."""

    _background: Background

    def flush(self) -> bool:
        """Stores the data collected so far; returns whether that succeeded."""
        return self._background.flush()

    def close(self) -> bool:
        """Stores the remaining data and stops; returns whether everything is stored."""
        return self._background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
