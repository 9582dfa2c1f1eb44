"""A tuned model served in real pods: asked without a pause while everything around it changes.

The tests share one served job and run in the order in which they are written: each says what it
took, and how many requests were answered meanwhile. `first` is served, and `second`, which starts
from its model, replaces it.
"""

import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import asking, tiny_quickstart

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-24-characters"
CLIENTS, TEXTS = 2, 8
REPLICAS = 2


@dataclass
class Served:
    """The served job, and the pod that asks it."""

    target: Any
    namespace: str
    told: Any

    def status(self):
        return self.target.get("ftj", "first", self.namespace).get("status", {}).get("serving") or {}

    def until(self, done, what):
        self.target.until(done, what, "first", self.namespace)

    def until_answered_by(self, run):
        """Waits until the status says that the model of this run answers."""
        self.until(lambda: (s := self.status()).get("ready") and s.get("run") == run, f"the model of {run}")

    def pods(self, kind="worker"):
        """The pods of the served model that are not on their way out."""
        selector = f"app.kubernetes.io/component=serving,ray.io/node-type={kind}"
        found = json.loads(self.target.kubectl("get", "pods", "-n", self.namespace, "-l", selector, "-o", "json"))
        return [pod["metadata"]["name"] for pod in found["items"] if not pod["metadata"].get("deletionTimestamp")]

    def processes(self, pod, name):
        """The ids of a deployment's processes in a pod."""
        inside = ("exec", "-n", self.namespace, pod, "-c", "ray", "--")
        return self.target.kubectl(*inside, "pgrep", "-f", f"ServeReplica.*{name}", check=False).split()

    def holds(self, name):
        """The pods in which a deployment's replicas are."""
        return [pod for pod in self.pods() if self.processes(pod, name)]

    def ask_on(self):
        """Starts a pod that asks without a pause."""
        security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        program = Path(asking.__file__).read_text()
        container = {
            "name": "asking",
            "image": self.target.run_image,
            "command": ["python", "-c", program, self.status()["url"], str(CLIENTS), str(TEXTS)],
            "env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "model-token", "key": "token"}}}],
            "securityContext": security,
        }
        spec = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        }
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asking"}, "spec": spec}
        self.target.apply(pod, self.namespace)
        self.until(self.asked, "the first answer")

    def asked(self, since=0.0):
        """What came of the requests that were begun since then, in order."""
        lines = self.target.kubectl("logs", "asking", "-n", self.namespace, check=False).splitlines()
        return sorted((one for line in lines if (one := json.loads(line))["at"] >= since), key=lambda one: one["at"])

    def until_asked(self, count, since):
        """Waits for so many further requests."""
        self.until(lambda: len(self.asked(since)) >= count, f"{count} requests")

    def all_answered(self, since):
        """Fails if a request since then was not answered; tells how many were, and by whom."""
        found = self.asked(since)
        failed = [one for one in found if one["status"] != 200]
        models = Counter(one.get("model") for one in found)
        slowest = max(one["seconds"] for one in found)
        self.told(f"{len(found)} requests, {len(failed)} failed; models {dict(models)}; slowest {slowest:.1f} s")
        assert not failed, json.dumps(failed[:10], indent=1)
        return models


@pytest.fixture(scope="module")
def world(target, operator, shared_namespace, shared_bucket, tiny_world):
    """Two jobs: the first is served, the second starts from the first one's model."""
    target.kubectl(
        "create", "secret", "generic", "model-token", "-n", shared_namespace, f"--from-literal=token={TOKEN}"
    )
    rows = tiny_quickstart.upload(tiny_world, f"s3://{shared_bucket}/world")
    first = tiny_quickstart.job("first", rows, storage=f"s3://{shared_bucket}/raytrain", steps=2)
    first["spec"]["evaluation"]["maxNewTokens"] = 32
    second = json.loads(json.dumps(first))
    second["metadata"]["name"] = "second"
    second["spec"]["model"] = "run://first"
    first["spec"]["serving"] = {
        "replicas": {"min": REPLICAS, "max": REPLICAS},
        "tokenSecret": "model-token",
        "resources": {"cpus": 1, "memory": "3Gi"},
    }
    target.apply(first, shared_namespace)
    target.apply(second, shared_namespace)
    return shared_namespace


@pytest.fixture
def served(target, world, told):
    return Served(target, world, told)


