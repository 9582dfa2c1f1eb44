"""A sweep as twelve FineTuneJobs that the operator runs, some at a time.

The command that submits them is killed in the middle and goes on.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml

from raytrain.sweeps.cluster_runs import SWEEP_LABEL
from raytrain_core.storage import open_store
from tests.cluster import tiny_quickstart

pytestmark = pytest.mark.slow

NAME, MOST = "guards", 3
SWEEP = {
    "apiVersion": "raytrain.dev/v1alpha1",
    "kind": "Sweep",
    "metadata": {"name": NAME},
    "spec": {
        "job": "job.yaml",
        "seeds": [1, 2, 3],
        "maxConcurrent": MOST,
        "objective": "gained-minus-forgotten",
        "parameters": {"training.anchor": {"values": [1, 3, 10]}},
    },
}
RUNS = {f"{NAME}-{setting}-{seed}" for setting in range(4) for seed in (1, 2, 3)}
ENDED = ("Complete", "Failed", "Cancelled", "Rejected")


class Observer(threading.Thread):
    """Looks at the sweep's jobs once a second: how many had not ended, and in which phases."""

    def __init__(self, target, namespace):
        super().__init__(daemon=True)
        self.target, self.namespace = target, namespace
        self.most_open, self.most_rayjobs, self.jobs, self.stopped = 0, 0, {}, threading.Event()

    def run(self):
        while not self.stopped.wait(1):
            self.look()

    def look(self):
        label = ("-n", self.namespace, "-o", "json")
        try:
            found = json.loads(self.target.kubectl("get", "ftj", "-l", f"{SWEEP_LABEL}={NAME}", *label, check=False))
            rayjobs = json.loads(self.target.kubectl("get", "rayjobs", *label, check=False))
        except ValueError:  # the API server is busy: the next look is in a second
            return
        self.jobs = {body["metadata"]["name"]: body for body in found["items"]}
        self.most_open = max(self.most_open, sum(phase not in ENDED for phase in self.phases().values()))
        going = [body for body in rayjobs["items"] if not ended(body)]
        self.most_rayjobs = max(self.most_rayjobs, len(going))

    def phases(self):
        return {name: (body.get("status") or {}).get("phase") for name, body in self.jobs.items()}

    def complete(self):
        return sorted(name for name, phase in self.phases().items() if phase == "Complete")


def ended(rayjob):
    return (rayjob.get("status") or {}).get("jobDeploymentStatus") in ("Complete", "Failed")


@pytest.fixture
def sweep(target, bucket, tiny_world, namespace, tmp_path):
    """Returns a function that starts `raytrain sweep --submit`, and the storage of the sweep."""
    storage = f"s3://{bucket}/raytrain"
    world = tiny_quickstart.upload(tiny_world, f"s3://{bucket}/world")
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(tiny_quickstart.job("base", world, storage=storage, steps=2)))
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    command = [sys.executable, "-m", "raytrain", "sweep", str(tmp_path / "sweep.yaml"), "-n", namespace, "--submit"]
    environment = os.environ | {"KUBECONFIG": str(target.kubeconfig)}

    def start(*more):
        log = (tmp_path / "sweep.log").open("a")
        return subprocess.Popen([*command, *more], env=environment, stdout=log, stderr=log)

    start.log = tmp_path / "sweep.log"
    return start, f"{storage}/{namespace}"


def test_twelve_jobs_some_at_a_time_with_an_owner_and_a_leaderboard(target, operator, namespace, sweep, told):
    start, place = sweep
    observer = Observer(target, namespace)
    observer.start()
    first = start()
    wait_for_runs(observer, first, 2, start.log, told)
    first.send_signal(signal.SIGKILL)
    first.wait()
    known = set(observer.jobs)
    told(f"the command is killed; {len(known)} jobs were submitted")
    second = start()
    wait_for_runs(observer, second, len(RUNS), start.log, told)
    assert second.wait(timeout=120) == 0, start.log.read_text()[-3000:]
    observer.look()
    observer.stopped.set()
    told(f"at most {observer.most_open} jobs and {observer.most_rayjobs} RayJobs at once")
    assert set(observer.jobs) == RUNS
    assert observer.most_open == MOST
    assert observer.most_rayjobs <= MOST
    attempts = {name: len(body["status"]["attempts"]) for name, body in observer.jobs.items()}
    assert set(attempts.values()) == {1}, "nothing was started twice"

    owner = target.get("configmap", f"sweep-{NAME}", namespace)
    for body in observer.jobs.values():
        assert [reference["uid"] for reference in body["metadata"]["ownerReferences"]] == [owner["metadata"]["uid"]]
    board = read_board(place)
    assert (board["waiting"], len(board["lines"]), board["seeds"]) == (0, 4, 3)
    assert not any(line["problem"] for line in board["lines"]), board["lines"]
    assert {run for line in board["lines"] for run in line["runs"]} == RUNS
    assert b"<svg" in open_store(place).get(f"sweeps/{NAME}/leaderboard.svg")

    target.kubectl("delete", "configmap", f"sweep-{NAME}", "-n", namespace)
    gone = ("get", "ftj,rayjobs,rayclusters,pods", "-n", namespace, "-o", "name")
    until = time.monotonic() + 300
    while (left := target.kubectl(*gone).split()) and time.monotonic() < until:
        time.sleep(1)
    assert not left
    told("the owner is deleted, and with it all jobs and pods")
    assert start("--report").wait(timeout=120) == 0, start.log.read_text()[-3000:]
    assert read_board(place)["lines"] == board["lines"], "results stay in storage"
    assert not target.kubectl("get", "configmap", "-l", f"{SWEEP_LABEL}={NAME}", "-n", namespace, "-o", "name")


def read_board(place):
    return json.loads(open_store(place).get(f"sweeps/{NAME}/leaderboard.json"))


def wait_for_runs(observer, process, count, log, told):
    """Waits until so many jobs are complete; AssertionError if the command ends or one fails."""
    seen, until = -1, time.monotonic() + 2400
    while len(done := observer.complete()) < count:
        if len(done) != seen:
            seen = len(done)
            told(f"{seen} of {len(RUNS)} jobs are complete")
        failed = [name for name, phase in observer.phases().items() if phase in ENDED[1:]]
        assert not failed, observer.target.describe(failed[0], observer.namespace)
        assert process.poll() in (None, 0), log.read_text()[-3000:]
        assert time.monotonic() < until, f"only {seen} of {count} jobs are complete\n{log.read_text()[-2000:]}"
        time.sleep(1)
