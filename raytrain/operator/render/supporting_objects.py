"""The objects next to an attempt's RayJob: job ConfigMap, service accounts, network policy."""

from collections.abc import Mapping
from typing import Any

from raytrain.operator.render import names
from raytrain.operator.render.attempt import Attempt
from raytrain.operator.render.names import GROUP, PLURAL
from raytrain.operator.render.pods import JOB_KEY
from raytrain.operator.render.yaml_output import to_yaml

_DASHBOARD, _METRICS = 8265, 8080
_RBAC = "rbac.authorization.k8s.io"


def job_config_map(attempt: Attempt) -> dict[str, Any]:
    """The ConfigMap with the job that this attempt runs; later edits apply to the next attempt.

    Defaults are left out: the API server fills in the defaults of the installed CRD, and an image
    older than the operator would refuse fields that it does not know.
    """
    content = attempt.job.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    content["metadata"] = {"name": attempt.job.metadata.name}
    content["spec"].pop("serving", None)  # the operator's matter
    if attempt.job.spec.storage is not None:
        content["spec"]["storage"]["uri"] = attempt.place
    return attempt.object("v1", "ConfigMap", attempt.name) | {"data": {JOB_KEY: to_yaml(content)}}


def accounts(attempt: Attempt) -> list[dict[str, Any]]:
    """Two service accounts: the head's, and the run's, which may patch its own object's status."""
    name, account = attempt.job.metadata.name, names.run_account(attempt.job.metadata.name)
    service_accounts = []
    for account_name in (account, names.head_account(name)):
        item = attempt.object("v1", "ServiceAccount", account_name, lasting=True) | {
            "automountServiceAccountToken": False
        }
        if annotations := attempt.cluster.service_account_annotations:
            item["metadata"]["annotations"] = dict(annotations)
        service_accounts.append(item)
    own = {"apiGroups": [GROUP], "resourceNames": [name]}
    role = attempt.object(f"{_RBAC}/v1", "Role", account, lasting=True) | {
        "rules": [
            own | {"resources": [PLURAL], "verbs": ["get"]},
            own | {"resources": [f"{PLURAL}/status"], "verbs": ["get", "patch"]},
        ]
    }
    binding = attempt.object(f"{_RBAC}/v1", "RoleBinding", account, lasting=True) | {
        "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": account},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": attempt.namespace}],
    }
    return [*service_accounts, role, binding]


def network_policy(attempt: Attempt) -> dict[str, Any]:
    """Restricts access to the pods of the run.

    They reach each other, KubeRay reaches the dashboard, Prometheus the metrics.
    """
    own_pods = {"matchLabels": {names.JOB_LABEL: attempt.job.metadata.name}}
    account = names.run_account(attempt.job.metadata.name)
    return attempt.object("networking.k8s.io/v1", "NetworkPolicy", account, lasting=True) | {
        "spec": {
            "podSelector": own_pods,
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [{"podSelector": own_pods}]},
                from_anywhere(attempt.runs.kuberay_selector, _DASHBOARD),
                from_anywhere(attempt.runs.prometheus_selector, _METRICS),
            ],
        }
    }


def from_anywhere(labels: Mapping[str, str], port: int) -> dict[str, Any]:
    """An ingress rule: pods with these labels, of any namespace, reach a port."""
    peer = {"namespaceSelector": {}, "podSelector": {"matchLabels": dict(labels)}}
    return {"from": [peer], "ports": [{"protocol": "TCP", "port": port}]}
