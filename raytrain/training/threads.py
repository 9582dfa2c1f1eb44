"""How many threads a worker computes with, and the environment variables of a worker on a CPU."""

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")

ENVIRONMENT = {
    # glibc returns big blocks to the kernel on each free, and getting them back costs more than the
    # arithmetic on them: a step on a CPU takes up to five times as long. With these it keeps them.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "1000000000000",
    "MALLOC_TOP_PAD_": "268435456",
    # Threads of libgomp wait for each other in a loop, by default for milliseconds. If anything
    # else wants a processor meanwhile, the one that is waited for may be the one that does not run:
    # beside two busy processes on two cores, decoding was three times as fast with a short loop. It
    # has a price: with nothing beside it, decoding was a sixth slower.
    "GOMP_SPINCOUNT": "10000",
}


def cores() -> int:
    """Returns the cores that this process may use: affinity, or the container's quota if less."""
    mask = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(mask, _quota() or mask))


def threads_per_worker(workers_here: int) -> int:
    """Returns the threads of each of `workers_here` workers on this node."""
    return max(1, cores() // max(1, workers_here))


def _quota() -> int | None:
    """Returns the container's quota in cores, rounded down; None without one."""
    try:
        quota, period = _QUOTA.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return None


def worker_environment() -> dict[str, str]:
    """Returns the variables for workers on a CPU, without those that the user has set."""
    return {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
