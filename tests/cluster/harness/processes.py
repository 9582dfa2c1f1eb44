"""Runs commands and daemons; every failure names the command and shows its output."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.cluster.harness.console import HarnessError

_TAIL = 3000


def run(*command: str | Path, input_text: str | None = None, check: bool = True) -> str:
    """Runs a command and returns its standard output; raises HarnessError with its errors."""
    done = subprocess.run([str(c) for c in command], input=input_text, capture_output=True, text=True, check=False)
    if check and done.returncode:
        said = (done.stderr or done.stdout)[-_TAIL:].strip()
        raise HarnessError(f"{' '.join(str(c) for c in command)[:300]}\n  exit code {done.returncode}: {said}")
    return done.stdout


def spawn(
    command: Sequence[str | Path], log: Path, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts a daemon that outlives this process; its output goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(c) for c in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=os.environ | (environment or {}),
        )


def child_of(pid: int) -> int | None:
    """Returns the id of the first child of a process, or None."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    return None


def started_at(pid: int) -> int | None:
    """Returns the start time of a process in clock ticks since boot, or None if it has ended.

    Distinguishes it from a later process with the same id.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def end(pid: int, number: int = signal.SIGKILL, *, seconds: float = 30) -> None:
    """Signals a process and waits until it has ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    with suppress(ChildProcessError, InterruptedError):
        os.waitpid(pid, os.WNOHANG)
    wait_for(lambda: started_at(pid) is None, seconds, f"process {pid} to end", every=0.05)


def wait_for(
    done: Callable[[], object], seconds: float, what: str, *, every: float = 0.2, why: Callable[[], str] = lambda: ""
) -> None:
    """Waits until `done()` is true; after `seconds` raises HarnessError with `what` and `why()`."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise HarnessError(f"waited {seconds:.0f} s for {what}" + (f"\n{said}" if (said := why()) else ""))
        time.sleep(every)


def tail(log: Path, characters: int = _TAIL) -> str:
    """Returns the end of a log under its path, or nothing if there is no log."""
    with suppress(OSError):
        return f"--- {log}\n{log.read_text(errors='replace')[-characters:]}"
    return ""
