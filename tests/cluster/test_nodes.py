"""Two nodes with a GPU each: Ray's autoscaler uses them; one is drained, one is lost."""

import json
import os
import signal
import time

import pytest

from raytrain.config.run_layout import RunLayout
from raytrain.runs.checkpoints import committed_checkpoints
from raytrain.telemetry.progress import read_progress
from raytrain.telemetry.segments import read_segments
from raytrain_core.storage import open_store
from tests.cluster import tiny_quickstart
from tests.cluster.harness import cluster as harness

pytestmark = [pytest.mark.slow, pytest.mark.two_nodes]

OPERATOR_VALUES = ["--set", "settings.runs.keepClusterSeconds=200"]
"""Keeps the Ray cluster after the run, to observe the GPU group scaling to zero."""
EVERY = 50
STEPS = 600
LONG = 1500
"""Steps of an elastic run: it starts with one pod and grows a minute later."""
GONE = "node1"


@pytest.fixture
def nodes(target):
    """Names of the nodes with a GPU; uncordons them afterwards."""
    found = json.loads(target.kubectl("get", "nodes", "-o", "json"))["items"]
    names = [n["metadata"]["name"] for n in found if int(n["status"]["allocatable"].get(harness.GPU, 0)) >= 1]
    if len(names) < 2:
        pytest.skip("the cluster that runs has no two nodes with a GPU (make cluster NODES=2 GPUS=1)")
    yield names
    for name in names:
        target.kubectl("uncordon", name)


@pytest.fixture
def run(target, operator, namespace, nodes, bucket, tiny_world):
    """Starts a run on two fake GPUs, with head and driver on the first node."""
    world = tiny_quickstart.upload(tiny_world, f"s3://{bucket}/world")

    def start(name, *, steps=STEPS, **training):
        content = tiny_quickstart.job(name, world, storage=f"s3://{bucket}/raytrain", steps=steps, retries=0)
        content["spec"]["training"] |= {"checkpointEvery": EVERY, "warmupSteps": 10}
        content["spec"]["evaluation"]["every"] = steps
        content["spec"]["resources"]["training"] = {"workers": 2, "gpus": 1, "cpus": 1} | training
        target.kubectl("cordon", GONE)
        target.apply(content, namespace)
        target.until(lambda: len(pods(target, namespace, "cpu")) >= 1, f"the driver of {name}", name, namespace)
        target.kubectl("uncordon", GONE)
        return Run(target, namespace, name, open_store(f"s3://{bucket}/raytrain/{namespace}"), steps)

    return start


def pods(target, namespace, group):
    """Returns the node of every running pod of a group."""
    selector = f"ray.io/group={group}"
    items = json.loads(target.kubectl("get", "pods", "-n", namespace, "-l", selector, "-o", "json"))["items"]
    return [item["spec"].get("nodeName") for item in items if item["status"]["phase"] == "Running"]


class Run:
    """A run in the cluster, and its storage."""

    def __init__(self, target, namespace, name, store, steps):
        self.target, self.namespace, self.name, self.store, self.steps = target, namespace, name, store, steps
        self.layout = RunLayout(name)

    def until(self, done, what):
        self.target.until(done, what, self.name, self.namespace)

    def checkpointed(self, after=0):
        """Waits for a checkpoint after this step."""
        self.until(lambda: any(c.step > after for c in committed_checkpoints(self.store, self.layout)), "a checkpoint")

    def training_on(self, nodes):
        """Waits for a pod with a GPU on each of the nodes; none may be there before training."""

        def there():
            found = pods(self.target, self.namespace, "gpu")  # before the phase is read, which may change meanwhile
            progress = read_progress(self.store, self.layout)
            begun = progress is not None and progress.phase not in ("Preparing", "ScoringBefore")
            assert begun or found == [], "what needs no GPU has started pods with GPUs"
            return sorted(found) == sorted(nodes)

        self.until(there, f"pods on {nodes}")

    def together(self, workers):
        """Waits until this number of workers trains together and has stored a checkpoint."""
        kinds = ("TrainingStarted", "WorkerRestarted")

        def group():
            return [event for kind in kinds for event in self.events(kind) if event["workers"] == workers]

        self.until(group, f"{workers} workers")
        self.checkpointed(after=group()[-1]["step"])

    def ended(self):
        """Waits for completion and returns the status; every step was trained once."""
        status = self.target.wait_for("Complete", self.name, self.namespace)["status"]
        assert [line["step"] for line in read_segments(self.store, self.layout, "metrics")] == list(
            range(1, self.steps + 1)
        )
        return status

    def events(self, kind):
        return [line for line in read_segments(self.store, self.layout, "events") if line["kind"] == kind]


def test_the_gpu_group_scales_up_for_training_and_back_to_zero(target, namespace, nodes, run):
    one = run("scale")
    one.training_on(nodes)
    assert one.ended()["phase"] == "Complete"
    one.until(lambda: pods(target, namespace, "gpu") == [], "the GPU group to be empty")
    assert pods(target, namespace, "cpu"), "the cluster itself still exists"


def test_a_drained_node_costs_no_step_and_no_attempt(target, namespace, nodes, run):
    one = run("drained", steps=LONG, minWorkers=1)
    one.training_on(nodes)
    one.together(2)
    target.kubectl("drain", GONE, "--force", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s")
    status = one.ended()
    assert [attempt["outcome"] for attempt in status["attempts"]] == ["Succeeded"]
    (notice,) = one.events("NodeLeaving")
    (restart,) = [event for event in one.events("WorkerRestarted") if event["time"] > notice["time"]]
    (checkpoint,) = [event for event in one.events("CheckpointCommitted") if event["step"] % EVERY]
    assert restart["step"] >= checkpoint["step"], "resumed before the checkpoint that followed the notice"
    assert restart["workers"] == 1, "the remaining one"


def test_draining_the_drivers_node_interrupts_the_attempt_and_counts_no_failure(target, namespace, nodes, run):
    one = run("moved", minWorkers=1)
    one.checkpointed()
    target.kubectl("delete", "pod", "-n", namespace, "-l", "ray.io/group=cpu", "--wait=false")
    status = one.ended()
    first, second = status["attempts"]
    assert (first["outcome"], first["exitCode"], second["outcome"]) == ("Interrupted", 130, "Succeeded")


def test_a_node_that_is_lost_costs_the_steps_since_the_last_checkpoint(target, namespace, nodes, run):
    ours = harness.find("default")
    if ours is None or os.environ.get("RAYTRAIN_TEST_KUBECONFIG"):
        pytest.skip("a node's machine can be killed in `make cluster` only")
    one = run("lost", steps=LONG, minWorkers=1)
    one.training_on(nodes)
    one.together(2)
    restarts = len(one.events("WorkerRestarted"))
    kubelet = ours.daemons[f"{GONE}-kubelet"].pid
    os.kill(kubelet, signal.SIGSTOP)
    try:
        for pid in ours.processes_of_pods(1):
            os.kill(pid, signal.SIGKILL)
        assert [attempt["outcome"] for attempt in one.ended()["attempts"]] == ["Succeeded"]
        assert len(one.events("WorkerRestarted")) > restarts
        assert one.events("WorkerRestarted")[-1]["workers"] == 1
    finally:
        os.kill(kubelet, signal.SIGCONT)
    deadline = time.monotonic() + 120
    ready = ("get", "node", GONE, "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')
    while target.kubectl(*ready) != "True":
        assert time.monotonic() < deadline, "the node comes back"
        time.sleep(2)
