"""Lets workers read spans at the same time; what they read comes out in the order of the spans."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

from data_prep.shards.progress import ProgressMeter
from data_prep.shards.reading import NotHereError, Reading
from data_prep.shards.span_reading import Chunk, SpanJob, read_span
from data_prep.shards.workers import Workers


def read_ahead(jobs: Iterable[SpanJob], workers: Workers, meter: ProgressMeter) -> Iterator[tuple[int, Chunk]]:
    """Yields the chunks of all spans in order, each with the number of its span.

    Two spans more than there are workers are begun before the first of them is used. Without other
    workers, and where they cannot read a source, this process reads chunk by chunk.
    """

    def wait() -> None:
        workers.tick()
        meter.report()

    numbered = enumerate(jobs)
    ahead: deque[tuple[int, SpanJob, Reading | None]] = deque()
    try:
        while True:
            for number, job in islice(numbered, workers.count + 2 - len(ahead)):
                ahead.append((number, job, workers.read(job) if job.span.bytes is not None else None))
            if not ahead:
                return
            number, job, reading = ahead.popleft()
            try:
                for chunk in read_span(job) if reading is None else reading.chunks(wait):
                    yield number, chunk
            except NotHereError:
                for chunk in read_span(job):
                    yield number, chunk
    finally:
        for _, _, reading in ahead:
            if reading is not None:
                reading.cancelled = True
