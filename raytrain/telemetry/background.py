"""A thread that stores what has piled up, so that a slow or broken store never holds up or ends the training."""

import logging
import threading
import time
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Background:
    """Calls `work` in a thread of its own after `poke()`, at most every `seconds`, and once more at `close()`.

    With `heartbeat` it is called again whenever that many seconds have passed since the last call,
    poked or not. What `work` raises is logged as a warning (once per series of failures) and `work`
    is called again later; so it must keep what it could not store.
    """

    def __init__(self, what: str, work: Callable[[], None], seconds: float, *, heartbeat: float | None = None) -> None:
        self._what, self._work, self._seconds, self._heartbeat = what, work, seconds, heartbeat
        self._changed = threading.Condition()
        self._due = self._now = self._closing = self._failing = False
        self._next = float("-inf")  # of the monotonic clock: before it nothing is called without need
        self._beat = float("inf")  # and at this time in any case
        self._wanted = self._done = 0  # rounds asked for and finished, for flush()
        self._thread: threading.Thread | None = None

    def poke(self, *, now: bool = False) -> None:
        """There is something to store; with `now` without waiting for the interval to pass.

        Returns at once.
        """
        with self._changed:
            if self._closing:
                return
            self._due = True
            self._now = self._now or now
            self._wanted += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name=f"store-{self._what}", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self) -> bool:
        """Wait until everything poked so far was tried once; whether the last try went well."""
        self.poke(now=True)
        with self._changed:
            wanted = self._wanted
            self._changed.wait_for(lambda: self._done >= wanted or self._closing)
            return not self._failing

    def close(self) -> bool:
        """A last call of `work`, then no more; whether it went well."""
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
                round_ = self._wanted
            self._try()
            with self._changed:
                self._done = round_
                self._next = time.monotonic() + self._seconds
                if self._heartbeat is not None:
                    self._beat = time.monotonic() + self._heartbeat
                self._due = self._due or self._failing
                self._changed.notify_all()

    def _when(self) -> float:
        return min(self._next, self._beat) if self._due else self._beat

    def _try(self) -> None:
        try:
            self._work()
        except Exception as error:  # whatever it is: training is worth more
            if not self._failing:
                _log.warning("%s could not be stored and will be tried again: %s", self._what, error)
            self._failing = True
        else:
            if self._failing:
                _log.info("%s is stored again", self._what)
            self._failing = False