def test_a_complete_run_answers(served):
    served.target.wait_for("Complete", "first", served.namespace)
    served.told("the run is Complete")
    served.until_answered_by("first")
    served.told(f"ready: {served.status()['message']}")
    since = time.time()
    served.ask_on()
    served.until_asked(10, since)
    assert set(served.all_answered(since)) == {"first"}
    assert served.status()["url"] == f"http://first-serve-svc.{served.namespace}:8000"


def test_a_job_that_starts_from_a_run_has_waited_for_it(served):
    status = served.target.wait_for("Complete", "second", served.namespace)["status"]
    first = served.target.get("ftj", "first", served.namespace)["status"]
    served.told(f"second is Complete; it started {status['startTime']}, first ended {first['completionTime']}")
    assert status["startTime"] >= first["completionTime"]
    assert [attempt["outcome"] for attempt in status["attempts"]] == ["Succeeded"]
    assert set(served.all_answered(0)) == {"first"}


def test_a_killed_replica_loses_no_accepted_request(served):
    served.until(lambda: len(served.holds("Model")) == REPLICAS, "both replicas")
    victim = next(iter(served.holds("Model")))
    [process] = served.processes(victim, "Model")[:1]
    since = time.time()
    served.until_asked(10, since)
    served.target.kubectl("exec", "-n", served.namespace, victim, "-c", "ray", "--", "kill", "-KILL", process)
    served.told(f"killed the replica of {victim}")
    served.until(lambda: set(served.processes(victim, "Model")) - {process}, "another replica")
    served.told("there is another replica")
    served.until_asked(30, time.time())
    served.all_answered(since)


@pytest.mark.parametrize("front", [False, True], ids=["a replica's", "the front's"])
def test_an_evicted_pod_loses_no_accepted_request(served, front):
    """Pods leave as they do when a node is drained: they are told, and have time."""
    served.until(lambda: len(served.holds("Model")) == REPLICAS and served.holds("Front"), "replicas and front")
    [at] = served.holds("Front")
    victim = at if front else next(pod for pod in served.pods() if pod != at)
    since = time.time()
    served.until_asked(10, since)
    served.target.kubectl("delete", "pod", victim, "-n", served.namespace, "--wait=false")
    served.told(f"deleted {victim}")
    gone = ("get", "pod", victim, "-n", served.namespace, "-o", "name")
    served.until(lambda: not served.target.kubectl(*gone, check=False), "the pod to be gone")
    served.told("it is gone")
    served.until(lambda: len(served.holds("Model")) == REPLICAS and served.holds("Front"), "replicas and front")
    served.told("replicas and front are there again")
    served.until_asked(20, time.time())
    served.all_answered(since)


def test_a_newer_run_replaces_the_model_without_a_failed_request(served):
    since = time.time()
    served.until_asked(10, since)
    patch = json.dumps({"spec": {"serving": {"run": "second"}}})
    served.target.kubectl("patch", "ftj", "first", "-n", served.namespace, "--type=merge", "-p", patch)
    served.until(lambda: "until that of run second does" in served.status()["message"], "the change to be told")
    served.told(f"changing: {served.status()['message']}")
    assert served.status()["run"] == "first"
    served.until_answered_by("second")
    served.told(f"changed: {served.status()['message']}")
    served.until(lambda: any(one.get("model") == "second" for one in served.asked(since)), "an answer of second")
    served.until(lambda: len(served.pods()) == REPLICAS, "the old Ray cluster to go")
    served.told("the old Ray cluster is gone")
    after = time.time()
    served.until_asked(20, after)
    models = served.all_answered(since)
    assert set(models) == {"first", "second"}
    assert set(served.all_answered(after)) == {"second"}


def test_a_deleted_job_answers_what_it_has_accepted(served):
    since = time.time()
    served.until_asked(10, since)
    served.target.kubectl("delete", "ftj", "first", "-n", served.namespace, "--wait=false")
    served.told("deleted")
    pods = ("get", "pods", "-n", served.namespace, "-l", "raytrain.dev/job=first", "-o", "name")
    served.until(lambda: not served.target.kubectl(*pods), "its pods to be gone")
    found = served.asked(since)
    lost = [one for one in found if one["status"] != 200 and not _refused(one)]
    served.told(f"its pods are gone; {sum(o['status'] == 200 for o in found)} answered, {len(lost)} lost")
    assert not lost, json.dumps(lost[:10], indent=1)


def _refused(one):
    """Whether a request was not accepted: there was no address any more, or nobody listened."""
    return one["status"] == 0 and ("gaierror" in one["error"] or "ConnectionRefusedError" in one["error"])
