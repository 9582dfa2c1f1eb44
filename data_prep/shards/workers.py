"""The workers that write the units of a preparation: this process, or more of this machine.

Others, such as Ray tasks, implement `Workers`.

A unit gives the same parts wherever it is written, so the number of workers changes only how long
it takes.
"""

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from data_prep.shards.work_unit import ShardParts, WorkUnit
from data_prep.shards.writer import OnAdvance, write_unit
from raytrain_core.errors import DataError
from raytrain_core.storage.scratch import scratch

_LOCAL_EXAMPLES = 4_000  # examples that this process writes itself: starting others for them takes as long
_TRIES = 2


class Workers(Protocol):
    """The interface that `prepare` uses.

    `submit` is like that of an executor of `concurrent.futures`.
    """

    @property
    def count(self) -> int:
        """How many units are written at the same time."""

    def submit(self, unit: WorkUnit, on_advance: OnAdvance) -> Future[ShardParts]:
        """Starts writing a unit.

        `on_advance` is called with finished examples in the calling thread, by `submit` or `tick`.
        """

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
    """Writes every unit at once, in the thread that submits it.

    The tokenizer uses all cores by itself.
    """

    count = 0

    def submit(self, unit: WorkUnit, on_advance: OnAdvance) -> Future[ShardParts]:
        """Writes the unit now."""
        return _write_now(unit, on_advance)

    def tick(self) -> None:
        """Does nothing: everything is reported already."""


class LocalProcesses:
    """Up to `count` processes on this machine, each writing one unit after the other with one core.

    They start once there is more to do than a start takes, and end with the context or with this
    process. A process that is killed is replaced, once for each unit.
    """

    def __init__(self, count: int) -> None:
        self.count = max(1, count)
        self._submitted = 0
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

    def submit(self, unit: WorkUnit, on_advance: OnAdvance) -> Future[ShardParts]:
        """Writes the first few examples here and sends all others to a free process."""
        self._submitted += len(unit.examples)
        if self._submitted <= _LOCAL_EXAMPLES:
            return _write_now(unit, on_advance)
        # As bytes, so that the examples are not in memory twice while they wait.
        return self._threads.submit(self._delegate, pickle.dumps(unit, pickle.HIGHEST_PROTOCOL), on_advance)

    def tick(self) -> None:
        """Reports what the processes have finished since the last call."""
        with self._lock:
            unreported, self._unreported = self._unreported, []
        for on_advance, examples in unreported:
            on_advance(examples)

    def _delegate(self, unit: bytes, on_advance: OnAdvance) -> ShardParts:
        """Lets this thread's process write the pickled unit, and a second one if that is killed."""
        reported = 0

        def advance(finished: int) -> None:
            """Reports only what an earlier, killed process has not reported."""
            nonlocal reported
            if finished > reported:
                with self._lock:
                    self._unreported.append((on_advance, finished - reported))
                reported = finished

        for _ in range(_TRIES):
            process = self._process()
            try:
                reply = _exchange(process, unit, advance)
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


def _write_now(unit: WorkUnit, on_advance: OnAdvance) -> Future[ShardParts]:
    future: Future[ShardParts] = Future()
    future.set_result(write_unit(unit, on_advance))
    return future


def _exchange(
    process: "subprocess.Popen[bytes]", unit: bytes, advance: Callable[[int], None]
) -> ShardParts | BaseException:
    """Sends a unit and returns the last reply; `advance` gets the examples finished so far."""
    assert process.stdin is not None
    assert process.stdout is not None
    finished = 0
    process.stdin.write(unit)
    process.stdin.flush()
    while isinstance(reply := pickle.load(process.stdout), int):
        finished += reply
        advance(finished)
    assert isinstance(reply, ShardParts | BaseException)
    return reply
