"""Workers that read rows and write shards: Ray tasks in a cluster, local processes elsewhere.

What a task reads stays in Ray's object store until the tasks that write it fetch it; only counts
come to the driver.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from data_prep.config import SPLITS
from data_prep.shards.blocks import Examples, packed, unpacked
from data_prep.shards.reading import NotHereError, Reading
from data_prep.shards.span_reading import Chunk, SpanJob, read_span, seen
from data_prep.shards.twin_job import Numbers, TwinJob, compare
from data_prep.shards.work_unit import ShardParts, UnitPlan
from data_prep.shards.workers import Workers, local_workers
from data_prep.shards.writer import OnAdvance, write_unit
from data_prep.sources.file_names import compression_of
from data_prep.sources.files import LocalFile, StoredFile
from data_prep.tasks.examples import Example
from raytrain.config.job_status import CPU_POD, CPU_POD_SHARE, DRIVER_CPUS
from raytrain.config.resources import Resources
from raytrain.pipeline.ray_cluster import ray_cluster
from raytrain_core.errors import ClusterError, UserError
from raytrain_core.storage.scratch import scratch

T = TypeVar("T")

_LARGEST, _LARGEST_PACKED = 16 << 20, 2 << 20  # bytes of a file that one task reads at once


def share(cpus: float) -> tuple[int, float]:
    """Returns the number of tasks and the CPUs of each; with the driver they fit into `cpus`."""
    count = max(1, int(cpus))
    return count, max(0.001, math.floor(1000 * (cpus - DRIVER_CPUS) / count) / 1000)


def _cpu_pod() -> dict[str, float]:
    """Ray's resources of a place in a pod without GPUs; none where pods do not tell them apart.

    More tasks wait than have room. Ray's autoscaler would start pods with GPUs for them, and a
    scorer could then take the CPU there that a training worker waits for.
    """
    import ray

    cluster: Any = ray
    return {CPU_POD: CPU_POD_SHARE} if CPU_POD in cluster.cluster_resources() else {}


class RayTasks:
    """Ray tasks that use `cpus` together with the driver.

    Ray repeats a task that was lost with its node.
    """

    def __init__(self, cpus: float) -> None:
        import ray

        self.count, each = share(cpus)
        remote = ray.remote(num_cpus=each, resources=_cpu_pod(), scheduling_strategy="SPREAD")
        self._read, self._write = remote(_read).options(num_returns=1 + len(SPLITS)), remote(_write)
        self._compare = remote(_compare)
        self._read_chunks = remote(_read_chunks).options(num_returns="streaming")
        self._generators: list[Any] = []
        self._pending: dict[Future[Any], Any] = {}
        self._finished: queue.SimpleQueue[tuple[OnAdvance, int]] = queue.SimpleQueue()

    def read(self, job: SpanJob) -> Reading | None:
        """Lets Ray read a span."""
        if _is_too_large(job):
            return self._read_on(job)
        returned: Any = self._read.remote(pickle.dumps(job, pickle.HIGHEST_PROTOCOL), _lines_of(job))
        counts, *examples = returned
        stored = dict(zip(SPLITS, examples, strict=True))

        def chunks(answer: bytes | None) -> list[Chunk]:
            if answer is None:
                raise NotHereError
            found: list[Chunk] = pickle.loads(answer)
            for number, chunk in enumerate(found):
                for split, block in chunk.blocks.items():
                    block.examples = InObjectStore(stored[split], number)
            return found

        reading = Reading()

        def settle(done: Future[list[Chunk]]) -> None:
            if (error := done.exception()) is None:
                reading.put(*done.result())
            reading.end(error)

        self._answer(counts, chunks).add_done_callback(settle)
        return reading

    def _read_on(self, job: SpanJob) -> Reading:
        """Lets Ray read a file chunk by chunk, so that no task holds all of its examples."""
        reading = Reading()
        generator = self._read_chunks.remote(pickle.dumps(job, pickle.HIGHEST_PROTOCOL))
        self._generators.append(generator)
        threading.Thread(target=_collect, args=(generator, reading), daemon=True).start()
        return reading

    def submit(self, unit: UnitPlan, on_advance: OnAdvance) -> Future[ShardParts]:
        """Lets Ray write a work unit."""
        references, plan = _with_places(unit)

        def parts(answer: bytes) -> ShardParts:
            self._finished.put((on_advance, unit.rows))
            found: ShardParts = pickle.loads(answer)
            return found

        return self._answer(self._write.remote(pickle.dumps(plan, pickle.HIGHEST_PROTOCOL), *references), parts)

    def compare(self, job: TwinJob) -> Future[Numbers]:
        """Lets Ray compare training rows with held-out rows."""
        return self._answer(self._compare.remote(pickle.dumps(job, pickle.HIGHEST_PROTOCOL)), pickle.loads)

    def _answer(self, reference: Any, result: Callable[[Any], T]) -> Future[T]:
        future: Future[T] = Future()
        self._pending[future] = reference

        def done(answer: Future[Any]) -> None:
            if (error := answer.exception()) is not None:
                future.set_exception(_cause(error))
                return
            try:
                future.set_result(result(answer.result()))
            except BaseException as error:
                future.set_exception(error)

        reference.future().add_done_callback(done)
        return future

    def tick(self) -> None:
        """Reports the tasks that have finished since the last call."""
        while not self._finished.empty():
            on_advance, examples = self._finished.get()
            on_advance(examples)
        for future in [future for future in self._pending if future.done()]:
            del self._pending[future]

    def close(self) -> None:
        """Cancels unfinished tasks."""
        import ray

        for future, reference in self._pending.items():
            if not future.done():
                ray.cancel(reference, force=True)
        for generator in self._generators:
            if not generator.is_finished():
                ray.cancel(generator, force=True)


@contextlib.contextmanager
def preparation_workers(resources: Resources) -> Iterator[Workers]:
    """Provides workers for `resources.preparation.cpus`; locally at most one per core."""
    cpus = resources.preparation.cpus
    if not os.environ.get("RAY_ADDRESS"):
        with local_workers(cpus) as workers:
            yield workers
        return
    with ray_cluster(resources):
        tasks = RayTasks(cpus)
        try:
            yield tasks
        finally:
            tasks.close()


@dataclass(frozen=True, slots=True)
class InObjectStore:
    """Examples of one chunk among those of a span, in Ray's object store."""

    reference: Any
    chunk: int

    def load(self) -> Sequence[Example]:
        """Fetches them."""
        import ray

        return _chunk(ray.get(self.reference), self.chunk)


