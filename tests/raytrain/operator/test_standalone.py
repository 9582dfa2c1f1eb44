"""`raytrain render`, the samples, and the verification of an installation."""

import json
import subprocess
import sys

import pytest
from ruamel.yaml import YAML

from raytrain.config.job import FineTuneJob
from raytrain.config.load import load_job
from raytrain.kubernetes.client import KubernetesApi
from raytrain.operator.admission import check_admission
from raytrain.operator.install.verify import verify
from raytrain.operator.settings import Settings
from raytrain.operator.standalone import render_standalone
from raytrain_core.errors import UsageError
from tests.support import REPOSITORY
from tests.support.finetunejob_objects import finetunejob, task

SAMPLES = sorted((REPOSITORY / "k8s" / "samples").glob("*.yaml"))


def job(**spec):
    return FineTuneJob.model_validate({**finetunejob(**spec), "metadata": {"name": "assistant"}})


def test_standalone_rendering_yields_a_config_map_and_a_rayjob():
    config, ray_job = YAML(typ="safe").load_all(render_standalone(job(), image="mine:1", namespace="team"))
    assert (config["kind"], ray_job["kind"]) == ("ConfigMap", "RayJob")
    assert config["metadata"]["namespace"] == ray_job["metadata"]["namespace"] == "team"
    cluster = ray_job["spec"]["rayClusterSpec"]
    for template in [cluster["headGroupSpec"]["template"], *(g["template"] for g in cluster["workerGroupSpecs"])]:
        assert "serviceAccountName" not in template["spec"]
        (container,) = template["spec"]["containers"]
        assert container["image"] == "mine:1"
        assert not [e for e in container["env"] if e["name"].startswith("RAYTRAIN_KUBERNETES")]
    assert "ownerReferences" not in ray_job["metadata"]


def test_what_cannot_run_in_a_cluster_is_not_rendered():
    with pytest.raises(UsageError, match="LocalSource"):
        render_standalone(job(tasks=[task(source={"uri": "rows.jsonl"})]))


def test_the_command_prints_the_rendered_objects(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps({**finetunejob(), "metadata": {"name": "assistant"}}), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "raytrain", "render", str(path), "-n", "team"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n") == render_standalone(job(), namespace="team").rstrip("\n")


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_samples_can_run(path):
    assert check_admission(load_job(path).job, Settings()) is None


@pytest.mark.cluster
def test_an_api_server_accepts_the_samples(kubernetes, namespace):
    assert SAMPLES
    for path in SAMPLES:
        kubernetes.kubectl("apply", "--validate=strict", "-n", namespace, "-f", str(path))


@pytest.mark.cluster
def test_the_installation_verifies_itself(kubernetes):
    def looked(user):
        return list(verify(KubernetesApi.connect(kubeconfig=kubernetes.kubeconfig(user))))

    assert [finding.what for finding in looked("operator") if not finding.ok] == []
    stranger = [finding for finding in looked("stranger") if not finding.ok]
    assert "may list, watch namespaces" in [finding.what for finding in stranger]
    assert all(finding.hint for finding in stranger)
