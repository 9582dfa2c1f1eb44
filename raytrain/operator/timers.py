"""One timer for each object: when to look at it again even if nothing happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from raytrain.operator.memory import Key


class Timers:
    """Calls `wake` with an object's key when its time has come; for use in one event loop."""

    def __init__(self, wake: Callable[[Key], Awaitable[None]]) -> None:
        self._wake = wake
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def set(self, key: Key, seconds: float | None) -> None:
        """Replaces the object's timer; None removes it."""
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        if seconds is not None:
            self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._on_timer, key)

    def _on_timer(self, key: Key) -> None:
        self._timers.pop(key, None)
        task = asyncio.ensure_future(self._wake(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
