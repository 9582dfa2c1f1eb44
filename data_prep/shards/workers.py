"""The workers of a preparation, which read spans and write units.

This process, or more of this machine.

Others, such as Ray tasks, implement `Workers`.

A span gives the same examples and a unit the same parts in any process, so the number of workers
changes only how long it takes.
"""

import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from data_prep.shards.blocks import Spooled
from data_prep.shards.reading import Reading
from data_prep.shards.span_reading import Chunk, SpanJob
from data_prep.shards.twin_job import Numbers, TwinJob, compare
from data_prep.shards.work_unit import ShardParts, UnitPlan
from data_prep.shards.writer import OnAdvance, write_unit
from raytrain_core.errors import DataError
from raytrain_core.storage.scratch import scratch

_LOCAL_EXAMPLES = 4_000  # examples that this process writes itself: starting others for them takes as long
_LOCAL_BYTES = 2 << 20  # that it reads itself
_TRIES = 2

OnReply = Callable[[int, Any], None]
"""Gets a reply that is not the last one, and how many the process gave before it."""

T = TypeVar("T")


class Workers(Protocol):
    """The interface that `prepare` uses.

    `submit` and `compare` are like `submit` of an executor of `concurrent.futures`.
    """

    @property
    def count(self) -> int:
        """How many spans and units are worked on at the same time; 0 if by this process alone."""

    def read(self, job: SpanJob) -> Reading | None:
        """Starts reading a span; None if the calling process is to read it."""

    def submit(self, unit: UnitPlan, on_advance: OnAdvance) -> Future[ShardParts]:
        """Starts writing a unit.

        `on_advance` is called with finished examples in the calling thread, by `submit` or `tick`.
        """

    def compare(self, job: TwinJob) -> Future[Numbers]:
        """Starts comparing training rows with held-out rows."""

    def tick(self) -> None:
        """Reports the examples finished since the last call.

        Called now and then while units are pending.
        """


@contextmanager
def local_workers(cpus: float) -> Iterator[Workers]:
    """Yields as many processes as `cpus` allows, at most one for each core of this machine."""
    count = min(int(cpus), len(os.sched_getaffinity(0)))
    if count < 2:
        yield ThisProcess()
        return
    with LocalProcesses(count) as processes:
        yield processes


class ThisProcess:
    """Reads every span and writes every unit at once, in the thread that asks for it.

    The tokenizer uses all cores by itself.
    """

    count = 0

    def read(self, job: SpanJob) -> Reading | None:
        """Leaves it to the calling process."""
        return None

    def submit(self, unit: UnitPlan, on_advance: OnAdvance) -> Future[ShardParts]:
        """Writes the unit now."""
        return _write_now(unit, on_advance)

    def compare(self, job: TwinJob) -> Future[Numbers]:
        """Compares now."""
        return _done(compare(job))

    def tick(self) -> None:
        """Does nothing: everything is reported already."""


