"""Chart, kustomize and install.yaml are generated from one source and agree."""

import json
import shutil
import subprocess

import pytest
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from raytrain.config.job import FineTuneJob
from raytrain.operator.install import manifests, rbac
from raytrain.operator.settings import Settings
from tests.support.finetunejob_objects import finetunejob

ROOT = manifests.ROOT
CHART, JOB_CHART = ROOT / "helm" / "raytrain-operator", ROOT / "helm" / "finetune-job"


FILES = manifests.files()


@pytest.mark.parametrize("path", sorted(FILES))
def test_the_files_are_up_to_date(path):
    assert (ROOT / path).read_text(encoding="utf-8") == FILES[path], "run: make generate"


def objects(text):
    """Objects by kind and name, without what Helm adds."""
    found = {}
    for document in YAML(typ="safe").load_all(text):
        if document is None:
            continue
        metadata = document["metadata"]
        for holder in (metadata, document.get("spec", {}).get("template", {}).get("metadata", {})):
            for label in ("helm.sh/chart", "app.kubernetes.io/managed-by"):
                holder.get("labels", {}).pop(label, None)
            for note in ("helm.sh/resource-policy", "raytrain.dev/settings-checksum"):
                holder.get("annotations", {}).pop(note, None)
            if not holder.get("annotations", True):
                del holder["annotations"]
        found[document["kind"], metadata["name"]] = document
    return found


@pytest.fixture(scope="session")
def chart(tools):
    """The chart's objects for some values."""

    def render(*arguments, namespace="raytrain-system"):
        found = objects(tools.template(CHART, *arguments, namespace=namespace))
        return {
            key: value for key, value in found.items() if "helm.sh/hook" not in value["metadata"].get("annotations", {})
        }

    return render


def test_chart_and_kustomize_agree(chart, tools):
    rendered, built = chart(), objects(tools.kustomize(ROOT / "k8s" / "default"))
    assert set(built) - set(rendered) == {("Namespace", "raytrain-system")}  # Helm makes it by --create-namespace
    assert set(rendered) <= set(built)
    for key, found in rendered.items():
        wanted = built[key]
        if key[0] == "ConfigMap":  # the same settings, however they are written
            ours, theirs = (
                Settings.model_validate(YAML(typ="safe").load(o["data"].pop("settings.yaml"))) for o in (found, wanted)
            )
            assert ours == theirs
        assert found == wanted, key


def test_install_yaml_is_what_kustomize_builds(tools):
    installed = objects((ROOT / "k8s" / "install.yaml").read_text(encoding="utf-8"))
    assert installed == objects(tools.kustomize(ROOT / "k8s" / "default"))


def test_kustomize_builds_from_its_folder_alone(tools, tmp_path):
    """So a repository can be a remote base: kubectl apply -k ...//k8s/default?ref=TAG."""
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    assert tools.kustomize(tmp_path / "k8s" / "default") == tools.kustomize(ROOT / "k8s" / "default")
    base = tmp_path / "overlay"
    base.mkdir()
    (base / "kustomization.yaml").write_text("resources: [../k8s/default]\nnamespace: elsewhere\n", encoding="utf-8")
    found = list(YAML(typ="safe").load_all(tools.kustomize(base)))
    assert {o["metadata"].get("namespace", "elsewhere") for o in found} == {"elsewhere"}
    (subject,) = next(o for o in found if o["kind"] == "ClusterRoleBinding")["subjects"]
    assert subject["namespace"] == "elsewhere"


def test_the_chart_makes_local_queues(chart):
    assert not [key for key in chart() if key[0] == "LocalQueue"]
    values = "--set-json=kueue.localQueues=" + json.dumps(
        [{"name": "1", "namespace": "team-a", "clusterQueue": "gpus"}]
    )
    made = chart(values)["LocalQueue", "1"]
    assert made["metadata"]["namespace"] == "team-a"
    assert made["spec"] == {"clusterQueue": "gpus"}
    older = chart(values, "--api-versions=kueue.x-k8s.io/v1beta1")["LocalQueue", "1"]
    assert (made["apiVersion"], older["apiVersion"]) == ("kueue.x-k8s.io/v1beta2", "kueue.x-k8s.io/v1beta1")


def test_settings_of_the_chart_reach_the_operator(chart):
    arguments = (
        "--set=settings.runs.storage=s3://bucket/raytrain", "--set=runImage.registry=registry.example/",
        "--set=runImage.digest=sha256:" + "a" * 64, "--set=settings.policy.allowedImages={registry.example/}",
        "--set=settings.maxRunningJobs.inAll=3",
    )  # fmt: skip
    text = chart(*arguments)["ConfigMap", "raytrain-operator"]["data"]["settings.yaml"]
    given = YAML(typ="safe").load(text)
    settings = Settings.model_validate(given)
    assert set(given) == {field.alias for field in Settings.model_fields.values()}, "no group is left out"
    assert settings.max_running_jobs.in_all == 3
    assert settings.runs.storage == "s3://bucket/raytrain"
    assert settings.runs.image == "registry.example/raytrain@sha256:" + "a" * 64
    assert settings.policy.allowed_images == ["registry.example/"]


def test_with_namespaces_the_operator_has_no_permissions_elsewhere(chart):
    found = chart("--set=watchNamespaces={team-a,team-b}", "--set=rbac.aggregate=false")
    kinds = [kind for kind, _ in found]
    assert "ClusterRole" not in kinds
    assert "ClusterRoleBinding" not in kinds
    container = found["Deployment", "raytrain-operator"]["spec"]["template"]["spec"]["containers"][0]
    assert container["args"][2:] == ["--namespace=team-a", "--namespace=team-b"]


