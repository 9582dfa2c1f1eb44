"""Is the operator installed as it should be? `helm test` asks this in a pod with the operator's account."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from raytrain.kubernetes.client import JOBS, RAY_JOBS, ApiError, KubernetesApi
from raytrain.operator.install import rbac as rights
from raytrain_core.errors import ExitCode, UserError


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what, whether it is as it should be, and what to do if not."""

    what: str
    good: bool
    hint: str = ""


def findings(api: KubernetesApi, namespaces: Sequence[str] = ()) -> Iterator[Finding]:
    """The definition, KubeRay, and every right that the operator needs (in `namespaces`, or everywhere)."""
    install = "helm upgrade with crds.enabled=true, or kubectl apply --server-side -f k8s/crd"
    yield Finding("FineTuneJobs are served", served(api, JOBS), install)
    kuberay = "helm install kuberay-operator kuberay/kuberay-operator"
    yield Finding("RayJobs are served (KubeRay)", served(api, RAY_JOBS), kuberay)
    rules = [(rule, where) for rule in rights.OPERATOR for where in namespaces or [""]]
    rules += [] if namespaces else [(rule, "") for rule in rights.OPERATOR_CLUSTER]
    for rule, namespace in rules:
        group = rule["apiGroups"][0]
        for resource in rule["resources"]:
            lacking = [verb for verb in rule["verbs"] if not may(api, verb, group, resource, namespace)]
            place = f" in {namespace}" if namespace else ""
            what = f"may {', '.join(lacking or rule['verbs'])} {resource}{place}"
            yield Finding(what, not lacking, "rbac.create=true, or the rules of k8s/rbac")


def served(api: KubernetesApi, kind: tuple[str, str]) -> bool:
    """Whether the API server knows objects of this kind."""
    try:
        answer = api.call("GET", f"/apis/{kind[0]}")
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    return any(resource.get("kind") == kind[1] for resource in answer.get("resources", []))


def may(api: KubernetesApi, verb: str, group: str, resource: str, namespace: str) -> bool:
    """Whether the account that asks may do this."""
    name, _, part = resource.partition("/")
    wish = {"verb": verb, "group": group, "resource": name, "subresource": part, "namespace": namespace}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": wish},
    }
    answer = api.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
    return bool(answer.get("status", {}).get("allowed"))


def main(arguments: list[str] | None = None) -> int:
    """Print the findings; exit code 5 if one is bad."""
    parser = argparse.ArgumentParser(prog="python -m raytrain.operator.install.verify", description=__doc__)
    parser.add_argument("--namespace", action="append", default=[], help="one that the operator watches")
    options = parser.parse_args(arguments)
    try:
        found = list(findings(KubernetesApi.connect(), options.namespace))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for finding in found:
        print(f"{'ok ' if finding.good else 'BAD'} {finding.what}" + ("" if finding.good else f": {finding.hint}"))
    return ExitCode.OK if all(finding.good for finding in found) else ExitCode.CLUSTER


if __name__ == "__main__":
    sys.exit(main())
