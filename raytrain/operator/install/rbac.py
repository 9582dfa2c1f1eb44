"""RBAC rules of the operator and of people: the one list for chart, kustomize and tests."""

from typing import Any

from raytrain.operator.render.names import GROUP, PLURAL

Rule = dict[str, Any]


def _rule(group: str, resources: list[str], verbs: list[str]) -> Rule:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


OPERATOR: tuple[Rule, ...] = (
    _rule(GROUP, [PLURAL], ["get", "list", "watch", "delete"]),  # delete: after cluster.ttl
    _rule(GROUP, [f"{PLURAL}/status"], ["get", "patch"]),
    _rule(GROUP, [f"{PLURAL}/finalizers"], ["update"]),  # needed to be an owner that blocks deletion
    _rule("ray.io", ["rayjobs"], ["get", "list", "watch", "create", "patch", "delete"]),
    _rule("ray.io", ["rayservices"], ["get", "list", "watch", "create", "patch", "delete"]),
    _rule("ray.io", ["rayclusters"], ["list"]),  # whether one is left of an earlier attempt
    _rule("", ["pods"], ["list"]),  # why they do not start, and whether they are gone
    _rule("", ["resourcequotas"], ["list"]),  # whether a job could ever fit
    _rule("", ["namespaces"], ["get"]),  # its UID, by which a run knows its owner
    _rule("", ["configmaps", "serviceaccounts"], ["get", "create", "patch"]),
    _rule("rbac.authorization.k8s.io", ["roles", "rolebindings"], ["get", "create", "patch"]),
    _rule("networking.k8s.io", ["networkpolicies"], ["get", "create", "patch"]),
    _rule("", ["events"], ["create", "list"]),  # list: why a volume cannot be mounted
    _rule("kueue.x-k8s.io", ["localqueues"], ["get"]),  # why a job is not admitted
)
"""Permissions of the operator in every namespace that it watches.

No secrets, and pods are only read; the Roles that it creates grant no more than it has itself.
"""

OPERATOR_CLUSTER: tuple[Rule, ...] = (
    _rule("", ["namespaces"], ["list", "watch"]),
    _rule("", ["nodes"], ["list"]),  # whether a pod could ever fit
    _rule("apiextensions.k8s.io", ["customresourcedefinitions"], ["list", "watch"]),
)
"""Additional permissions to watch the whole cluster: to notice new namespaces and a new KubeRay."""

EDITOR: tuple[Rule, ...] = (
    _rule(GROUP, [PLURAL], ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]),
    _rule(GROUP, [f"{PLURAL}/status"], ["get"]),
)
"""Permissions added to the roles edit and admin."""

VIEWER: tuple[Rule, ...] = (
    _rule(GROUP, [PLURAL], ["get", "list", "watch"]),
    _rule(GROUP, [f"{PLURAL}/status"], ["get"]),
)
"""Permissions added to the role view."""
