"""Verifies an installed operator; `helm test` runs this in a pod with the operator's account."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from raytrain.kubernetes.client import JOBS, RAY_JOBS, KubernetesApi
from raytrain.operator.install import rbac
from raytrain_core.errors import ExitCode, UserError


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked: what, whether it is in order, and what to do if it is not."""

    what: str
    ok: bool
    hint: str = ""


def verify(api: KubernetesApi, namespaces: Sequence[str] = ()) -> Iterator[Check]:
    """Checks the CRD, KubeRay and the operator's permissions (in `namespaces`, or everywhere)."""
    yield check_crd(api, "helm upgrade with crds.enabled=true, or kubectl apply --server-side -f k8s/crd")
    yield check_kuberay(api)
    rules = [(rule, namespace) for rule in rbac.OPERATOR for namespace in namespaces or [""]]
    rules += [] if namespaces else [(rule, "") for rule in rbac.OPERATOR_CLUSTER]
    for rule, namespace in rules:
        for resource in rule["resources"]:
            yield _check_permission(api, rule, resource, namespace)


def check_crd(api: KubernetesApi, hint: str) -> Check:
    """Checks that the API server knows FineTuneJobs."""
    return Check("FineTuneJobs are served", api.serves(JOBS), hint)


def check_kuberay(api: KubernetesApi) -> Check:
    """Checks that the API server knows RayJobs."""
    hint = "helm install kuberay-operator kuberay/kuberay-operator"
    return Check("RayJobs are served (KubeRay)", api.serves(RAY_JOBS), hint)


def _check_permission(api: KubernetesApi, rule: rbac.Rule, resource: str, namespace: str) -> Check:
    group = rule["apiGroups"][0]
    missing = [verb for verb in rule["verbs"] if not api.is_allowed(verb, group, resource, namespace)]
    place = f" in {namespace}" if namespace else ""
    what = f"may {', '.join(missing or rule['verbs'])} {resource}{place}"
    return Check(what, not missing, "set rbac.create=true, or apply the rules of k8s/rbac")


def main(arguments: list[str] | None = None) -> int:
    """Prints the checks; exit code 5 if something is not in order."""
    parser = argparse.ArgumentParser(prog="python -m raytrain.operator.install.verify", description=__doc__)
    parser.add_argument(
        "--namespace", action="append", default=[], help="a namespace that the operator watches; may be repeated"
    )
    options = parser.parse_args(arguments)
    try:
        checks = list(verify(KubernetesApi.connect(), options.namespace))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for check in checks:
        print(f"{'ok ' if check.ok else 'BAD'} {check.what}" + ("" if check.ok else f": {check.hint}"))
    return ExitCode.OK if all(check.ok for check in checks) else ExitCode.CLUSTER


if __name__ == "__main__":
    sys.exit(main())
