"""Installs KubeRay's CRDs and starts its operator."""

from pathlib import Path
from typing import Any

from tests.cluster.harness.context import ClusterContext
from tests.cluster.harness.machine import Daemon
from tests.cluster.harness.processes import wait_for


def install_crds(api: Any, folder: Path) -> None:
    """Creates the CRDs and waits until they are served."""
    import yaml
    from kubernetes import client

    extensions = client.ApiextensionsV1Api(api)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 1.4 MB each
    names = []
    for path in sorted(folder.glob("*.yaml")):
        definition = yaml.load(path.read_text(), Loader=loader)
        extensions.create_custom_resource_definition(definition)
        names.append(definition["metadata"]["name"])

    def served(name: str) -> bool:
        status = extensions.read_custom_resource_definition(name).status
        conditions = (status and status.conditions) or []
        return any(c.type == "Established" and c.status == "True" for c in conditions)

    wait_for(lambda: all(served(name) for name in names), 30, "KubeRay's CRDs")


def start_operator(context: ClusterContext) -> Daemon:
    """Starts the operator as a process next to the kubelets.

    It reaches Ray's dashboards through the API server.
    """
    return context.start(
        "kuberay-operator",
        f"--kubeconfig={context.paths.kubeconfig}",
        "--enable-leader-election=false",
        "--use-kubernetes-proxy",
        "--metrics-addr=127.0.0.1:18080",
        "--health-probe-bind-address=127.0.0.1:18082",
        environment={"ENABLE_WEBHOOKS": "false", "POD_NAMESPACE": "default"},
    )
