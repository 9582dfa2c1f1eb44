"""Turns the job's resources into groups of equal pods.

There is a CPU group, and a GPU group that starts with no pods.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from raytrain.config.resources import Resources
from raytrain_core.quantities import parse_bytes

CPU_GROUP, GPU_GROUP = "cpu", "gpu"
DEFAULT_MEMORY = "8Gi"
_SMALLEST = 0.0001
"""Of a CPU or GPU: Ray counts no smaller parts."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group of equal pods: what each offers to Ray, and the least and most pods."""

    name: str
    cpus: int
    gpus: int
    memory: str
    least: int
    most: int
    trains: bool
    """Whether training workers run here."""


@dataclass(frozen=True, slots=True)
class _Demand:
    """Processes of one kind, and the resources that Ray reserves for each."""

    cpus: float
    gpus: float
    memory: str | None
    count: int
    trains: bool = False


def groups(resources: Resources) -> list[Group]:
    """Returns the groups of a run; all processes without a GPU share one, driver included."""
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


def least_pods(resources: Resources) -> int:
    """Number of worker pods without which a run cannot go on."""
    return sum(group.most for group in least_groups(resources))


def least_groups(resources: Resources) -> list[Group]:
    """The groups of a run with one evaluation actor and with `minWorkers`: it needs all of them."""
    training = resources.training
    workers = training.min_workers or training.workers
    least = resources.model_copy(
        update={
            "training": training.model_copy(update={"workers": workers}),
            "evaluation": resources.evaluation.model_copy(update={"actors": 1}),
        }
    )
    return groups(least)


def _group(name: str, demands: Sequence[_Demand], *, least: int) -> Group:
    """Sizes the pods for the largest demand, and counts as many as all demands together fill."""
    cpus, gpus = (math.ceil(max(values)) for values in zip(*((d.cpus, d.gpus) for d in demands), strict=True))
    most = _pods(demands, cpus, gpus)
    requested = [(parse_bytes(d.memory) * _in_a_pod(d, cpus, gpus), d) for d in demands if d.memory]
    amount, largest = max(requested, key=lambda pair: pair[0], default=(parse_bytes(DEFAULT_MEMORY), None))
    exact = largest is not None and parse_bytes(largest.memory or DEFAULT_MEMORY) == amount
    memory = (largest.memory if exact and largest else None) or (str(amount) if requested else DEFAULT_MEMORY)
    return Group(name, cpus, gpus, memory, least, most, trains=any(d.trains for d in demands))


def _in_a_pod(demand: _Demand, cpus: int, gpus: int) -> int:
    fits = [int(cpus // demand.cpus)] + ([int(gpus // demand.gpus)] if demand.gpus else [])
    return max(1, min(*fits, demand.count))


def _pods(demands: Sequence[_Demand], cpus: int, gpus: int) -> int:
    """Counts pods by first fit, largest first, as Ray's scheduler packs.

    Pods with equally much left are counted together, so that the time does not grow with the
    numbers of a job, which nothing bounds.
    """
    begun: list[_Alike] = []
    for demand in sorted(demands, key=lambda d: (d.gpus, d.cpus), reverse=True):
        left, before, begun = demand.count, begun, []
        for alike in before:
            filled, left = _fill(alike, demand, left)
            begun += filled
        new = _Alike(-(-left // _times(cpus, gpus, demand)), cpus, gpus)
        begun += _fill(new, demand, left)[0]
    return sum(alike.pods for alike in begun)


class _Alike(NamedTuple):
    """Pods that each have as much left."""

    pods: int
    cpus: float
    gpus: float


def _fill(alike: _Alike, demand: _Demand, left: int) -> tuple[list[_Alike], int]:
    """Places up to `left` processes, one pod after the other; returns the pods and who is left."""
    each = _times(alike.cpus, alike.gpus, demand)
    full = min(alike.pods, left // each) if each else 0
    rest = left - full * each if each and full < alike.pods else 0
    kinds = ((full, each), (int(rest > 0), rest), (alike.pods - full - int(rest > 0), 0))
    filled = [
        _Alike(pods, alike.cpus - taken * demand.cpus, alike.gpus - taken * demand.gpus)
        for pods, taken in kinds
        if pods
    ]
    return filled, left - full * each - rest


def _times(cpus: float, gpus: float, demand: _Demand) -> int:
    """How many processes fit into what is left; fractions do not add up exactly."""
    pairs = ((cpus, demand.cpus), (gpus, demand.gpus))
    times = (min(free / needed + 1e-6, sys.maxsize) for free, needed in pairs if needed >= _SMALLEST)
    return int(min(times, default=sys.maxsize))
