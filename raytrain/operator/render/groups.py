"""From what a job asks for to groups of equal pods: the CPU group, and a GPU group that starts at zero."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from raytrain.config.job import Resources
from raytrain_core.quantities import parse_bytes

CPU_GROUP, GPU_GROUP = "cpu", "gpu"
DEFAULT_MEMORY = "8Gi"


@dataclass(frozen=True, slots=True)
class Group:
    """Equal pods: what Ray may count on in each, and how many there are at least and at most."""

    name: str
    cpus: int
    gpus: int
    memory: str
    least: int
    most: int
    trains: bool
    """Training workers run here."""


@dataclass(frozen=True, slots=True)
class _Demand:
    """Processes of one kind, and what Ray reserves for each."""

    cpus: float
    gpus: float
    memory: str | None
    count: int
    trains: bool = False


def groups(resources: Resources) -> list[Group]:
    """The groups of a run: what needs no GPU shares the CPU group, the driver (which prepares) among it."""
    training, evaluation, preparation = resources.training, resources.evaluation, resources.preparation
    demands = [
        _Demand(preparation.cpus, 0, preparation.memory, 1),
        _Demand(evaluation.cpus, evaluation.gpus, evaluation.memory, evaluation.actors),
        _Demand(training.cpus, training.gpus, training.memory, training.workers, trains=True),
    ]
    found = [_group(CPU_GROUP, [d for d in demands if not d.gpus], least=1)]
    if on_gpus := [d for d in demands if d.gpus]:
        found.append(_group(GPU_GROUP, on_gpus, least=0))
    return found


def _group(name: str, demands: Sequence[_Demand], *, least: int) -> Group:
    """Pods that each hold the largest demand, and as many as all demands fill."""
    cpus, gpus = (math.ceil(max(values)) for values in zip(*((d.cpus, d.gpus) for d in demands), strict=True))
    most = _pods(demands, cpus, gpus)
    asked = [(parse_bytes(d.memory) * _in_a_pod(d, cpus, gpus), d) for d in demands if d.memory]
    amount, largest = max(asked, key=lambda pair: pair[0], default=(parse_bytes(DEFAULT_MEMORY), None))
    exact = largest is not None and parse_bytes(largest.memory or DEFAULT_MEMORY) == amount
    memory = (largest.memory if exact and largest else None) or (str(amount) if asked else DEFAULT_MEMORY)
    return Group(name, cpus, gpus, memory, least, most, trains=any(d.trains for d in demands))


def _in_a_pod(demand: _Demand, cpus: int, gpus: int) -> int:
    fits = [int(cpus // demand.cpus)] + ([int(gpus // demand.gpus)] if demand.gpus else [])
    return max(1, min(*fits, demand.count))


def _pods(demands: Sequence[_Demand], cpus: int, gpus: int) -> int:
    """First fit, largest first: as Ray's scheduler packs."""
    free: list[tuple[float, float]] = []
    for demand in sorted(demands, key=lambda d: (d.gpus, d.cpus), reverse=True):
        for _ in range(demand.count):
            room = next((i for i, (c, g) in enumerate(free) if c >= demand.cpus and g >= demand.gpus), None)
            if room is None:
                free.append((cpus, gpus))
                room = len(free) - 1
            free[room] = (free[room][0] - demand.cpus, free[room][1] - demand.gpus)
    return len(free)