class LocalProcesses:
    """Up to `count` processes on this machine, each doing one thing after the other with one core.

    They start once there is more to do than a start takes, and end with the context or with this
    process. A process that is killed is replaced, once for each span or unit. What they read lies
    in temporary files until its units are written.
    """

    def __init__(self, count: int) -> None:
        self.count = max(1, count)
        self._submitted = self._asked = self._compared = 0
        self._closed = False
        self._unreported: list[tuple[OnAdvance, int]] = []
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._own = threading.local()
        self._threads = ThreadPoolExecutor(self.count, thread_name_prefix="preparation")
        self._stack = ExitStack()
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        self._folder = self._stack.enter_context(scratch("preparation-processes"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            for process in self._processes:
                process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.wait()
        self._stack.close()  # with the temporary files that the processes left

    def read(self, job: SpanJob) -> Reading | None:
        """Leaves the first few rows to the calling process; a free one reads all others."""
        self._asked += job.span.bytes or 0
        if self._asked <= _LOCAL_BYTES:
            return None
        reading = Reading()
        self._threads.submit(self._read, job, reading)
        return reading

    def submit(self, unit: UnitPlan, on_advance: OnAdvance) -> Future[ShardParts]:
        """Writes the first few examples here and lets a free process write all others."""
        self._submitted += unit.rows
        if self._submitted <= _LOCAL_EXAMPLES:
            return _write_now(unit, on_advance)
        return self._threads.submit(self._write, unit, on_advance)

    def compare(self, job: TwinJob) -> Future[Numbers]:
        """Compares the first few rows here and lets a free process compare all others."""
        self._compared += sum(pair.rows for pair in job.pairs)
        if self._compared <= _LOCAL_EXAMPLES:
            return _done(compare(job))
        return self._threads.submit(self._compare, job)

    def tick(self) -> None:
        """Reports what the processes have finished since the last call."""
        with self._lock:
            unreported, self._unreported = self._unreported, []
        for on_advance, examples in unreported:
            on_advance(examples)

    def _read(self, job: SpanJob, reading: Reading) -> None:
        taken = 0

        def take(number: int, chunk: Any) -> None:
            """Puts only what an earlier, killed process has not given."""
            nonlocal taken
            for block in chunk.blocks.values():
                assert isinstance(block.examples, Spooled)
                weakref.finalize(block.examples, block.examples.path.unlink, missing_ok=True)
            if number == taken:
                reading.put(chunk)
                taken += 1

        if reading.cancelled:
            return
        try:
            reading.end(self._delegate(job, take))
        except BaseException as error:
            reading.end(error)

    def _write(self, unit: UnitPlan, on_advance: OnAdvance) -> ShardParts:
        finished = reported = 0

        def advance(number: int, examples: Any) -> None:
            """Reports only what an earlier, killed process has not reported."""
            nonlocal finished, reported
            finished = examples if number == 0 else finished + examples
            if finished > reported:
                with self._lock:
                    self._unreported.append((on_advance, finished - reported))
                reported = finished

        parts: ShardParts = self._delegate(unit, advance)
        return parts

    def _compare(self, job: TwinJob) -> Numbers:
        numbers: Numbers = self._delegate(job, lambda number, reply: None)
        return numbers

    def _delegate(self, work: SpanJob | UnitPlan | TwinJob, on_reply: OnReply) -> Any:
        """Gives work to this thread's process, and to a second one if that is killed.

        Returns the last reply; `on_reply` gets those before it, counted anew in a second process.
        """
        data = pickle.dumps(work, pickle.HIGHEST_PROTOCOL)
        for _ in range(_TRIES):
            process = self._process()
            try:
                reply = _exchange(process, data, on_reply)
            except (EOFError, BrokenPipeError, pickle.UnpicklingError):
                self._drop(process)
                continue
            if isinstance(reply, BaseException):
                raise reply
            return reply
        raise DataError(
            f"a preparation process was killed twice at the same rows (exit status {process.returncode})",
            hint="The system does that when memory runs out: lower resources.preparation.cpus for fewer processes. "
            "Finished work is kept; the same command continues.",
        )

    def _process(self) -> "subprocess.Popen[bytes]":
        """Returns the process of this thread, started at first use."""
        process: subprocess.Popen[bytes] | None = getattr(self._own, "process", None)
        if process is None:
            process = self._own.process = self._start()
        return process

    def _start(self) -> "subprocess.Popen[bytes]":
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
            "TOKENIZERS_PARALLELISM": "false",  # one core each
            "TMPDIR": str(self._folder),
        }
        with self._lock:
            if self._closed:
                raise CancelledError
            process = subprocess.Popen(
                [sys.executable, "-m", "data_prep.shards.worker_main"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                process_group=0,  # Ctrl-C at a terminal goes to this process, which then ends them
            )
            self._processes.add(process)
        return process

    def _drop(self, process: "subprocess.Popen[bytes]") -> None:
        del self._own.process
        process.kill()
        process.wait()
        with self._lock:
            self._processes.discard(process)


def _write_now(unit: UnitPlan, on_advance: OnAdvance) -> Future[ShardParts]:
    return _done(write_unit(unit.load(), on_advance))


def _done(result: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(result)
    return future


def _exchange(process: "subprocess.Popen[bytes]", work: bytes, on_reply: OnReply) -> Any:
    """Sends work and returns the last reply; `on_reply` gets the numbers and chunks before it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(work)
    process.stdin.flush()
    number = 0
    while isinstance(reply := pickle.load(process.stdout), int | Chunk):
        on_reply(number, reply)
        number += 1
    return reply
