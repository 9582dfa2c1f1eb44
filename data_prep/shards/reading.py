"""A span while a worker reads it: its chunks come as they are read."""

import queue
from collections.abc import Callable, Iterator

from data_prep.shards.span_reading import Chunk

_TICK = 0.2  # seconds between two calls of `on_wait`


class NotHereError(Exception):
    """The worker cannot read the file: the calling process has to."""


class Reading:
    """The chunks of a span, put by one thread and taken by another.

    They are few numbers each; the examples lie elsewhere.
    """

    def __init__(self) -> None:
        self._chunks: queue.SimpleQueue[Chunk | BaseException | None] = queue.SimpleQueue()
        self.cancelled = False
        """Set when nobody will take any more: a reading that has not begun need not begin."""

    def put(self, *chunks: Chunk) -> None:
        """Adds the next chunks."""
        for chunk in chunks:
            self._chunks.put(chunk)

    def end(self, error: BaseException | None = None) -> None:
        """Ends the chunks, with what `chunks` is to raise if there is an error."""
        self._chunks.put(error)

    def chunks(self, on_wait: Callable[[], None]) -> Iterator[Chunk]:
        """Yields every chunk as soon as it is there; `on_wait` is called now and then until then.

        Raises the error that ended them, NotHereError before any chunk.
        """
        while True:
            try:
                found = self._chunks.get(timeout=_TICK)
            except queue.Empty:
                on_wait()
                continue
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            yield found
