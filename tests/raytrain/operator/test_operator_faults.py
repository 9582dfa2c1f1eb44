"""The operator as a process before a real API server: killed, doubled, refused, cut off.

One job has one RayJob.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import REPOSITORY
from tests.support.api_proxy import api_proxy
from tests.support.finetunejob_objects import finetunejob
from tests.support.operator_play import Play
from tests.support.operator_process import operator_process, start_operator

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

DYING = (str(REPOSITORY / "tests/support/dying_operator.py"),)
CATCHES_UP = 60.0
"""Seconds after the API server has recovered."""


def job(namespace, name):
    body = finetunejob(name=name)
    body["metadata"] = {"name": name, "namespace": namespace}
    return body


def ray_jobs(kubernetes, namespace):
    """Name and UID of every RayJob."""
    items = kubernetes.get("rayjobs", "-n", namespace)["items"]
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in items}


def begun(kubernetes, namespace):
    """The attempts in each job's status."""
    items = kubernetes.get("ftj", "-n", namespace)["items"]
    return {
        item["metadata"]["name"]: [a["rayJob"] for a in item.get("status", {}).get("attempts", [])] for item in items
    }


def wait_for(done, seconds, what):
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"waiting for {what}"
        time.sleep(0.2)


def test_after_a_kill_at_any_api_call_the_next_operator_adopts_what_exists(kubernetes, namespace, tmp_path):
    where = f"--namespace={namespace}"
    deaths = 0
    for number in range(40):
        name = f"job-{number}"
        kubernetes.apply(job(namespace, name))
        folder = tmp_path / name
        folder.mkdir()
        dying = start_operator(
            kubernetes.kubeconfig("operator"), folder, where, program=DYING, RAYTRAIN_TEST_DIES_AT=str(number)
        )
        try:
            wait_for(
                lambda dying=dying, name=name: dying.poll() is not None or begun(kubernetes, namespace)[name],
                60,
                f"call {number}",
            )
            if dying.poll() is None:
                time.sleep(1)  # the status was its last call
            if dying.poll() is None:
                break
        finally:
            dying.kill()
            dying.wait(10)
        deaths += 1
        before = ray_jobs(kubernetes, namespace)
        with operator_process(kubernetes.kubeconfig("operator"), folder, where):
            Play(kubernetes, namespace, name).until("Pending", attempts=1)
        after = ray_jobs(kubernetes, namespace)
        assert before.items() <= after.items(), "a RayJob was made anew"
        assert set(after) == {f"job-{n}-a01" for n in range(number + 1)}
        kubernetes.kubectl("delete", "ftj", name, "-n", namespace)  # its RayJob stays: no garbage collector runs here
    assert deaths >= 9, "discovery, six companions, the RayJob, the status"


def test_fifty_concurrent_applies_create_one_rayjob(kubernetes, namespace, operator):
    body = json.dumps(job(namespace, "many"))

    def apply(_):
        return kubernetes.kubectl("apply", "-f", "-", text=body, check=False).stderr

    with ThreadPoolExecutor(16) as pool:
        reported = [text for text in pool.map(apply, range(50)) if text]
    assert all("AlreadyExists" in text or "already exists" in text for text in reported), reported
    Play(kubernetes, namespace, "many").until("Pending", attempts=1)
    kubernetes.kubectl("apply", "-f", "-", text=body)
    time.sleep(1)
    assert list(ray_jobs(kubernetes, namespace)) == ["many-a01"]
    assert begun(kubernetes, namespace) == {"many": ["many-a01"]}


def test_the_operator_catches_up_after_an_overloaded_api_server(kubernetes, namespace, tmp_path):
    names = [f"job-{n}" for n in range(6)]
    with (
        api_proxy(kubernetes.kubeconfig("operator"), tmp_path) as (proxy, through),
        operator_process(through, tmp_path, f"--namespace={namespace}") as log,
    ):
        proxy.share, proxy.too_old = 0.2, 2
        for name in names[:3]:
            kubernetes.apply(job(namespace, name))
            proxy.drop_watches()
            time.sleep(2)
        proxy.refuse = 429
        proxy.drop_watches()
        for name in names[3:]:
            kubernetes.apply(job(namespace, name))
        time.sleep(15)
        proxy.heal()
        wait_for(lambda: all(begun(kubernetes, namespace).values()), CATCHES_UP, "all jobs to have begun")
        assert proxy.broken > 10
        assert begun(kubernetes, namespace) == {name: [f"{name}-a01"] for name in names}
        assert set(ray_jobs(kubernetes, namespace)) == {f"{name}-a01" for name in names}
        assert "Traceback" not in log.read_text()
