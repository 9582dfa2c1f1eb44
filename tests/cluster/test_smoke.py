"""From nothing to a report: Helm installs the operator, `kubectl apply` sends the job, pods run it.

The same job is run on this machine afterwards, as on a laptop: the same data, the same steps,
the same scores.
"""

import json
import subprocess
import sys

import pytest

from raytrain.config.run_layout import RunLayout
from raytrain.runs.record import read_record
from raytrain.telemetry.segments import read_segments
from raytrain_core.storage import open_store
from raytrain_core.storage.commit import read_manifest
from tests.cluster import tiny_quickstart

NAME = "smoke"
LAYOUT = RunLayout(NAME)


def test_a_job_becomes_a_report(target, operator, namespace, bucket, tiny_world, tmp_path):
    storage = f"s3://{bucket}/raytrain"
    world = tiny_quickstart.upload(tiny_world, f"s3://{bucket}/world")
    content = tiny_quickstart.job(NAME, world, storage=storage)
    target.apply(content, namespace)
    status = target.wait_for("Complete", NAME, namespace)["status"]

    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    assert {"Accepted", "DataReady", "Evaluated", "Complete"} <= {t for t, s in conditions.items() if s == "True"}
    assert (status["phase"], status["result"]["exitCode"], len(status["attempts"])) == ("Complete", 0, 1)
    assert {task["name"] for task in status["tasks"]} == {task["name"] for task in content["spec"]["tasks"]}
    assert all(task["before"] is not None and task["after"] is not None for task in status["tasks"])
    heads, row = target.kubectl("get", "ftj", NAME, "-n", namespace).splitlines()
    assert heads.split()[:4] == ["NAME", "PHASE", "PROGRESS", "ROUGE-L"]
    assert row.split()[:3] == [NAME, "Complete", "100%"]

    place = f"{storage}/{namespace}"
    store = open_store(place)
    assert status["result"]["report"] == f"{place}/{LAYOUT.report}/index.html"
    assert b"<html" in store.get(f"{LAYOUT.report}/index.html")
    assert {"config.json", "model.safetensors"} <= {f.name for f in read_manifest(store, LAYOUT.model).files}

    here = _run_here(content, f"s3://{bucket}/laptop", tmp_path)
    assert read_record(store, LAYOUT).shard_set == read_record(here, LAYOUT).shard_set
    assert _plan(store) == _plan(here)
    assert _losses(store) == pytest.approx(_losses(here), rel=1e-4)
    assert _scores(store) == pytest.approx(_scores(here), abs=1e-6)


def _run_here(content, storage, folder):
    """The job as `raytrain run` runs it on this machine; its storage."""
    content = content | {"spec": {k: v for k, v in content["spec"].items() if k not in ("storage", "cluster")}}
    (folder / "job.yaml").write_text(json.dumps(content))
    command = [sys.executable, "-m", "raytrain", "run", "job.yaml", "--storage", storage]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return open_store(storage)


def _steps(store):
    return sorted(read_segments(store, LAYOUT, "metrics"), key=lambda line: line["step"])


def _plan(store):
    """What each step was trained on."""
    kept = ("step", "examples", "source_tokens", "target_tokens_by_task")
    return [[line[field] for field in kept] for line in _steps(store)]


def _losses(store):
    return [line["loss"] for line in _steps(store)]


def _scores(store):
    """Every metric of every task, before and after."""
    report = json.loads(store.get(f"{LAYOUT.report}/report.json"))
    return {
        (task["name"], metric["name"], stage): metric[stage]["value"]
        for task in report["tasks"]
        for metric in task["metrics"]
        for stage in ("before", "after")
        if metric[stage] is not None
    }
