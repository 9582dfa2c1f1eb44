"""`python -m raytrain.pipeline.pre_stop SECONDS`: what the driver's pod does before it ends (a node drained, an eviction).

Kubernetes calls it as the pod's preStop hook and waits for it, within the pod's grace period. The
driver is told to stop: the run takes a checkpoint and ends, resumable. A pod without a driver needs
no hook: Ray announces its node when it is told to end (RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S), and
training takes a checkpoint after its step.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_POLL_SECONDS = 0.2


def leave(seconds: float, proc: Path = Path("/proc")) -> bool:
    """Tell the drivers of this pod to stop; whether all have ended within so many seconds."""
    deadline = time.monotonic() + seconds
    found = drivers(proc)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    while (left := any(pid in drivers(proc) for pid in found)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return not left


def drivers(proc: Path) -> list[int]:
    """Processes that run a job."""
    found = []
    for path in proc.glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ends meanwhile; what has ended has no command any more
            if path.read_bytes().split(b"\0")[1:4] == [b"-m", b"raytrain", b"run"]:
                found.append(int(path.parent.name))
    return found


if __name__ == "__main__":
    leave(float(sys.argv[1]))
