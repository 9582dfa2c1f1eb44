"""Handles Ctrl-C: the first stops the run in a resumable state, the second at once.

SIGTERM, as sent when a node is drained, counts as the first.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

_Handler = Callable[[int, FrameType | None], object] | int | None


class Interrupts:
    """Makes the first signal set `asked`, and the second raise KeyboardInterrupt.

    Use as a context manager in the main thread; elsewhere it has no effect.
    """

    def __init__(self, on_first: Callable[[], None] = lambda: None) -> None:
        self.asked = threading.Event()
        self._on_first = on_first
        self._before: dict[int, _Handler] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raises KeyboardInterrupt if a stop was requested; called where work can be resumed."""
        if self.asked.is_set():
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked.is_set():
            raise KeyboardInterrupt
        self.asked.set()
        self._on_first()
