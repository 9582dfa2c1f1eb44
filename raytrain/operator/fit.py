"""Whether a job's pods could ever start, given the sizes of nodes and the limits of quotas.

Only what can never fit is found: what others use now is not counted, and taints are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from raytrain.config.job import FineTuneJob
from raytrain.operator.render.attempt import Attempt
from raytrain.operator.render.groups import least_groups
from raytrain.operator.render.pods import group_pod, head_pod
from raytrain.operator.settings import Runs
from raytrain_core.quantities import parse_quantity

Object = Mapping[str, Any]
_QUOTA_PREFIXES = ("requests.", "")


@dataclass(frozen=True, slots=True)
class Need:
    """A kind of pod that the run cannot do without."""

    field: str
    """Where in the job its size is set."""
    count: int
    requests: Mapping[str, Decimal]
    """Amounts of one pod by resource name."""
    selector: Mapping[str, str]


def needs(job: FineTuneJob, runs: Runs) -> list[Need]:
    """The pods without which the run cannot go on: the head, and the least of each group.

    Sizes are those of the finished pods, which `cluster.podTemplate` may have changed.
    """
    attempt = Attempt(job, runs)
    head = _requests(head_pod(attempt)["spec"])
    if attempt.queue is None:  # KubeRay adds the autoscaler's container
        size = {"cpu": parse_quantity(runs.autoscaler.cpu), "memory": parse_quantity(runs.autoscaler.memory)}
        head = {resource: amount + size.get(resource, 0) for resource, amount in head.items()}
    found = [Need("spec.cluster.head", 1, head, {})]
    for group in least_groups(job.spec.resources):
        spec = group_pod(attempt, group)["spec"]
        field = f"spec.resources (the {group.name} pods)"
        found.append(Need(field, group.most, _requests(spec), spec.get("nodeSelector") or {}))
    return found


def _requests(pod: Object) -> dict[str, Decimal]:
    """What the scheduler counts: the sum of the containers; without a request, the limit."""
    total: dict[str, Decimal] = {}
    for container in pod["containers"]:
        resources = _mapping(container.get("resources"))
        amounts = {**_mapping(resources.get("limits")), **_mapping(resources.get("requests"))}
        for resource, amount in amounts.items():
            total[resource] = total.get(resource, Decimal(0)) + _amount(amount)
    return total


def _mapping(value: Any) -> Object:
    return value if isinstance(value, Mapping) else {}


def _amount(quantity: object) -> Decimal:
    """The amount; 0 of what is no quantity, which the API server refuses anyway."""
    try:
        return parse_quantity(str(quantity))
    except ValueError:
        return Decimal(0)


def too_large(needed: Iterable[Need], nodes: Sequence[Object]) -> Iterator[str]:
    """Says, in a sentence each, which pods no node is large enough for."""
    for need in needed:
        candidates = [node for node in nodes if _has_labels(node, need.selector)]
        if need.selector and not candidates:
            yield f"no node has the labels {_listed(need.selector)} (spec.cluster.nodeSelector)"
        elif missing := [r for r in need.requests if "/" in r and not any(_offers(n, r) for n in candidates)]:
            names = f"{', '.join(missing)} (resources.training.resourceName)"
            yield f"{need.field}: no node offers {names}{_instead(nodes)}"
        elif not any(all(_offers(node, r) >= amount for r, amount in need.requests.items()) for node in candidates):
            most = {r: max((_offers(node, r) for node in candidates), default=Decimal(0)) for r in need.requests}
            short = {r: amount for r, amount in need.requests.items() if amount > most[r]} or dict(need.requests)
            have = {r: most[r] for r in short}
            yield f"{need.field}: a pod requests {_listed(short)}, and the largest node offers {_listed(have)}"


def extended_resources(nodes: Iterable[Object]) -> dict[str, Decimal]:
    """What device plugins offer on all nodes together: resources with a domain, e.g. GPUs."""
    total: dict[str, Decimal] = {}
    for node in nodes:
        for name in (node.get("status") or {}).get("allocatable") or {}:
            if "/" in name and (amount := _offers(node, name)):
                total[name] = total.get(name, Decimal(0)) + amount
    return dict(sorted(total.items()))


def _instead(nodes: Iterable[Object]) -> str:
    offered = extended_resources(nodes)
    return f"; nodes offer {_listed(offered)}" if offered else "; no node offers any device"


def over_quota(needed: Iterable[Need], quotas: Iterable[Object]) -> Iterator[str]:
    """Says, in a sentence each, which quotas are smaller than what the run needs at least."""
    totals: dict[str, Decimal] = {"pods": Decimal(0)}
    for need in needed:
        totals["pods"] += need.count
        for resource, amount in need.requests.items():
            totals[resource] = totals.get(resource, Decimal(0)) + amount * need.count
    for quota in quotas:
        if (quota.get("spec") or {}).get("scopes") or (quota.get("spec") or {}).get("scopeSelector"):
            continue  # it may not concern these pods
        hard = (quota.get("spec") or {}).get("hard") or {}
        for resource, total in totals.items():
            for limit in (hard[prefix + resource] for prefix in _QUOTA_PREFIXES if prefix + resource in hard):
                if total > _amount(limit):
                    name = quota["metadata"]["name"]
                    yield f"the run needs at least {_readable(total)} of {resource}, and the quota {name} is {limit}"


def _has_labels(node: Object, selector: Mapping[str, str]) -> bool:
    labels = node["metadata"].get("labels") or {}
    return all(labels.get(name) == value for name, value in selector.items())


def _offers(node: Object, resource: str) -> Decimal:
    return _amount(((node.get("status") or {}).get("allocatable") or {}).get(resource, "0"))


def _listed(amounts: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_readable(amount)}" for name, amount in amounts.items())


def _readable(amount: object) -> str:
    if not isinstance(amount, Decimal):
        return str(amount)
    return f"{amount / 2**30:.1f}Gi" if amount >= 2**30 else f"{amount.normalize():f}"
