"""Install, upgrade, uninstall: with Helm and with kubectl, on a real API server."""

import json
import subprocess

import pytest

from tests.support import REPOSITORY
from tests.support.api_server import api_server
from tests.support.finetunejob_objects import finetunejob
from tests.support.kubernetes_tools import ToolsUnavailableError

CHART, JOB_CHART = str(REPOSITORY / "helm" / "raytrain-operator"), str(REPOSITORY / "helm" / "finetune-job")

pytestmark = pytest.mark.cluster


@pytest.fixture
def empty(tools, tmp_path):
    """An API server without raytrain."""
    try:
        with api_server(tmp_path) as server:
            yield server
    except ToolsUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def helm(tools, empty):
    """The real Helm on that server."""

    def run(*arguments):
        command = [str(tools.helm), f"--kubeconfig={empty.kubeconfig()}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def kinds(server):
    """The objects of raytrain in the cluster, by kind and name."""
    found = server.kubectl(
        "get", "crd,clusterrole,clusterrolebinding,deployment,configmap,serviceaccount,networkpolicy", "-A",
        "-l", "app.kubernetes.io/part-of=raytrain", "-o", "name",
    )  # fmt: skip
    return set(found.stdout.split())


def test_helm_installs_upgrades_and_keeps_the_crd_and_its_objects(empty, helm, tmp_path):
    system = ("-n", "raytrain-system", "--create-namespace")
    notes = helm("install", "raytrain", CHART, *system)
    assert "Accepted=False, reason KubeRayMissing" in notes
    assert "every job must set spec.storage.uri" in notes
    installed = kinds(empty)
    assert "deployment.apps/raytrain-operator" in installed
    empty.until_served("/apis/raytrain.dev/v1alpha1/finetunejobs")

    notes = helm(
        "upgrade", "raytrain", CHART, *system, "--reset-then-reuse-values", "--set=settings.runs.storage=s3://bucket/a"
    )
    assert "every job must set" not in notes
    settings = empty.get("configmap", "raytrain-operator", "-n", "raytrain-system")["data"]["settings.yaml"]
    assert "storage: s3://bucket/a" in settings
    assert kinds(empty) == installed

    job_file = tmp_path / "job.yaml"
    job_file.write_text(json.dumps({**finetunejob(), "metadata": {"name": ""}}), encoding="utf-8")
    empty.kubectl("create", "namespace", "team")
    notes = helm("install", "my-run", JOB_CHART, "-n", "team", "-f", str(job_file))
    assert "kubectl -n team get ftj my-run -w" in notes
    assert empty.get("ftj", "my-run", "-n", "team")["spec"]["training"]["steps"] == 100

    helm("uninstall", "raytrain", "-n", "raytrain-system")
    assert kinds(empty) == {"customresourcedefinition.apiextensions.k8s.io/finetunejobs.raytrain.dev"}
    assert empty.get("ftj", "my-run", "-n", "team")["metadata"]["name"] == "my-run"
    helm("uninstall", "my-run", "-n", "team")
    assert empty.get("ftj", "-n", "team")["items"] == []


def test_kustomize_and_install_yaml_install_the_same(empty):
    empty.kubectl("apply", "--server-side", "-k", str(REPOSITORY / "k8s" / "default"))
    by_kustomize = kinds(empty)
    assert len(by_kustomize) >= 8
    text = empty.kubectl("apply", "--server-side", "-f", str(REPOSITORY / "k8s" / "install.yaml")).stdout
    assert {line.split()[1] for line in text.splitlines()} == {"serverside-applied"}
    assert kinds(empty) == by_kustomize
    empty.until_served("/apis/raytrain.dev/v1alpha1/finetunejobs")


def test_helm_takes_over_what_kubectl_installed(empty, helm):
    empty.kubectl("apply", "--server-side", "-k", str(REPOSITORY / "k8s" / "default"))
    installed = kinds(empty)
    empty.kubectl("delete", "deployment", "raytrain-operator", "-n", "raytrain-system")
    helm("install", "raytrain", CHART, "-n", "raytrain-system", "--take-ownership", "--force-conflicts")
    assert kinds(empty) == installed
    helm("upgrade", "raytrain", CHART, "-n", "raytrain-system", "--reset-then-reuse-values", "--set=verbose=true")


def test_helm_installs_again_in_another_namespace_and_a_second_operator_for_some_namespaces(empty, helm):
    helm("install", "raytrain", CHART, "-n", "one", "--create-namespace")
    helm("uninstall", "raytrain", "-n", "one")  # the definition is kept, and is that release's
    helm("install", "raytrain", CHART, "-n", "two", "--create-namespace", "--take-ownership")
    empty.kubectl("create", "namespace", "team-a")
    own = ("--set=watchNamespaces={team-a}", "--set=rbac.aggregate=false", "--set=crds.enabled=false")
    helm("install", "second", CHART, "-n", "three", "--create-namespace", *own)
    found = empty.get("deployment", "-A", "-l", "app.kubernetes.io/part-of=raytrain")["items"]
    assert sorted(item["metadata"]["namespace"] for item in found) == ["three", "two"]
