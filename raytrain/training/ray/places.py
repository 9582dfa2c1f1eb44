"""Keeps what needs no GPU out of pods that have some."""

from typing import Any

import ray

from raytrain.config.job_status import CPU_POD, CPU_POD_SHARE


def cpu_pod() -> dict[str, float]:
    """Ray's resources of a place in a pod without GPUs; none where pods do not tell them apart.

    Ray prefers other nodes for what needs no GPU, but takes those with GPUs if the others are full:
    preparation would start them, and a scorer could hold the CPU that a training worker waits for.
    """
    cluster: Any = ray
    return {CPU_POD: CPU_POD_SHARE} if CPU_POD in cluster.cluster_resources() else {}