@dataclass(frozen=True, slots=True)
class _Argument:
    """Examples that a task gets as its argument of this number."""

    number: int
    chunk: int

    def load(self) -> Sequence[Example]:
        raise RuntimeError("the task has not put its arguments in place")


@dataclass(frozen=True, slots=True)
class _Here:
    """Examples of one chunk among those of a span, as bytes."""

    data: bytes
    chunk: int

    def load(self) -> Sequence[Example]:
        return _chunk(self.data, self.chunk)


def _chunk(data: bytes, number: int) -> Sequence[Example]:
    chunks: list[bytes] = pickle.loads(data)
    return unpacked(chunks[number])


def _with_places(unit: UnitPlan) -> tuple[list[Any], UnitPlan]:
    """The references of a unit, and the unit with their places in it.

    Ray has what a reference stands for at the task's node before it starts.
    """
    places: dict[Any, int] = {}

    def place(stored: Examples) -> Examples:
        if not isinstance(stored, InObjectStore):
            return stored
        return _Argument(places.setdefault(stored.reference, len(places)), stored.chunk)

    segments = [replace(segment, examples=place(segment.examples)) for segment in unit.segments]
    return list(places), replace(unit, segments=segments)


def _is_too_large(job: SpanJob) -> bool:
    """Whether all examples of a file that cannot be divided may be too much for a task's memory."""
    file, span = job.file, job.span
    if not isinstance(file, LocalFile | StoredFile) or span.stop is not None:
        return False
    return (span.bytes or 0) > (_LARGEST if compression_of(file.packed_as) is None else _LARGEST_PACKED)


