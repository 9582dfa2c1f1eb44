"""Refuses a job whose pods could never start in this cluster, before anything is uploaded."""

from __future__ import annotations

from collections.abc import Callable

from raytrain.config.job import FineTuneJob
from raytrain.kubernetes.client import KubernetesApi
from raytrain.operator.capacity import may_add_nodes, misfit, read_capacity
from raytrain.operator.settings import Runs
from raytrain_core.errors import ClusterError


def check_fit(job: FineTuneJob, api: KubernetesApi, namespace: str, say: Callable[[str], None]) -> None:
    """Raises ClusterError if no node is large enough for a pod, or a quota is smaller than the run.

    What may not be read is not checked, and that is said. Where nodes are added on demand, their
    sizes are not known, and a pod that fits none of today's is only mentioned.
    """
    capacity = read_capacity(api, namespace)
    unread = [what for what, found in (("nodes", capacity.nodes), ("quotas", capacity.quotas)) if found is None]
    if unread:
        say(f"not checked whether the pods could start: you may not list {' and '.join(unread)}")
    problems = misfit(job, Runs(), capacity)
    if problems.quotas:
        raise ClusterError("; ".join(problems.quotas), hint="request less in spec.resources, or have the quota raised")
    if problems.nodes and may_add_nodes(api):
        say(f"no node is large enough now ({'; '.join(problems.nodes)}): this works only if an autoscaler adds one")
    elif problems.nodes:
        raise ClusterError("; ".join(problems.nodes), hint="request less in spec.resources, or add a larger node first")
