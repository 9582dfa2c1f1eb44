"""Refuses a job whose pods could never start in this cluster, before anything is uploaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raytrain.config.job import FineTuneJob
from raytrain.kubernetes.client import ApiError, KubernetesApi
from raytrain.operator.fit import over_quota, too_large
from raytrain_core.errors import ClusterError

NODES, QUOTAS = ("v1", "Node"), ("v1", "ResourceQuota")
_NODE_POOLS = ("karpenter.sh/v1", "NodePool")
_AUTOSCALER_STATUS = (("v1", "ConfigMap"), "kube-system", "cluster-autoscaler-status")


def check_fit(job: FineTuneJob, api: KubernetesApi, namespace: str, say: Callable[[str], None]) -> None:
    """Raises ClusterError if no node is large enough for a pod, or a quota is smaller than the run.

    What may not be read is not checked, and that is said. Where nodes are added on demand, their
    sizes are not known, and a pod that fits none of today's is only mentioned.
    """
    quotas, nodes = _list(api, QUOTAS, namespace), _list(api, NODES, None)
    unread = [what for what, found in (("nodes", nodes), ("quotas", quotas)) if found is None]
    if unread:
        say(f"not checked whether the pods could start: you may not list {' and '.join(unread)}")
    if problems := list(over_quota(job, quotas or [])):
        raise ClusterError("; ".join(problems), hint="request less in spec.resources, or have the quota raised")
    problems = list(too_large(job, nodes)) if nodes is not None else []
    if problems and _may_add_nodes(api):
        say(f"no node is large enough now ({'; '.join(problems)}): this works only if an autoscaler adds one")
    elif problems:
        raise ClusterError("; ".join(problems), hint="request less in spec.resources, or add a larger node first")


def _list(api: KubernetesApi, kind: tuple[str, str], namespace: str | None) -> list[dict[str, Any]] | None:
    try:
        return api.list(kind, namespace)
    except ApiError as error:
        if error.status in (401, 403):
            return None
        raise


def _may_add_nodes(api: KubernetesApi) -> bool:
    """Whether nodes are, or may be, added on demand; what may not be read counts as yes."""
    try:
        return api.serves(_NODE_POOLS) or api.get(*_AUTOSCALER_STATUS) is not None
    except ApiError:
        return True
