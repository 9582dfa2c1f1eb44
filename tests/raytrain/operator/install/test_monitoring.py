"""Alerts fire when they should; dashboard and alerts use metrics that exist."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from raytrain.operator import metrics
from raytrain.operator.install import monitoring
from raytrain.training.ray import metrics as ray_metrics
from tests.support import REPOSITORY

FILES = REPOSITORY / "helm/raytrain-operator/files"
HAS = {
    f"ray_{name}" for name in (*ray_metrics._GAUGES, ray_metrics._BY_TASK, ray_metrics._BY_PART, ray_metrics.WAITING)
}


OF_JOBS = {name for name in metrics.NAMES if name.startswith("raytrain_job_")}


def asked(text):
    return set(re.findall(r"\b(?:ray_)?raytrain_[a-z_]+", text)) - {"raytrain_"}


def test_the_dashboard_shows_exactly_the_metrics_of_a_run():
    dashboard = json.loads((FILES / "dashboard.json").read_text())
    assert asked(" ".join(t["expr"] for panel in dashboard["panels"] for t in panel["targets"])) == HAS | OF_JOBS


def test_the_alerts_use_metrics_that_exist():
    expressions = " ".join(alert.expression for alert in monitoring.ALERTS)
    assert asked(expressions) <= HAS | set(metrics.NAMES)


def test_every_alert_is_tested_and_says_what_to_do():
    tested = Path(__file__).with_name("alerts_test.yaml").read_text()
    assert [alert.name for alert in monitoring.ALERTS if f"alertname: {alert.name}\n" not in tested] == []
    assert all(alert.description.endswith((".", ")")) for alert in monitoring.ALERTS)


def test_the_alerts_fire_when_they_should(tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    for path in (FILES / "alerts.yaml", Path(__file__).with_name("alerts_test.yaml")):
        shutil.copyfile(path, tmp_path / path.name)
    for command in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]):
        done = subprocess.run([promtool, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
