"""Lets workers read spans at the same time; what they read comes out in the order of the spans."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, wait
from itertools import islice

from data_prep.shards.progress import ProgressMeter
from data_prep.shards.span_reading import Chunk, SpanJob, read_span
from data_prep.shards.workers import Workers

NOBODY: Future[list[Chunk] | None] = Future()
"""The answer for a span that only the calling process can read."""
NOBODY.set_result(None)

_TICK = 0.2  # seconds between two reports while the next span is read


def read_ahead(jobs: Iterable[SpanJob], workers: Workers, meter: ProgressMeter) -> Iterator[tuple[int, Chunk]]:
    """Yields the chunks of all spans in order, each with the number of its span.

    Two spans more than there are workers are begun before the first of them is used. Without other
    workers, and where a file cannot be divided, this process reads chunk by chunk.
    """
    numbered = enumerate(jobs)
    ahead: deque[tuple[int, SpanJob, Future[list[Chunk] | None]]] = deque()
    try:
        while True:
            for number, job in islice(numbered, workers.count + 2 - len(ahead)):
                ahead.append((number, job, workers.read(job) if job.span.bytes is not None else NOBODY))
            if not ahead:
                return
            number, job, future = ahead.popleft()
            chunks = _result(future, workers, meter)
            for chunk in read_span(job) if chunks is None else chunks:
                yield number, chunk
    finally:
        for _, _, future in ahead:
            future.cancel()


def _result(future: Future[list[Chunk] | None], workers: Workers, meter: ProgressMeter) -> list[Chunk] | None:
    while not wait([future], timeout=_TICK).done:
        workers.tick()
        meter.report()
    return future.result()
