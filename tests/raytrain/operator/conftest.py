"""A real API server with our CRD and KubeRay's, without controllers: tests play KubeRay."""

from uuid import uuid4

import pytest

from raytrain.operator.install import deployment, rbac
from raytrain.operator.install.crd import crd
from tests.support.api_server import api_server
from tests.support.kubernetes_tools import ToolsUnavailableError, kuberay_crds, kubernetes_tools
from tests.support.operator_process import operator_process


@pytest.fixture(scope="session")
def tools():
    """The real kubectl and helm."""
    try:
        return kubernetes_tools()
    except ToolsUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kubernetes(tools, tmp_path_factory):
    """An API server with FineTuneJobs and RayJobs, and a user `operator` with k8s/rbac's rules."""
    folder = tmp_path_factory.mktemp("kubernetes")
    try:
        kuberay = kuberay_crds()
        with api_server(folder, users=["operator", "local", "stranger"]) as server:
            server.kubectl("apply", "--server-side", "-f", str(kuberay / "ray.io_rayjobs.yaml"))
            role, binding = deployment.rbac_objects()[1:3]
            user = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "operator"}
            server.apply(crd(), role, binding | {"subjects": [user]})
            for served in ("raytrain.dev/v1alpha1/finetunejobs", "ray.io/v1/rayjobs"):
                server.until_served(f"/apis/{served}")
            yield server
    except ToolsUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def namespace(kubernetes):
    """A fresh namespace."""
    name = f"team-{uuid4().hex[:6]}"
    kubernetes.kubectl("create", "namespace", name)
    return name


@pytest.fixture(scope="module")
def operator(kubernetes, tmp_path_factory):
    """The operator for all namespaces, with the permissions that the chart grants."""
    with operator_process(kubernetes.kubeconfig("operator"), tmp_path_factory.mktemp("operator")) as log:
        yield log


@pytest.fixture
def operator_here(kubernetes, namespace, tmp_path):
    """An operator for one namespace, with a Role there and no permissions elsewhere."""
    group, metadata = "rbac.authorization.k8s.io", {"name": "raytrain-operator", "namespace": namespace}
    role = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": list(rbac.OPERATOR)}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "raytrain-operator"},
        "subjects": [{"kind": "User", "apiGroup": group, "name": "local"}],
    }
    kubernetes.apply(role, binding)
    with operator_process(kubernetes.kubeconfig("local"), tmp_path, f"--namespace={namespace}") as log:
        yield log
