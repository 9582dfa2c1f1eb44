"""The operator's own objects with default settings, for kustomize and `kubectl apply`.

The chart renders the same objects; a test compares them.
"""

from collections.abc import Mapping
from typing import Any

from raytrain import __version__
from raytrain.operator.install import rbac
from raytrain.operator.render.names import MANAGER
from raytrain.operator.render.supporting_objects import from_anywhere
from raytrain.operator.render.yaml_output import to_yaml
from raytrain.operator.settings import VARIABLE, Settings

NAMESPACE = "raytrain-system"
IMAGE = f"raytrain-operator:{__version__}"
USER = 1000
PORT, METRICS_PORT = 8080, 8081
SETTINGS_FOLDER, SETTINGS_KEY = "/etc/raytrain", "settings.yaml"
LABELS: Mapping[str, str] = {
    "app.kubernetes.io/name": MANAGER,
    "app.kubernetes.io/instance": "raytrain",
    "app.kubernetes.io/part-of": "raytrain",
    "app.kubernetes.io/version": __version__,
}
SELECTOR: Mapping[str, str] = {
    "app.kubernetes.io/name": MANAGER,
    "app.kubernetes.io/instance": "raytrain",
}
_RBAC = "rbac.authorization.k8s.io"


def namespace() -> dict[str, Any]:
    """The operator's namespace, with the restricted Pod Security standard enforced."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def rbac_objects() -> list[dict[str, Any]]:
    """The operator's account and permissions, and roles for people."""
    account = _object("v1", "ServiceAccount", MANAGER) | {"automountServiceAccountToken": False}
    rules = [*rbac.OPERATOR, *rbac.OPERATOR_CLUSTER]
    role = _object(f"{_RBAC}/v1", "ClusterRole", MANAGER, namespaced=False) | {"rules": rules}
    binding = _object(f"{_RBAC}/v1", "ClusterRoleBinding", MANAGER, namespaced=False) | {
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": MANAGER},
        "subjects": [{"kind": "ServiceAccount", "name": MANAGER, "namespace": NAMESPACE}],
    }
    return [
        account,
        role,
        binding,
        _people("editor", rbac.EDITOR, "edit", "admin"),
        _people("viewer", rbac.VIEWER, "view"),
    ]


def manager(settings: Settings) -> list[dict[str, Any]]:
    """The deployment, its settings and its network policy."""
    content = to_yaml(settings.model_dump(mode="json", by_alias=True, exclude_none=True))
    config = _object("v1", "ConfigMap", MANAGER) | {"data": {SETTINGS_KEY: content}}
    policy = _object("networking.k8s.io/v1", "NetworkPolicy", MANAGER) | {
        "spec": {
            "podSelector": {"matchLabels": dict(SELECTOR)},
            "policyTypes": ["Ingress"],
            "ingress": [from_anywhere(settings.runs.prometheus_selector, METRICS_PORT)],
        }
    }
    return [config, _deployment(), policy]


def _deployment() -> dict[str, Any]:
    probe = {"httpGet": {"path": "/healthz", "port": "health"}}
    container = {
        "name": "operator",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": [f"--liveness=http://0.0.0.0:{PORT}/healthz", f"--metrics={METRICS_PORT}"],
        "env": [{"name": VARIABLE, "value": f"{SETTINGS_FOLDER}/{SETTINGS_KEY}"}],
        "ports": [
            {"name": "health", "containerPort": PORT},
            {"name": "metrics", "containerPort": METRICS_PORT},
        ],
        # generous: on an overloaded node the operator is slow, not dead
        "startupProbe": {**probe, "periodSeconds": 5, "timeoutSeconds": 10, "failureThreshold": 60},
        "livenessProbe": {**probe, "periodSeconds": 30, "timeoutSeconds": 20, "failureThreshold": 5},
        "readinessProbe": {**probe, "periodSeconds": 10, "timeoutSeconds": 10},
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "384Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "settings", "mountPath": SETTINGS_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    pod = {
        "serviceAccountName": MANAGER,
        "automountServiceAccountToken": True,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "settings", "configMap": {"name": MANAGER}}, {"name": "tmp", "emptyDir": {}}],
    }
    return _object("apps/v1", "Deployment", MANAGER) | {
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": dict(SELECTOR)},
            "template": {"metadata": {"labels": dict(LABELS)}, "spec": pod},
        }
    }


def _people(name: str, rules: tuple[rbac.Rule, ...], *into: str) -> dict[str, Any]:
    found = _object(f"{_RBAC}/v1", "ClusterRole", f"raytrain-finetunejob-{name}", namespaced=False)
    found["metadata"]["labels"] |= {f"{_RBAC}/aggregate-to-{role}": "true" for role in into}
    return found | {"rules": list(rules)}


def _object(api_version: str, kind: str, name: str, *, namespaced: bool = True) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "labels": dict(LABELS)}
    if namespaced:
        metadata["namespace"] = NAMESPACE
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}
