"""What a cluster could ever offer: its nodes, a namespace's quotas, and whether it grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raytrain.config.job import FineTuneJob
from raytrain.kubernetes.client import ApiError, KubernetesApi
from raytrain.operator.fit import needs, over_quota, too_large
from raytrain.operator.settings import Runs

NODES, QUOTAS = ("v1", "Node"), ("v1", "ResourceQuota")
_NODE_POOLS = ("karpenter.sh/v1", "NodePool")
_AUTOSCALER_STATUS = (("v1", "ConfigMap"), "kube-system", "cluster-autoscaler-status")


@dataclass(frozen=True, slots=True)
class Capacity:
    """Nodes and quotas, None for what may not be read."""

    nodes: Sequence[Mapping[str, Any]] | None
    quotas: Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True, slots=True)
class Misfit:
    """What is too large, as sentences."""

    quotas: Sequence[str]
    """Quotas that could never hold the run."""
    nodes: Sequence[str]
    """Pods that no node of today is large enough for."""


def read_capacity(api: KubernetesApi, namespace: str) -> Capacity:
    """Reads nodes and quotas; raises ClusterError if the API server does not answer."""
    return Capacity(_list(api, NODES, None), _list(api, QUOTAS, namespace))


def misfit(job: FineTuneJob, runs: Runs, capacity: Capacity) -> Misfit:
    """Compares what a run needs at least with what there could be."""
    needed = needs(job, runs)
    nodes = list(too_large(needed, capacity.nodes)) if capacity.nodes else []  # none at all: the cluster is new
    return Misfit(list(over_quota(needed, capacity.quotas or [])), nodes)


def may_add_nodes(api: KubernetesApi) -> bool:
    """Whether nodes are, or may be, added on demand; what may not be read counts as yes."""
    try:
        return api.serves(_NODE_POOLS) or api.get(*_AUTOSCALER_STATUS) is not None
    except ApiError:
        return True


def _list(api: KubernetesApi, kind: tuple[str, str], namespace: str | None) -> list[dict[str, Any]] | None:
    try:
        return api.list(kind, namespace)
    except ApiError as error:
        if error.status in (401, 403):
            return None
        raise
