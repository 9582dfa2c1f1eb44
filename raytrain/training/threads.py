"""How many threads a worker computes with, and the environment in which a worker on a CPU runs well."""

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")

# glibc gives big blocks back to the kernel on each free, and getting them again costs more than the
# arithmetic on them: a step on a CPU takes up to five times as long. These keep the memory in the
# process.
MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "1000000000000",
    "MALLOC_TOP_PAD_": "268435456",
}


def cores() -> int:
    """Cores that this process may use: its affinity, or less where a container has a quota."""
    mask = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(mask, _quota() or mask))


def threads_of_worker(workers_here: int) -> int:
    """Threads of each of `workers_here` workers on this node."""
    return max(1, cores() // max(1, workers_here))


def _quota() -> int | None:
    """Whole cores that the container's quota comes to, None without one."""
    try:
        quota, period = _QUOTA.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return None


def worker_environment() -> dict[str, str]:
    """Variables for workers on a CPU; what the user has set stays."""
    return {name: value for name, value in MALLOC.items() if name not in os.environ}
