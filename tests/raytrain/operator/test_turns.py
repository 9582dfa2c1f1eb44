"""Many jobs in one controller begin in order, as many at once as the limit says; all complete."""

import asyncio
import copy
import json
import time

import pytest

from raytrain.kubernetes.client import JOBS, RAY_JOBS
from raytrain.operator.controller import Controller
from raytrain.operator.settings import Settings
from tests.support.finetunejob_objects import finetunejob
from tests.support.operator_play import Play
from tests.support.operator_process import operator_process


class Server:
    """A fake API server for several jobs, whose RayJobs the test ends; it notes which begin."""

    def __init__(self, count):
        self.jobs, self.ray_jobs, self.begun, self.most, self.version = {}, {}, [], 0, 1
        for number in range(count):
            body = finetunejob(name=f"job-{number:02d}")
            body["metadata"] |= {"uid": f"uid-{number}", "creationTimestamp": f"2026-11-23T11:00:{number:02d}Z"}
            self.jobs[body["metadata"]["name"]] = body

    def serves(self, kind):
        return kind == RAY_JOBS

    def get(self, kind, namespace, name):
        return copy.deepcopy({JOBS: self.jobs, RAY_JOBS: self.ray_jobs}.get(kind, {}).get(name))

    def list(self, kind, namespace, selector=""):
        return copy.deepcopy(list(self.jobs.values())) if kind == JOBS else []

    def create(self, body, *, manager):
        if body["kind"] == "RayJob":
            self.ray_jobs[body["metadata"]["name"]] = copy.deepcopy(body)
            self.begun.append(body["metadata"]["name"])
            alive = [
                r for r in self.ray_jobs.values() if (r.get("status") or {}).get("jobDeploymentStatus") != "Complete"
            ]
            self.most = max(self.most, len(alive))
        return body

    def patch(self, kind, namespace, name, body, *, manager, status):
        self.version += 1
        old = self.jobs[name]
        merged = {key: value for key, value in {**old.get("status", {}), **body["status"]}.items() if value is not None}
        metadata = {**old["metadata"], "resourceVersion": str(self.version)}
        self.jobs[name] = {**old, "metadata": metadata, "status": merged}
        return copy.deepcopy(self.jobs[name])

    def ends(self, name):
        self.ray_jobs[name]["status"] = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
        return copy.deepcopy(self.ray_jobs[name])


async def until(done):
    for _ in range(400):
        if done():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


@pytest.mark.parametrize("limit", [1, 3])
def test_jobs_with_room_for_some_complete_in_order_and_none_fails_by_waiting(limit):
    server = Server(10)
    settings = Settings.model_validate({"maxRunningJobs": {"inAll": limit}})

    async def steps():
        controller = Controller(server, settings, lambda body, event: None)
        bodies = [copy.deepcopy(body) for body in reversed(server.jobs.values())]  # the youngest is seen first
        await asyncio.gather(*(controller.on_job_event(body, deleted=False) for body in bodies))
        for number in range(10):
            await until(lambda number=number: len(server.begun) > number)
            if limit == 1 and number < 9:
                assert server.jobs["job-09"]["status"]["place"]
            await controller.on_ray_job_event(server.ends(server.begun[number]), deleted=False)
        await until(lambda: all(b["status"]["phase"] == "Complete" for b in server.jobs.values()))

    asyncio.run(steps())
    begun = [*sorted(server.begun[:limit]), *server.begun[limit:]]  # the first have their turns together
    assert begun == [f"job-{number:02d}-a01" for number in range(10)]
    assert server.most == limit
    assert all([a["outcome"] for a in body["status"]["attempts"]] == ["Succeeded"] for body in server.jobs.values())


def test_a_deleted_or_suspended_job_frees_its_turn():
    server = Server(3)
    settings = Settings.model_validate({"maxRunningJobs": {"perNamespace": 1}})

    async def steps():
        controller = Controller(server, settings, lambda body, event: None)
        for name in list(server.jobs):
            await controller.on_job_event(copy.deepcopy(server.jobs[name]), deleted=False)
        assert server.begun == ["job-00-a01"]
        gone = server.jobs.pop("job-00")
        await controller.on_job_event(gone, deleted=True)
        await until(lambda: len(server.begun) == 2)

    asyncio.run(steps())
    assert server.begun == ["job-00-a01", "job-01-a01"]
    assert server.jobs["job-02"]["status"]["phase"] == "Queued"


def test_after_a_restart_the_youngest_does_not_begin_before_the_others_are_known():
    server = Server(3)
    settings = Settings.model_validate({"maxRunningJobs": {"inAll": 1}})

    async def steps():
        controller = Controller(server, settings, lambda body, event: None)
        await controller.on_job_event(copy.deepcopy(server.jobs["job-02"]), deleted=False)

    asyncio.run(steps())
    assert server.begun == []
    assert server.jobs["job-02"]["status"]["message"].startswith("place 3 of 3 in line: at most 1 jobs run at once")


@pytest.mark.cluster
def test_three_jobs_with_room_for_one_complete_one_after_the_other(kubernetes, namespace, tmp_path):
    limits = json.dumps({"maxRunningJobs": {"perNamespace": 1}})
    for number in range(3):
        metadata = {"name": f"job-{number}", "namespace": namespace}
        kubernetes.apply({**finetunejob(), "metadata": metadata})
        time.sleep(1.1)  # creation times have seconds
    where = f"--namespace={namespace}"
    with operator_process(kubernetes.kubeconfig("operator"), tmp_path, where, settings=limits):
        for number in range(3):
            play = Play(kubernetes, namespace, f"job-{number}")
            play.until("Pending", attempts=1)
            waiting = [Play(kubernetes, namespace, f"job-{later}") for later in range(number + 1, 3)]
            for other in waiting:
                other.until("Queued")
            assert len(kubernetes.get("rayjob", "-n", namespace)["items"]) == number + 1
            play.kuberay(f"job-{number}-a01", "Complete", "SUCCEEDED")
            play.until("Complete")
