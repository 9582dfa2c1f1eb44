"""What stands beside an attempt's RayJob: its job, the run's accounts and rights, the network policy."""

from collections.abc import Mapping
from typing import Any

from raytrain.operator.render import names
from raytrain.operator.render.attempt import Attempt
from raytrain.operator.render.names import GROUP, PLURAL
from raytrain.operator.render.pods import JOB_KEY
from raytrain.operator.render.yaml_text import yaml_text

_DASHBOARD, _METRICS = 8265, 8080
_RBAC = "rbac.authorization.k8s.io"


def job_config_map(attempt: Attempt) -> dict[str, Any]:
    """The ConfigMap with the job that this attempt runs: later edits are for the next one.

    What equals its default is left out: the API server fills in the defaults of a newer definition,
    and an image older than the operator refuses fields that it does not know. So it refuses only
    those that somebody really set.
    """
    content = attempt.job.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    content["metadata"] = {"name": attempt.job.metadata.name}
    return attempt.object("v1", "ConfigMap", attempt.name) | {"data": {JOB_KEY: yaml_text(content)}}


def accounts(attempt: Attempt) -> list[dict[str, Any]]:
    """Two accounts: the run's, which may patch the status of its own object and nothing else, and the head's."""
    name, account = attempt.job.metadata.name, names.run_account(attempt.job.metadata.name)
    made = []
    for each in (account, names.head_account(name)):
        item = attempt.object("v1", "ServiceAccount", each, lasting=True) | {"automountServiceAccountToken": False}
        if annotations := attempt.cluster.service_account_annotations:
            item["metadata"]["annotations"] = dict(annotations)
        made.append(item)
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
    return [*made, role, binding]


def network_policy(attempt: Attempt) -> dict[str, Any]:
    """Who reaches the pods of the run: they themselves, KubeRay the dashboard, Prometheus the metrics; nobody else."""
    mine = {"matchLabels": {names.JOB_LABEL: attempt.job.metadata.name}}
    account = names.run_account(attempt.job.metadata.name)
    return attempt.object("networking.k8s.io/v1", "NetworkPolicy", account, lasting=True) | {
        "spec": {
            "podSelector": mine,
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [{"podSelector": mine}]},
                _from_anywhere(attempt.runs.kuberay_selector, _DASHBOARD),
                _from_anywhere(attempt.runs.prometheus_selector, _METRICS),
            ],
        }
    }


def _from_anywhere(labels: Mapping[str, str], port: int) -> dict[str, Any]:
    peer = {"namespaceSelector": {}, "podSelector": {"matchLabels": dict(labels)}}
    return {"from": [peer], "ports": [{"protocol": "TCP", "port": port}]}