def _lines_of(job: SpanJob) -> bytes | None:
    """The lines of a span of a large object, which only the driver has downloaded."""
    file, span = job.file, job.span
    if not isinstance(file, StoredFile) or file.read_as.format == "parquet" or span.stop is None:
        return None
    with file.open(job.scratch) as object:
        object.seek(span.start)
        return object.read(span.stop - span.start)


def _of_lines(job: SpanJob, lines: bytes, folder: Path) -> SpanJob:
    """The job that reads these lines from a file of this node."""
    path = folder / "span"
    path.write_bytes(lines)
    assert isinstance(job.file, StoredFile)
    of = job.file
    file = LocalFile(path, name=of.name, format=of.format, split=of.split, options=of.options, known=of.known)
    span = replace(job.span, start=0, stop=len(lines))
    return replace(job, file=file, span=span, scratch=folder, seen=seen(file))


def _read(data: bytes, lines: bytes | None) -> tuple[bytes | None, *tuple[bytes, ...]]:
    """Reads a span: counts, and the examples of each split, chunk by chunk."""
    job: SpanJob = pickle.loads(data)
    with scratch("reading") as folder:
        if lines is not None:
            job = _of_lines(job, lines, folder)
        if not job.is_here():
            return (None, *(b"" for _ in SPLITS))
        chunks = list(read_span(job))
    examples: dict[str, list[bytes]] = {split: [] for split in SPLITS}
    for chunk in chunks:
        for split in SPLITS:
            block = chunk.blocks.get(split)
            examples[split].append(packed(block.examples.load()) if block is not None else b"")
        for block in chunk.blocks.values():
            block.examples = _Argument(0, 0)
    return (pickle.dumps(chunks), *(pickle.dumps(examples[split]) for split in SPLITS))


def _read_chunks(data: bytes) -> Iterator[bytes]:
    """Reads a file: of each chunk its counts, then its examples of each split; None for no file."""
    job: SpanJob = pickle.loads(data)
    with scratch("reading") as folder:
        if not job.is_here():
            yield pickle.dumps(None)
            return
        job = replace(job, scratch=folder)
        for chunk in read_span(job):
            examples = {split: [packed(block.examples.load())] for split, block in chunk.blocks.items()}
            for block in chunk.blocks.values():
                block.examples = _Argument(0, 0)
            yield pickle.dumps(chunk)
            for split in SPLITS:
                yield pickle.dumps(examples.get(split, []))


def _collect(generator: Any, reading: Reading) -> None:
    """Puts the chunks of `_read_chunks` as they come; their examples stay in the object store."""
    import ray

    try:
        for counts in generator:
            chunk: Chunk | None = pickle.loads(ray.get(counts))
            if chunk is None:
                reading.end(NotHereError())
                return
            stored = {split: next(generator) for split in SPLITS}
            for split, block in chunk.blocks.items():
                block.examples = InObjectStore(stored[split], 0)
            reading.put(chunk)
        reading.end()
    except BaseException as error:
        reading.end(_cause(error))


def _write(data: bytes, *stored: bytes) -> bytes:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core each
    plan: UnitPlan = pickle.loads(data)

    def here(place: Examples) -> Examples:
        return _Here(stored[place.number], place.chunk) if isinstance(place, _Argument) else place

    segments = [replace(segment, examples=here(segment.examples)) for segment in plan.segments]
    return pickle.dumps(write_unit(replace(plan, segments=segments).load()))


def _compare(data: bytes) -> bytes:
    job: TwinJob = pickle.loads(data)
    return pickle.dumps(compare(job))


def _cause(error: BaseException) -> BaseException:
    """Returns the original error of a task, without Ray's wrapper."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, UserError):
        return cause
    return ClusterError(
        f"a Ray task of the preparation failed: {cause or error}",
        hint="finished work is kept: run the same command again; if memory ran out, lower resources.preparation.cpus",
    )
