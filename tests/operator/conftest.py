"""A real API server with our definition and KubeRay's, and no controllers: the tests play KubeRay."""

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from api_server import api_server
from kubernetes_tools import ToolsUnavailable, kuberay_crds, kubernetes_tools

from raytrain.operator import deployment
from raytrain.operator.crd import crd

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def tools():
    """The real kubectl and helm."""
    try:
        return kubernetes_tools()
    except ToolsUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kubernetes(tools, tmp_path_factory):
    """An API server that knows FineTuneJobs and RayJobs, and a user `operator` with the rights of k8s/rbac."""
    folder = tmp_path_factory.mktemp("kubernetes")
    try:
        kuberay = kuberay_crds()
        with api_server(folder, users=["operator", "stranger"]) as server:
            server.kubectl("apply", "--server-side", "-f", str(kuberay / "ray.io_rayjobs.yaml"))
            role, binding = deployment.rbac()[1:3]
            user = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "operator"}
            server.apply(crd(), role, binding | {"subjects": [user]})
            for served in ("raytrain.dev/v1alpha1/finetunejobs", "ray.io/v1/rayjobs"):
                server.until_served(f"/apis/{served}")
            yield server
    except ToolsUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def namespace(kubernetes):
    """A fresh namespace."""
    name = f"team-{uuid4().hex[:6]}"
    kubernetes.kubectl("create", "namespace", name)
    return name


@pytest.fixture(scope="session")
def operator(kubernetes, tmp_path_factory):
    """The operator as a process, with the rights that the chart gives it and short pauses between attempts."""
    folder = tmp_path_factory.mktemp("operator")
    settings = folder / "settings.yaml"
    settings.write_text(json.dumps({"retry": {"firstSeconds": 0.2}, "runs": {"secrets": ["bucket"]}}))
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubernetes.kubeconfig("operator")),
        "RAYTRAIN_OPERATOR_SETTINGS": str(settings),
        "PYTHONPATH": str(ROOT),
    }
    log = folder / "operator.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "raytrain.operator", "--verbose"], env=environment, stdout=output, stderr=output
        )
    yield log
    process.terminate()
    assert process.wait(30) == 0, log.read_text()[-3000:]
