"""Helm tests, installs a run, upgrades the operator during it, and uninstalls everything."""

import json

import pytest
import yaml

from raytrain.config.run_layout import RunLayout
from raytrain_core.storage import open_store
from tests.cluster import tiny_quickstart
from tests.support import REPOSITORY

pytestmark = pytest.mark.slow

CHART, JOB_CHART = (str(REPOSITORY / "helm" / name) for name in ("raytrain-operator", "finetune-job"))


def everything(target, *selector):
    """Returns every listable object as (kind, namespace, name)."""
    names = ("api-resources", "--verbs=list", "-o", "name")
    kinds = [k for k in target.kubectl(*names).split() if not k.startswith(("events", "componentstatuses"))]
    found = json.loads(target.kubectl("get", ",".join(kinds), "-A", "-o", "json", *selector))["items"]
    return {(i["kind"], i["metadata"].get("namespace", ""), i["metadata"]["name"]) for i in found}


def test_tested_upgraded_during_a_run_and_uninstalled(target, operator, namespace, bucket, tiny_world, tmp_path):
    target.helm("test", "raytrain", "-n", operator)

    storage = f"s3://{bucket}/raytrain"
    world = tiny_quickstart.upload(tiny_world, f"s3://{bucket}/world")
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(tiny_quickstart.job("long", world, storage=storage, steps=60)))
    target.helm("install", "my-run", JOB_CHART, "-n", namespace, "-f", str(job))
    store, layout = open_store(f"{storage}/{namespace}"), RunLayout("long")
    target.until(lambda: any(store.list(f"{layout.checkpoints}/")), "a checkpoint", "long", namespace)
    before = target.get("rayjob", "long-a01", namespace)["metadata"]["uid"]
    pod = target.kubectl("get", "pods", "-n", operator, "-o", "name")
    target.helm(
        "upgrade", "raytrain", CHART, "-n", operator, "--reset-then-reuse-values", "--set", "verbose=true", "--wait"
    )
    assert target.kubectl("get", "pods", "-n", operator, "-o", "name") != pod
    status = target.wait_for("Complete", "long", namespace)["status"]
    assert [attempt["outcome"] for attempt in status["attempts"]] == ["Succeeded"]
    assert target.get("rayjob", "long-a01", namespace)["metadata"]["uid"] == before

    report = f"{layout.report}/index.html"
    ours = ("-l", "app.kubernetes.io/part-of=raytrain,!raytrain.dev/job")
    assert len(everything(target, *ours)) > 5
    target.helm("uninstall", "raytrain", "-n", operator, "--wait")
    try:
        definition = {("CustomResourceDefinition", "", "finetunejobs.raytrain.dev")}
        target.until(lambda: everything(target, *ours) == definition, "all but the CRD to go", "long", namespace)
        assert target.get("ftj", "long", namespace)["status"]["phase"] == "Complete"
        target.helm("uninstall", "my-run", "-n", namespace)
        mine = ("-l", "raytrain.dev/job=long")
        target.until(lambda: not everything(target, *mine), "everything of the job to vanish", "long", namespace)
        assert store.get(report)
    finally:
        target.helm("install", "raytrain", CHART, "-n", operator)  # for the fixture to remove
