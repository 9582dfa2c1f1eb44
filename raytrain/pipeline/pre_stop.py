"""The preStop hook of the driver's pod: `python -m raytrain.pipeline.pre_stop SECONDS`.

When a node is drained or the pod is evicted, Kubernetes calls the hook and waits for it within the
pod's grace period. The hook asks the driver to stop: the run writes a checkpoint and ends in a
resumable state. Pods without a driver need no hook: Ray announces that their node is leaving
(RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S), and training writes a checkpoint after the current step.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_POLL_SECONDS = 0.2


def leave(seconds: float, proc: Path = Path("/proc")) -> bool:
    """Asks the drivers of this pod to stop; returns whether all ended within `seconds`."""
    deadline = time.monotonic() + seconds
    found = drivers(proc)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    while (left := any(pid in drivers(proc) for pid in found)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return not left


def drivers(proc: Path) -> list[int]:
    """Returns the process ids of drivers, found in `proc`."""
    found = []
    for path in proc.glob("[0-9]*/cmdline"):
        with suppress(OSError):  # the process has ended meanwhile
            if path.read_bytes().split(b"\0")[1:4] == [b"-m", b"raytrain", b"run"]:
                found.append(int(path.parent.name))
    return found


if __name__ == "__main__":
    leave(float(sys.argv[1]))