def test_the_crd_is_kept_by_default(tools):
    kept, left = (
        tools.template(CHART, "--show-only=templates/crd.yaml", *more) for more in ((), ("--set=crds.keep=false",))
    )
    assert "helm.sh/resource-policy: keep" in kept
    assert "helm.sh/resource-policy" not in left
    assert "CustomResourceDefinition" not in tools.template(CHART, "--set=crds.enabled=false")


@pytest.mark.parametrize(
    "value",
    ["image.pulPolicy=Always", "image.digest=latest", "settings.runs.keepClusterSeconds=-1", "settings.polycy=x",
     "settings.runs.podsReadySeconds=3600", "watchNamespaces=team", "resources=1", "crds.keep=sometimes"],
)  # fmt: skip
def test_invalid_values_are_refused(tools, value):
    with pytest.raises(RuntimeError, match="values don't meet the specifications of the schema"):
        tools.template(CHART, f"--set={value}")


def test_every_pod_of_the_chart_passes_restricted_pod_security(tools):
    for document in YAML(typ="safe").load_all(tools.template(CHART)):
        spec = (document or {}).get("spec", {})
        pod = spec.get("template", {}).get("spec") or (spec if "containers" in spec else None)
        if pod is None:
            continue
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True,
            }  # fmt: skip
            assert container["resources"]["limits"]["memory"]


def test_no_permission_is_a_wildcard_none_reads_secrets_and_pods_are_only_listed():
    for rule in (*rbac.OPERATOR, *rbac.OPERATOR_CLUSTER, *rbac.EDITOR, *rbac.VIEWER):
        assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
        assert not {"secrets", "pods/exec", "pods/log"} & set(rule["resources"])
        assert "pods" not in rule["resources"] or rule["verbs"] == ["list"]


def test_every_value_is_documented():
    values = YAML().load((CHART / "values.yaml").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "reference" / "helm.md").read_text(encoding="utf-8")

    def leaves(node, path):
        for key, value in node.items():
            here = f"{path}.{key}" if path else str(key)
            if isinstance(value, CommentedMap) and value and f"| `{here}` |" not in page:
                yield from leaves(value, here)
            else:
                yield here

    assert [leaf for leaf in leaves(values, "") if f"| `{leaf}` |" not in page] == []


def test_a_release_is_the_job(tools, tmp_path):
    body = finetunejob(cluster={"retries": 1})
    job = {**body, "metadata": {"name": "assistant"}}
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps(job), encoding="utf-8")
    (made,) = objects(tools.template(JOB_CHART, "-f", str(path), release="my-run", namespace="team")).values()
    assert (made["metadata"]["name"], made["metadata"]["namespace"]) == ("assistant", "team")
    assert FineTuneJob.model_validate({**made, "metadata": {"name": "assistant"}}) == FineTuneJob.model_validate(job)
    del job["metadata"]
    path.write_text(json.dumps(job), encoding="utf-8")
    (made,) = objects(tools.template(JOB_CHART, "-f", str(path), release="my-run")).values()
    assert made["metadata"]["name"] == "my-run"


def test_a_release_of_an_invalid_job_is_refused(tools, tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps({"spec": {**finetunejob()["spec"], "trainning": {}}}), encoding="utf-8")
    with pytest.raises(RuntimeError, match="trainning"):
        tools.template(JOB_CHART, "-f", str(path))
    with pytest.raises(RuntimeError, match="spec"):
        tools.template(JOB_CHART)


@pytest.mark.parametrize("release", ["20261127", "123e4", "yes", "0x1f", "null"])
def test_a_release_may_have_a_name_that_yaml_reads_as_something_else(tools, release):
    for chart_, more in ((CHART, ("--set=podLabels.team=5",)), (JOB_CHART, ("--set=spec.model=x",))):
        for document in YAML(typ="safe").load_all(_unchecked(tools, chart_, release, *more)):
            metadata = (document or {"metadata": {}})["metadata"]
            assert all(isinstance(value, str) for value in metadata.get("labels", {}).values())
            assert isinstance(metadata.get("name", ""), str)
            assert isinstance(metadata.get("namespace", ""), str)


def _unchecked(tools, chart_, release, *arguments):
    """Rendered without the schema, in a namespace of a number's name."""
    return tools.template(chart_, "--skip-schema-validation", *arguments, release=release, namespace="123")


def test_labels_of_the_user_never_double_ours(tools):
    flags = ("podMonitor", "rules", "dashboard")
    name = "app\\.kubernetes\\.io/name"
    values = [f"--set-string=podLabels.{name}=x", f"--set-string=monitoring.labels.{name}=x"]
    text = tools.template(CHART, *values, *(f"--set=monitoring.{flag}=true" for flag in flags))
    for document in YAML(typ="safe").load_all(text):  # refuses a key that is there twice
        labels = (document or {}).get("metadata", {}).get("labels", {})
        assert labels.get("app.kubernetes.io/name", "raytrain-operator") == "raytrain-operator"
    for folder in ("default", "manager", "rbac", "crd"):
        list(YAML(typ="safe").load_all(tools.kustomize(ROOT / "k8s" / folder)))


@pytest.mark.parametrize("chart_", [CHART, JOB_CHART], ids=["operator", "job"])
def test_a_chart_without_values_is_clean_to_lint(tools, chart_):
    done = subprocess.run(
        [str(tools.helm), "lint", "--strict", str(chart_)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 chart(s) failed" in done.stdout
