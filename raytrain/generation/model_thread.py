"""The one thread of a process in which models compute while requests arrive.

OpenMP keeps a pool of threads for every thread that computes. Where all pools together have more
threads than there are cores, libgomp ceases to wait actively between parallel regions, and a step
of decoding, which has hundreds of them, takes up to twice as long: so models are loaded, too, where
they compute later.
"""

import contextlib
import functools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

T = TypeVar("T")


class Turns(Protocol):
    """Something that computes a little at a time."""

    def turn(self) -> bool:
        """Computes for a moment; returns whether there is more to compute now."""
        ...


class ModelThread:
    """A thread that calls what it is given, and gives turns to whoever has joined."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._joined: list[Turns] = []
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether anything is computed."""
        return self._thread.is_alive()

    def call(self, function: Callable[[], T]) -> T:
        """Returns what `function` returns, called in the thread; raises what it raises."""
        result: Future[T] = Future()

        def work() -> None:
            try:
                result.set_result(function())
            except BaseException as error:
                result.set_exception(error)

        self._calls.put(work)
        return result.result()

    def join(self, one: Turns) -> None:
        """Gives turns to `one` from now on."""
        self._calls.put(lambda: self._joined.append(one))

    def leave(self, one: Turns) -> None:
        """Gives no more turns to `one`."""
        self._calls.put(lambda: self._joined.remove(one))

    def wake(self) -> None:
        """Tells that somebody who has joined has something to compute again."""
        self._calls.put(_nothing)

    def _run(self) -> None:
        while True:
            is_busy = sum(one.turn() for one in self._joined) > 0
            self._do_calls(wait=not is_busy)

    def _do_calls(self, *, wait: bool) -> None:
        with contextlib.suppress(queue.Empty):
            self._calls.get(block=wait)()
            while True:
                self._calls.get(block=False)()


def _nothing() -> None:
    pass


@functools.cache
def model_thread() -> ModelThread:
    """Returns this process's."""
    return ModelThread()
