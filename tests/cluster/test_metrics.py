"""A real Prometheus scrapes a run: every dashboard panel shows data and every alert rule works."""

import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager

import pytest
import yaml

from raytrain.operator.install.monitoring import ALERTS
from tests.cluster import tiny_quickstart
from tests.cluster.harness.processes import wait_for
from tests.support import REPOSITORY

pytestmark = pytest.mark.slow

FILES = REPOSITORY / "helm/raytrain-operator/files"
NAME = "measured"
NOT_HERE = {"Model FLOPs utilisation"}
"""Panels that need a GPU whose peak is known."""


def config(folder):
    """Writes a configuration with targets from a file: Debian's build cannot discover pods."""
    shutil.copyfile(FILES / "alerts.yaml", folder / "alerts.yaml")
    found = {"files": [str(folder / "targets.json")], "refresh_interval": "1s"}
    ours = {"job_name": "raytrain", "file_sd_configs": [found]}
    whole = {"global": {"scrape_interval": "1s"}, "rule_files": ["alerts.yaml"], "scrape_configs": [ours]}
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(whole))
    return path


def write_targets(target, namespace, folder):
    """Writes the targets that the chart's PodMonitor selects: port `metrics` of the run's pods."""
    selector = f"raytrain.dev/job={NAME}"
    pods = json.loads(target.kubectl("get", "pods", "-n", namespace, "-l", selector, "-o", "json"))["items"]
    there = [pod for pod in pods if pod["status"].get("podIP")]
    addresses = [f"{pod['status']['podIP']}:{port}" for pod in there for port in ports(pod)]
    new = folder / "targets.new"
    new.write_text(json.dumps([{"targets": sorted(addresses)}]))
    new.rename(folder / "targets.json")


def ports(pod):
    """Returns the numbers of a pod's ports named `metrics`."""
    found = [port for container in pod["spec"]["containers"] for port in container.get("ports", [])]
    return [port["containerPort"] for port in found if port.get("name") == "metrics"]


@contextmanager
def prometheus(folder):
    """Runs a Prometheus; yields `query(path, **parameters)`."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian: prometheus)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        program, f"--config.file={config(folder)}", f"--storage.tsdb.path={folder / 'series'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)

    def query(path, **parameters):
        where = f"http://127.0.0.1:{port}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(where, timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def ready():
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        try:
            return bool(query("/api/v1/status/buildinfo"))
        except OSError:
            return False

    try:
        wait_for(ready, 60, "Prometheus", why=(folder / "prometheus.log").read_text)
        yield query
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_every_panel_shows_data(target, operator, namespace, bucket, tiny_world, tmp_path):
    world = tiny_quickstart.upload(tiny_world, f"s3://{bucket}/world")
    content = tiny_quickstart.job(NAME, world, storage=f"s3://{bucket}/raytrain", steps=400)
    panels = {p["title"]: p["targets"][0]["expr"] for p in json.loads((FILES / "dashboard.json").read_text())["panels"]}
    panels = {title: asked for title, asked in panels.items() if asked.startswith("ray_")}  # not the operator's
    empty, shown = dict(panels), {}
    with prometheus(tmp_path) as query:
        target.apply(content, namespace)
        over = False
        while not over and set(empty) - NOT_HERE:
            write_targets(target, namespace, tmp_path)
            over = target.get("ftj", NAME, namespace).get("status", {}).get("phase") in ("Complete", "Failed")
            for title, expression in list(empty.items()):
                found = query("/api/v1/query", query=expression.replace("$run", NAME))["result"]
                if found:
                    shown[title] = found
                    empty.pop(title)
            time.sleep(0.5)
        groups = query("/api/v1/rules")["groups"]
    assert set(empty) <= NOT_HERE, f"nothing to show in {sorted(empty)}"
    tasks = {series["metric"]["task"] for series in shown["Loss by task"]}
    assert tasks <= {task["name"] for task in content["spec"]["tasks"]}
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == len(ALERTS)
    assert all(rule["health"] in ("ok", "unknown") and not rule.get("lastError") for rule in rules), rules
