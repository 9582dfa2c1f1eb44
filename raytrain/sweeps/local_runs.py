"""Runs of a sweep as processes on this machine: `raytrain run`, each with a job file of its own."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from raytrain.config.job import FineTuneJob
from raytrain.config.load import to_yaml
from raytrain.config.locations import cache_folder
from raytrain.config.resources import Resources
from raytrain.config.run_layout import RunLayout
from raytrain.pipeline.context import is_complete
from raytrain.sweeps.engine import Seen
from raytrain.sweeps.jobs import as_written
from raytrain.training.threads import cores
from raytrain_core.errors import ExitCode, UsageError
from raytrain_core.storage import StorageLocation, Store

_PASSING = (ExitCode.BUG, ExitCode.STORAGE, ExitCode.CLUSTER)
"""Exit codes of failures that may pass (docs/reference/exit-codes.md); so may a kill."""
_LONGEST_REASON = 300


@dataclass(slots=True)
class _Process:
    popen: subprocess.Popen[bytes]
    gpus: frozenset[int]
    share: int
    """Which of the equal parts of the machine's processors it computes on."""


class LocalRuns:
    """Processes that end with this one: asked to stop, they can be resumed.

    What they print goes to `FOLDER/RUN.log`. With `gpus`, each process sees only as many of them as
    it has workers. Of the processors each has an equal share, as there can be `at_once` of them:
    processes that all start a thread for each processor slow each other down many times.
    """

    def __init__(
        self, store: Store, location: StorageLocation, base_folder: Path, name: str, *, at_once: int, gpus: int = 0
    ) -> None:
        self._store, self._location, self._base_folder = store, location, base_folder
        self._at_once, self._gpus = at_once, gpus
        self._processes: dict[str, _Process] = {}
        place = hashlib.sha256(store.uri.encode()).hexdigest()[:8]  # sweeps of one name in two storages are two
        self.folder = cache_folder() / "sweeps" / f"{name}-{place}"

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the sweep, which the kernel releases when this process ends, however it does.

        Raises UsageError if another process of this machine goes on with it: two would start, and
        stop, the same runs.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise UsageError(
                    f"process {file.read().strip()} is running this sweep already",
                    hint="watch it with --report, or stop it first",
                ) from None
            except OSError:  # no locks on this file system
                yield
                return
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def start(self, job: FineTuneJob) -> None:
        """Starts a process for the run."""
        name = job.metadata.name
        placed = job.model_copy(update={"spec": job.spec.model_copy(update={"storage": self._location})})
        job_file = self.folder / f"{name}.yaml"
        job_file.write_text(to_yaml(as_written(placed)), encoding="utf-8")
        command = [*_with_parent(), sys.executable, "-m", "raytrain", "run", str(job_file)]
        command += ["--relative-to", str(self._base_folder)]
        gpus, share = self._free_gpus(job.spec.resources), self._free_share()
        with self.log(name).open("wb") as log:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | self._environment(gpus),
                start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
            )
        if hasattr(os, "sched_setaffinity"):  # on Linux
            usable = sorted(os.sched_getaffinity(0))[: cores()]  # a container's quota may be less
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                os.sched_setaffinity(popen.pid, shares_of(usable, self._at_once)[share])
        self._processes[name] = _Process(popen, gpus, share)

    def log(self, name: str) -> Path:
        """The file with what a run printed."""
        return self.folder / f"{name}.log"

    def look(self, name: str) -> Seen:
        """Looks at the run's process, else in storage."""
        process = self._processes.get(name)
        if process is None:
            return Seen("complete" if is_complete(self._store, RunLayout(name)) else "absent")
        code = process.popen.poll()
        if code is None:
            return Seen("running")
        del self._processes[name]
        if code == ExitCode.OK:
            return Seen("complete")
        if code == ExitCode.INTERRUPTED:
            return Seen("absent")
        return Seen("failed", reason_of(code, self.log(name)), retry=code < 0 or code in _PASSING)

    def stop(self, name: str) -> None:
        """Sends SIGTERM, after which a run writes a checkpoint and ends."""
        if name in self._processes:
            self._processes[name].popen.terminate()

    def store_of(self, name: str) -> Store:
        """All runs are in the sweep's storage."""
        return self._store

    def stop_all(self, say: Callable[[str], None] = lambda text: None) -> None:
        """Stops all processes and waits for them; a second Ctrl-C kills those that are left."""
        live = {name: one.popen for name, one in self._processes.items() if one.popen.poll() is None}
        if live:
            say(f"stopping {', '.join(live)}; finished work is kept (press again to stop now)")
        for popen in live.values():
            popen.terminate()
        try:
            while any(popen.poll() is None for popen in live.values()):
                time.sleep(0.1)
        except KeyboardInterrupt:
            for popen in live.values():
                popen.kill()
            raise

    def _free_gpus(self, resources: Resources) -> frozenset[int]:
        used = {gpu for one in self._processes.values() if one.popen.poll() is None for gpu in one.gpus}
        free = [gpu for gpu in range(self._gpus) if gpu not in used]
        return frozenset(free[: resources.training.workers])

    def _free_share(self) -> int:
        used = {one.share for one in self._processes.values() if one.popen.poll() is None}
        return next(share for share in range(len(used) + 1) if share not in used)

    def _environment(self, gpus: frozenset[int]) -> Mapping[str, str]:
        if not self._gpus:
            return {}
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = seen.split(",") if seen else [str(gpu) for gpu in range(self._gpus)]
        return {"CUDA_VISIBLE_DEVICES": ",".join(names[gpu] for gpu in sorted(gpus))}


def reason_of(code: int, log: Path) -> str:
    """Returns why a run failed, from what it printed last."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    begins = max((place for place, line in enumerate(lines) if line.startswith("error:")), default=len(lines) - 1)
    text = " ".join(lines[begins:]).removeprefix("error: ") if lines else f"exit code {code}"
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"


def shares_of(processors: Collection[int], count: int) -> list[set[int]]:
    """Divides processors into `count` parts of equal size, up to one; two share one if need be."""
    ordered = sorted(processors)
    return [set(ordered[part::count]) or {ordered[part % len(ordered)]} for part in range(count)]


def fitting(resources: Resources, *, processors: int, gpus: int) -> int:
    """Returns how many runs the machine holds at once, at least one.

    By the processors that their workers and actors ask for; with GPUs, by the workers.
    """
    training, evaluation = resources.training, resources.evaluation
    if gpus:
        return max(1, gpus // training.workers)
    wanted = training.workers * training.cpus + evaluation.actors * evaluation.cpus
    return max(1, processors // ceil(wanted))


def count_gpus() -> int:
    """Returns the number of NVIDIA GPUs that processes started here would see."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if seen is not None:
        return len([name for name in seen.split(",") if name.strip() not in ("", "-1")])
    return len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()])


def _with_parent() -> list[str]:
    """Returns what a command is prefixed with so that it is asked to stop when this process dies.

    Without `setpriv` (it is part of Linux' util-linux) a run outlives a killed sweep; the sweep
    that goes on takes it over.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []
