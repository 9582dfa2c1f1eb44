"""What a platform has around a job, in real pods: a schedule, a receiver of news, a price table.

The tests share an operator, and the second and third look at what the first has made.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from tests.cluster import tiny_quickstart
from tests.cluster.harness import cluster as harness
from tests.cluster.harness.console import timed_echo
from tests.support import REPOSITORY
from tests.support.kubernetes_tools import kubernetes_tools

pytestmark = pytest.mark.slow

TOKEN = "token-of-the-receiver"
STEPS = 100
PRICE = 2.5
CHANNELS = [
    {"name": "events", "format": "cloudevents"},
    {"name": "chat", "format": "slack", "events": ["finished", "failed"]},
]
OPERATOR_VALUES = [
    *("--set", "notifications.secret=receivers"),
    *("--set-json", f"settings.notifications.channels={json.dumps(CHANNELS)}"),
    *("--set-json", f"settings.prices.gpuHour={json.dumps({'nvidia.com/gpu': PRICE})}"),
]


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent; the first request of all is answered with 503."""

    def __init__(self, host):
        super().__init__((host, 0), _Handler)
        self.received, self.refused = [], 0

    def url(self, path):
        return f"http://{self.server_address[0]}:{self.server_port}{path}"

    def events(self, job):
        """The CloudEvents about a job, in the order in which they arrived."""
        return [body for path, _, body in self.received if path == "/events" and body["subject"] == job]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        first = not self.server.received and not self.server.refused
        if first:
            self.server.refused += 1
        else:
            self.server.received.append((self.path, dict(self.headers), body))
        self.send_response(503 if first else 204)
        self.end_headers()

    def log_message(self, format, *args):
        """Requests are not worth a line."""


@pytest.fixture(scope="module")
def receiver(target):
    with Receiver(target.host) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def operator_secrets(receiver):
    urls = {f"{name}.url": receiver.url(f"/{name}") for name in ("events", "chat")}
    return {"receivers": urls | {"events.token": TOKEN}}


@pytest.fixture(scope="module")
def gpus(target):
    """Nodes that pretend to have a GPU each."""
    ours = harness.find("default")
    if ours is None or os.environ.get("RAYTRAIN_TEST_KUBECONFIG"):
        pytest.skip("nodes of `make cluster` alone can pretend to have GPUs")
    with ours.api() as api:
        for number in range(ours.nodes):
            harness.fake_gpus(api, f"node{number}", 1)


@pytest.fixture(scope="module")
def kubectl_image(target):
    """An image with sh and kubectl."""
    ours = harness.find("default")
    if ours is None or os.environ.get("RAYTRAIN_TEST_KUBECONFIG"):
        pytest.skip("kubectl can be put on the nodes of `make cluster` only")
    return ours.publish_program("kubectl", kubernetes_tools().kubectl, timed_echo())


@pytest.fixture(scope="module")
def job(gpus, shared_bucket, tiny_world):
    """A tiny job with one pretended GPU, by name."""
    world = tiny_quickstart.upload(tiny_world, f"s3://{shared_bucket}/world")

    def make(name):
        content = tiny_quickstart.job(name, world, storage=f"s3://{shared_bucket}/raytrain", steps=STEPS)
        content["spec"]["resources"]["training"]["gpus"] = 1
        return content

    return make


def scheduled(namespace, image, job):
    """The objects of the how-to, every minute, with another namespace, image and job."""
    page = (REPOSITORY / "docs/how-to/schedule.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    block = block.replace("namespace: team", f"namespace: {namespace}")
    block = block.replace('"0 2 * * *"', '"* * * * *"').replace("registry.example.org/kubectl:1.36", image)
    found = {item["kind"]: item for item in yaml.safe_load_all(block)}
    dated = yaml.safe_load(found["ConfigMap"]["data"]["job.yaml"])
    content = job(dated["metadata"]["name"])
    content |= {"metadata": dated["metadata"]}
    content["spec"]["cluster"] |= dated["spec"]["cluster"]
    found["ConfigMap"]["data"]["job.yaml"] = yaml.safe_dump(content)
    return list(found.values())


def names(target, namespace):
    return target.kubectl("get", "ftj", "-n", namespace, "-o", "name").split()


def test_a_schedule_creates_the_dated_job_once(target, operator, shared_namespace, kubectl_image, job, told):
    objects = scheduled(shared_namespace, kubectl_image, job)
    for content in objects:
        target.apply(content, shared_namespace)
    name = time.strftime("nightly-%Y%m%d", time.gmtime())
    told("applied")
    target.until(lambda: names(target, shared_namespace), "the first job", name, shared_namespace)
    told(f"created: {names(target, shared_namespace)}")
    refused = ("logs", "-n", shared_namespace, "-l", "batch.kubernetes.io/job-name", "--tail=-1", "--prefix")
    target.until(
        lambda: "AlreadyExists" in target.kubectl(*refused, check=False), "a second start", name, shared_namespace
    )
    told("the second start has found it there")
    assert len(names(target, shared_namespace)) == 1
    target.kubectl("delete", "cronjob", "nightly", "-n", shared_namespace)
    status = target.wait_for("Complete", name, shared_namespace)["status"]
    told(f"Complete: {status['message']}")
    assert [attempt["outcome"] for attempt in status["attempts"]] == ["Succeeded"]


def test_news_arrive_in_order_once_each_with_the_token(target, shared_namespace, receiver, told):
    [name] = [one.partition("/")[2] for one in names(target, shared_namespace)]
    target.until(lambda: len(receiver.events(name)) >= 2, "the news", name, shared_namespace)
    target.until(lambda: any(path == "/chat" for path, _, _ in receiver.received), "the chat", name, shared_namespace)
    time.sleep(20)  # whatever would be told twice, or too much
    events = receiver.events(name)
    told(f"received: {[(event['type'], event['time']) for event in events]}; first refused with 503, then sent again")
    assert receiver.refused == 1
    assert [event["type"].rpartition(".")[2] for event in events] == ["started", "finished"]
    assert len({event["id"] for event in events}) == 2
    status = target.get("ftj", name, shared_namespace)["status"]
    assert [event["time"] for event in events] == [status["startTime"], status["completionTime"]]
    for path, headers, _ in receiver.received:
        assert headers.get("Authorization") == (f"Bearer {TOKEN}" if path == "/events" else None)
    [text] = [body["text"] for path, _, body in receiver.received if path == "/chat"]
    told(text)
    assert text.startswith(f"{shared_namespace}/{name} is complete")


def test_the_estimate_stands_beside_what_was_used(target, shared_namespace, job, told, tmp_path):
    """Speeds are those of the first job; the estimate is of training alone."""
    content = job("estimated")
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "raytrain", "submit", str(tmp_path / "job.yaml"), "-n", shared_namespace]
    environment = os.environ | {"KUBECONFIG": str(target.kubeconfig)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    told(f"submitted:\n{done.stdout}{done.stderr}")
    annotations = target.get("ftj", "estimated", shared_namespace)["metadata"]["annotations"]
    estimate = json.loads(annotations["raytrain.dev/estimate"])
    status = target.wait_for("Complete", "estimated", shared_namespace)["status"]
    usage = status["usage"]
    told(f"Complete: {status['message']}")
    told(f"estimate {estimate}; usage {usage}")
    assert usage["estimatedGpuSeconds"] == pytest.approx(3600 * estimate["gpuHours"], abs=1)
    assert usage["gpuSeconds"] > 0
    assert float(usage["cost"]) == pytest.approx(PRICE * usage["gpuSeconds"] / 3600, abs=0.01)
    assert "GPU-hours, estimated" in status["message"]
