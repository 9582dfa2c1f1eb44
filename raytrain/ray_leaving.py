"""`python -m raytrain.ray_leaving SECONDS`: what a pod of a run does before it ends (a node drained or reclaimed).

Kubernetes calls it as the pod's preStop hook and waits for it, within the pod's grace period. Where the driver is, it
is told to stop: the run takes a checkpoint and ends, resumable. Anywhere else Ray is told that the node will be gone:
training takes a checkpoint after its step and goes on without the node. Nothing is raised: where the whole cluster
ends nobody is left to be told.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_ANSWER_SECONDS = 3.0
_POLL_SECONDS = 0.5


def leave(seconds: float) -> None:
    """Tell whom it concerns, and wait until that has been heeded, or for so many seconds."""
    deadline = time.monotonic() + seconds
    gcs = _gcs()
    if drivers := _drivers():
        for pid in drivers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        _wait(lambda: any(Path(f"/proc/{pid}").exists() for pid in drivers) and _answers(gcs), deadline)
    elif (node := _own_node(gcs)) is not None:
        _announce(gcs, node, seconds)
        _wait(lambda: node in _nodes(gcs), deadline)


def _drivers(proc: Path = Path("/proc")) -> list[int]:
    """Processes here that run a document."""
    found = []
    for path in proc.glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if words[1:4] == [b"-m", b"raytrain", b"run"]:
                found.append(int(path.parent.name))
    return found


def _gcs() -> Any:
    import ray

    return ray._raylet.GcsClient(address=os.environ["RAY_ADDRESS"])  # there is no public way


def _nodes(gcs: Any) -> dict[bytes, str]:
    """Addresses of the nodes that are alive, by id."""
    from ray.core.generated import gcs_pb2

    found = gcs.get_all_node_info(timeout=_ANSWER_SECONDS)
    alive = gcs_pb2.GcsNodeInfo.ALIVE  # type: ignore[attr-defined]
    return {node.binary(): info.node_manager_address for node, info in found.items() if info.state == alive}


def _own_node(gcs: Any) -> bytes | None:
    own = socket.gethostbyname(socket.gethostname())
    return next((node for node, address in _nodes(gcs).items() if address == own), None)


def _answers(gcs: Any) -> bool:
    return bool(_nodes(gcs))


def _announce(gcs: Any, node: bytes, seconds: float) -> None:
    """A drain with a deadline, as Ray's autoscaler announces a node that a cloud takes back."""
    from ray.core.generated import autoscaler_pb2

    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")  # type: ignore[attr-defined]
    until = time.time_ns() // 10**6 + int(1000 * seconds)
    gcs.drain_node(node.hex(), reason, "the pod is being ended", until, timeout=_ANSWER_SECONDS)


def _wait(needed: Callable[[], bool], deadline: float) -> None:
    while time.monotonic() < deadline and needed():
        time.sleep(_POLL_SECONDS)


def main() -> int:
    """Always 0: the pod ends in any case."""
    try:
        leave(float(sys.argv[1]))
    except Exception as error:  # the cluster is gone, or was never whole
        print(f"not announced: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
