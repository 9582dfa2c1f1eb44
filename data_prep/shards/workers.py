"""Who makes the items of a preparation: this process, further processes of this machine, or whatever is injected.

An item is made alike everywhere, so the number of workers changes how long it takes and nothing
else.
"""

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from data_prep.shards.writer import OnAdvance, ShardParts, WorkUnit, make
from raytrain_core.errors import DataError
from raytrain_core.storage.scratch import scratch

_ALONE = 4_000  # examples that this process makes itself: to start others for them takes as long
_TRIES = 2


class Workers(Protocol):
    """What is asked of those who make items: `submit` as of an executor of `concurrent.futures`."""

    @property
    def count(self) -> int:
        """How many items are made at the same time."""

    def submit(self, item: WorkUnit, advance: OnAdvance) -> Future[ShardParts]:
        """Have it made.

        `advance` is told of its examples in this thread, by `submit` or by `tick`.
        """

    def tick(self) -> None:
        """Called now and then while items are awaited: tell what was done since."""


class ThisProcess:
    """Makes every item at once, in the thread that submits it; the tokenizer uses all cores by itself."""

    count = 0

    def submit(self, item: WorkUnit, advance: OnAdvance) -> Future[ShardParts]:
        """Make it now."""
        return _done_now(item, advance)

    def tick(self) -> None:
        """Everything was told already."""


class LocalProcesses:
    """Up to `count` processes of this machine, each making one item after the other with one core.

    They start when there is more to do than a start takes, and end with the context, or when this
    process dies. One that is killed is replaced, once for an item.
    """

    def __init__(self, count: int) -> None:
        self.count = max(1, count)
        self._alone = 0
        self._closed = False
        self._told: list[tuple[OnAdvance, int]] = []
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
        self._stack.close()  # with what the processes left among temporary files

    def submit(self, item: WorkUnit, advance: OnAdvance) -> Future[ShardParts]:
        """The first few examples are made here, all others by a process that is free."""
        self._alone += len(item.examples)
        if self._alone <= _ALONE:
            return _done_now(item, advance)
        # As bytes, so that the examples are not held twice while they wait.
        return self._threads.submit(self._have_made, pickle.dumps(item, pickle.HIGHEST_PROTOCOL), advance)

    def tick(self) -> None:
        """Tell what the processes have said since."""
        with self._lock:
            told, self._told = self._told, []
        for advance, examples in told:
            advance(examples)

    def _have_made(self, item: bytes, advance: OnAdvance) -> ShardParts:
        told = 0
        for _ in range(_TRIES):
            process = self._process()
            assert process.stdin is not None
            assert process.stdout is not None
            made = 0  # by this process: a second one begins anew
            try:
                process.stdin.write(item)
                process.stdin.flush()
                while isinstance(answer := pickle.load(process.stdout), int):
                    made += answer
                    if made > told:
                        self._tell(advance, made - told)
                        told = made
                if isinstance(answer, BaseException):
                    raise answer
                assert isinstance(answer, ShardParts)
                return answer
            except (EOFError, BrokenPipeError, pickle.UnpicklingError):
                self._drop(process)
        raise DataError(
            f"a process that prepares was killed twice at the same rows (exit status {process.returncode})",
            hint="The system does that when memory runs out: with fewer resources.preparation.cpus there are fewer "
            "processes. What is prepared stays; the same command goes on.",
        )

    def _tell(self, advance: OnAdvance, examples: int) -> None:
        with self._lock:
            self._told.append((advance, examples))

    def _process(self) -> "subprocess.Popen[bytes]":
        """The process of this thread, started when it is first needed."""
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
                process_group=0,  # Ctrl-C at a terminal is for this process, which then ends them
            )
            self._processes.add(process)
        return process

    def _drop(self, process: "subprocess.Popen[bytes]") -> None:
        del self._own.process
        process.kill()
        process.wait()
        with self._lock:
            self._processes.discard(process)


@contextmanager
def local_workers(cpus: float) -> Iterator[Workers]:
    """As many processes as `cpus` says, but not more than this machine has cores for."""
    count = min(int(cpus), len(os.sched_getaffinity(0)))
    if count < 2:
        yield ThisProcess()
        return
    with LocalProcesses(count) as processes:
        yield processes


def _done_now(item: WorkUnit, advance: OnAdvance) -> Future[ShardParts]:
    future: Future[ShardParts] = Future()
    future.set_result(make(item, advance))
    return future
