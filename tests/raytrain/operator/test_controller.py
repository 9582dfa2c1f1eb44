"""The controller's API calls: their order, refusals, and a crash at any of them."""

import asyncio
import copy
import subprocess
import sys

import pytest
from prometheus_client import REGISTRY

from raytrain.kubernetes.client import JOBS, RAY_JOBS, ApiError
from raytrain.operator import controller as controller_module
from raytrain.operator.actions import Decision
from raytrain.operator.controller import Controller
from raytrain.operator.effects import create_or_update
from raytrain.operator.notifications import delivery
from raytrain.operator.ray_job_status import ray_job_status, trim
from raytrain.operator.render.names import is_owned
from raytrain.operator.settings import Settings
from raytrain_core.errors import ClusterError
from tests.support.finetunejob_objects import UID, finetunejob, rayjob

KEY = ("team", "assistant")


class Server:
    """A fake API server with what the controller uses; it records every call."""

    def __init__(self, *objects):
        self.objects = {}
        self.calls = []
        self.version = 1
        self.dies_at = None
        self.refuses = {}
        for body in objects:
            self.put(body)

    def put(self, body):
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.objects[body["apiVersion"], body["kind"], body["metadata"]["name"]] = body
        return body

    def _called(self, verb, kind, name):
        if self.dies_at is not None and len(self.calls) >= self.dies_at:
            raise KilledError
        self.calls.append((verb, kind, name))
        if (verb, kind) in self.refuses:
            raise ApiError(403, "Forbidden", self.refuses[verb, kind])

    def serves(self, kind):
        self._called("get", "discovery", kind[1])
        return kind == RAY_JOBS

    def get(self, kind, namespace, name):
        self._called("get", kind[1], name)
        return self.objects.get((*kind, name))

    def list(self, kind, namespace, selector="", *, fields=""):
        self._called("list", kind[1], selector)
        label, _, value = selector.partition("=")
        found = [body for (*its, _), body in self.objects.items() if tuple(its) == kind]
        return [body for body in found if not label or body["metadata"].get("labels", {}).get(label) == value]

    def create(self, body, *, manager):
        self._called("create", body["kind"], body["metadata"]["name"])
        if (body["apiVersion"], body["kind"], body["metadata"]["name"]) in self.objects:
            return None
        return self.put({**body})

    def apply(self, body, *, manager):
        self._called("apply", body["kind"], body["metadata"]["name"])
        old = self.objects.get((body["apiVersion"], body["kind"], body["metadata"]["name"]), {})
        return self.put({**old, **body})

    def patch(self, kind, namespace, name, body, *, manager, status):
        self._called("patch", kind[1], name)
        found = self.objects[(*kind, name)]
        return self.put({**found, "status": {**found.get("status", {}), **body["status"]}})

    def delete(self, kind, namespace, name):
        self._called("delete", kind[1], name)
        return self.objects.pop((*kind, name), None) is not None

    @property
    def job(self):
        return self.objects[(*JOBS, "assistant")]

    def made(self):
        return [(kind, name) for verb, kind, name in self.calls if verb in ("create", "apply")]


class KilledError(BaseException):
    """The operator's process dies here."""


def run(steps, server, settings=None):
    """Runs `steps(controller)` in an event loop; returns the events that were posted."""
    posted = []
    settings = settings or Settings.model_validate({"retry": {"firstSeconds": 0.05}})

    async def main():
        controller = Controller(server, settings, lambda body, event: posted.append(event.reason))
        await steps(controller)

    asyncio.run(main())
    return posted


def test_the_objects_of_a_new_job_are_created_with_the_rayjob_last():
    server = Server(finetunejob())

    async def steps(controller):
        await controller.on_job_event(server.job, deleted=False)

    assert run(steps, server) == ["AttemptStarted"]
    assert server.made()[-1] == ("RayJob", "assistant-a01")
    assert len(server.made()) == 7
    assert server.job["status"]["attempts"][0]["rayJob"] == "assistant-a01"


def test_a_job_that_no_node_is_large_enough_for_is_told_and_begins_once_there_is_one():
    body = finetunejob(
        resources={"training": {"workers": 1, "gpus": 8, "memory": "8Gi"}},
        cluster={"podTemplate": {"spec": {"containers": [{"name": "ray", "resources": {"requests": {"cpu": "1"}}}]}}},
    )
    amounts = {"cpu": "2", "memory": "64Gi", "nvidia.com/gpu": "4"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {"allocatable": amounts}}
    server = Server(body, node)

    async def steps(controller):
        await controller.on_job_event(server.job, deleted=False)
        assert server.made() == []
        assert server.job["status"]["message"] == (
            "the job cannot start here: spec.resources (the gpu pods): a pod requests nvidia.com/gpu 8, and the "
            "largest node offers nvidia.com/gpu 4; it starts on its own once there is more, or it requests less"
        )
        amounts["nvidia.com/gpu"] = "8"
        await controller.reconcile((server.job["metadata"]["namespace"], "assistant"))

    assert run(steps, server) == ["NeverFits", "AttemptStarted"]
    assert server.made()[-1] == ("RayJob", "assistant-a01")


def test_a_forecast_that_is_refused_keeps_no_job_from_its_start():
    server = Server(finetunejob())
    server.refuses = {("list", "Node"): "no", ("list", "ResourceQuota"): "no"}

    async def steps(controller):
        await controller.on_job_event(server.job, deleted=False)

    assert run(steps, server) == ["AttemptStarted"]


@pytest.mark.parametrize(
    "found",
    [
        rayjob(),
        rayjob(suspend=True),
        rayjob(deployment="Running", job="RUNNING", rayClusterName="c", dashboardURL="d:8265"),
        rayjob(deployment="Failed", reason="DeadlineExceeded", message="too late", endTime="2026-11-23T13:00:00Z"),
    ],
)
def test_a_trimmed_rayjob_is_small_and_has_the_same_status(found):
    found["spec"]["rayClusterSpec"] = {"workerGroupSpecs": [{}]}
    found["metadata"]["managedFields"] = [{"manager": "somebody"}]
    remembered = trim(found)
    assert ray_job_status(remembered) == ray_job_status(found)
    assert is_owned(remembered, UID)
    assert "rayClusterSpec" not in str(remembered)
    assert "managedFields" not in str(remembered)


def test_no_api_calls_while_nothing_changes():
    server = Server(finetunejob())

    async def steps(controller):
        await controller.on_job_event(server.job, deleted=False)
        running = rayjob(deployment="Running", job="RUNNING")
        await controller.on_ray_job_event(running, deleted=False)
        await controller.on_job_event(server.job, deleted=False)
        server.calls.clear()
        await controller.on_job_event(server.job, deleted=False)
        await controller.on_ray_job_event(running, deleted=False)
        await controller.reconcile(KEY)

    run(steps, server)
    assert server.calls == []


def test_an_old_event_does_not_undo_a_newer_status():
    server = Server(finetunejob())
    old = copy.deepcopy(server.job)

    async def steps(controller):
        await controller.on_job_event(old, deleted=False)
        server.calls.clear()
        await controller.on_job_event(old, deleted=False)  # the watch lags behind our own patch
        assert server.made() == []

    run(steps, server)


def test_the_result_is_read_again_when_the_rayjob_has_ended():
    server = Server(finetunejob())

    async def steps(controller):
        await controller.on_job_event(server.job, deleted=False)
        reported = {"attempt": 1, "exitCode": 2, "reason": "UsageError", "message": "no such column"}
        server.put(
            {**server.job, "status": {**server.job["status"], "result": reported}}
        )  # its event is still on the way
        await controller.on_ray_job_event(rayjob(deployment="Failed", job="FAILED", reason="AppFailed"), deleted=False)

    run(steps, server)
    assert (server.job["status"]["phase"], server.job["status"]["message"]) == ("Failed", "no such column")


def test_after_a_restart_a_rayjob_not_yet_listed_is_fetched():
    server = Server(finetunejob())

    async def before(controller):
        await controller.on_job_event(server.job, deleted=False)

    async def restarted(controller):
        await controller.on_job_event(server.job, deleted=False)

    run(before, server)
    server.put(rayjob(deployment="Running", job="RUNNING"))
    run(restarted, server)
    assert [a["outcome"] for a in server.job["status"]["attempts"]] == ["Running"]


def test_a_failed_attempt_is_retried_without_any_event():
    server = Server(finetunejob())

    async def steps(controller):
        await controller.on_job_event(server.job, deleted=False)
        failed = rayjob(deployment="Failed", reason="AppFailed", endTime="2026-11-23T12:00:00Z")
        server.put(failed)
        await controller.on_ray_job_event(failed, deleted=False)
        for _ in range(100):
            if len(server.job["status"]["attempts"]) == 2:
                return
            await asyncio.sleep(0.05)

    run(steps, server)
    assert [a["outcome"] for a in server.job["status"]["attempts"]] == ["Failed", "Running"]
    assert ("RayJob", "assistant-a02") in server.made()


def test_an_exceeded_quota_is_in_the_status():
    server = Server(finetunejob())
    server.refuses["create", "RayJob"] = "exceeded quota: rayjobs"

    async def steps(controller):
        await controller.on_job_event(server.job, deleted=False)

    assert run(steps, server) == ["Forbidden"]
    assert server.job["status"]["message"] == "exceeded quota: rayjobs"
    assert "attempts" not in server.job["status"]


def test_a_bug_met_on_one_object_is_counted_and_told_there_and_harms_no_other(monkeypatch):
    other = finetunejob(name="other")
    server = Server(finetunejob(), other)
    real = controller_module.reconcile

    def reconcile(observed, settings, now):
        if observed.name == "assistant":
            raise AttributeError("'int' object has no attribute 'items'")
        return real(observed, settings, now)

    monkeypatch.setattr(controller_module, "reconcile", reconcile)
    labels = {"namespace": "team", "name": "assistant"}
    before = REGISTRY.get_sample_value("raytrain_reconcile_errors_total", labels) or 0

    async def steps(controller):
        await controller.on_job_event(server.job, deleted=False)
        await controller.on_job_event(other, deleted=False)
        await controller.on_job_event(server.job, deleted=False)  # told once

    assert run(steps, server) == ["ReconcileError", "AttemptStarted"]
    assert REGISTRY.get_sample_value("raytrain_reconcile_errors_total", labels) == before + 2
    assert server.job["status"] == {
        "phase": "Pending",
        "message": "the operator cannot handle this object (AttributeError): please report it as a bug",
    }
    assert ("RayJob", "other-a01") in server.made()


def test_a_resync_goes_on_after_an_object_that_cannot_be_handled(monkeypatch):
    monkeypatch.setattr(controller_module, "RESYNC_SECONDS", 0.01)
    server = Server(finetunejob(), finetunejob(name="other"))
    seen = []

    def reconcile(observed, settings, now):
        seen.append(observed.name)
        if observed.name == "assistant":
            raise KeyError("name")
        return Decision(status={})

    monkeypatch.setattr(controller_module, "reconcile", reconcile)

    async def steps(controller):
        await controller.on_job_event(server.job, deleted=False)
        await controller.on_job_event(server.objects[(*JOBS, "other")], deleted=False)
        task = asyncio.ensure_future(controller.resync())
        while seen.count("other") < 3:
            await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()

    run(steps, server)


def test_objects_of_other_owners_are_left_alone():
    theirs = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "assistant-raytrain"}}
    server = Server(finetunejob(), theirs)

    async def steps(controller):
        await controller.on_job_event(server.job, deleted=False)

    assert run(steps, server) == ["NameTaken"]
    assert server.made() == [("ServiceAccount", "assistant-raytrain")]  # asked for, and not taken over
    assert "ownerReferences" not in theirs["metadata"]


def test_an_unresponsive_api_server_is_tried_again(monkeypatch):
    monkeypatch.setattr("raytrain.operator.controller.TRY_AGAIN_SECONDS", 0.05)
    server = Server(finetunejob())
    real, answers = server.serves, iter([False])

    def serves(kind):
        if next(answers, True):
            return real(kind)
        raise ClusterError("the Kubernetes API does not answer")

    server.serves = serves

    async def steps(controller):
        await controller.on_job_event(server.job, deleted=False)
        for _ in range(100):
            if server.made():
                await asyncio.sleep(0.1)
                return
            await asyncio.sleep(0.05)

    run(steps, server)
    assert server.job["status"]["phase"] == "Pending"


def test_after_a_kill_at_any_api_call_the_outcome_is_the_same():
    def whole(server):
        async def steps(controller):
            await controller.on_job_event(server.job, deleted=False)
            running = server.objects.get((*RAY_JOBS, "assistant-a01"))
            if running:
                await controller.on_ray_job_event(running, deleted=False)

        return steps

    undisturbed = Server(finetunejob())
    run(whole(undisturbed), undisturbed)
    calls = len(undisturbed.calls)
    assert calls > 8
    for dies_at in range(calls):
        server = Server(finetunejob())
        server.dies_at = dies_at
        with pytest.raises(KilledError):
            run(whole(server), server)
        server.dies_at = None
        run(whole(server), server)
        assert set(server.objects) == set(undisturbed.objects), dies_at
        (attempt,) = server.job["status"]["attempts"]
        assert (attempt["rayJob"], attempt["outcome"]) == ("assistant-a01", "Running")


def test_two_operators_create_one_attempt():
    server = Server(finetunejob())

    async def steps(controller):
        other = Controller(server, Settings(), lambda body, event: None)
        body = server.job
        await asyncio.gather(controller.on_job_event(body, deleted=False), other.on_job_event(body, deleted=False))

    run(steps, server)
    assert {name for kind, name in server.made() if kind == "RayJob"} == {"assistant-a01"}
    assert len(server.job["status"]["attempts"]) == 1


def test_a_deleted_object_is_forgotten():
    server = Server(finetunejob())

    async def steps(controller):
        await controller.on_job_event(server.job, deleted=False)
        await controller.on_job_event(server.job, deleted=True)
        server.calls.clear()
        await controller.on_ray_job_event(rayjob(deployment="Running", uid=UID), deleted=False)

    run(steps, server)
    assert [call for call in server.calls if call[0] != "get"] == []


def test_the_operator_loads_no_torch_and_no_ray():
    heavy = "torch, transformers, ray, boto3, pyarrow, numpy, datasets"
    program = (
        "import sys, raytrain.operator.handlers, raytrain.operator.settings;"
        f"print([m for m in '{heavy}'.split(', ') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_pods_know_the_namespace_to_which_the_run_belongs():
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team", "uid": "7"}}
    server = Server(finetunejob(), namespace)

    async def steps(controller):
        await controller.on_job_event(server.job, deleted=False)

    run(steps, server)
    cluster = server.objects[(*RAY_JOBS, "assistant-a01")]["spec"]["rayClusterSpec"]
    driver = next(group for group in cluster["workerGroupSpecs"] if group["groupName"] == "cpu")
    env = driver["template"]["spec"]["containers"][0]["env"]
    assert {"name": "RAYTRAIN_KUBERNETES_OWNER", "value": "namespace team (7)"} in env


def test_a_job_that_is_replaced_meanwhile_does_not_get_the_status_of_the_old_one():
    old, new = finetunejob(), finetunejob()
    new["metadata"]["uid"] = "another"
    server = Server(old)

    async def steps(controller):
        def create(body, **given):
            if server.job["metadata"]["uid"] != "another":
                loop.call_soon_threadsafe(controller._forget, KEY)
                server.put(new)
                loop.call_soon_threadsafe(controller._memory.keep_job, new)
            return real(body, **given)

        loop, real = asyncio.get_running_loop(), server.create
        server.create = create
        await controller.on_job_event(old, deleted=False)
        assert "status" not in server.job
        assert KEY in controller._locks
        await controller.on_job_event(server.job, deleted=False)
        controller._forget(KEY)
        assert KEY not in controller._locks

    run(steps, server)


def test_an_existing_rayjob_is_not_suspended_again():
    job = finetunejob(cluster={"queue": "team-queue"})
    server = Server(job)
    server.serves = lambda kind: True

    async def steps(controller):
        await controller.on_job_event(server.job, deleted=False)
        made = next(body for key, body in server.objects.items() if key[1] == "RayJob")
        assert made["spec"]["suspend"] is True
        made["spec"]["suspend"] = False  # Kueue has admitted it
        await create_or_update(server, made | {"spec": made["spec"] | {"suspend": True}}, job["metadata"]["uid"])

    run(steps, server)
    applied = next(body for key, body in server.objects.items() if key[1] == "RayJob")
    assert "suspend" not in applied["spec"]  # what is not applied stays as it is


def test_a_queue_whose_local_queue_is_missing_is_told_by_the_controller():
    server = Server(finetunejob(cluster={"queue": "team-queue"}))
    server.serves = lambda kind: kind in (RAY_JOBS, ("kueue.x-k8s.io/v1beta1", "LocalQueue"))

    async def steps(controller):
        await controller.on_job_event(server.job, deleted=False)
        await controller.reconcile(KEY)

    assert "LocalQueueMissing" in run(steps, server)
    assert ("get", "LocalQueue", "team-queue") in server.calls


def test_a_start_is_told_once_and_after_a_restart_only_what_was_not_written_down(monkeypatch):
    sent = []
    monkeypatch.setattr(delivery, "post", lambda found, folder: sent.append(found.mark) or "")
    settings = Settings.model_validate({"notifications": {"channels": [{"name": "team"}]}})
    server = Server(finetunejob())

    async def steps(controller):
        await controller.on_job_event(server.job, deleted=False)
        while controller._delivery._under_way:
            await asyncio.sleep(0.01)
        await controller.reconcile(("team", "assistant"))
        await controller.close()

    run(steps, server, settings)
    assert sent == ["team.started"]
    assert server.job["status"]["notified"] == ["team.started"]
    run(steps, server, settings)
    assert sent == ["team.started"]
    server.job["status"].pop("notified")  # as if the operator had been killed before it wrote this
    run(steps, server, settings)
    assert sent == ["team.started", "team.started"]


def test_a_notification_that_cannot_be_sent_is_an_event_of_the_job(monkeypatch):
    settings = Settings.model_validate({"notifications": {"channels": [{"name": "team"}]}})
    server = Server(finetunejob())

    async def steps(controller):
        await controller.on_job_event(server.job, deleted=False)
        while controller._delivery._under_way:
            await asyncio.sleep(0.01)

    assert run(steps, server, settings)[-1] == "NotificationFailed"
    assert server.job["status"]["notified"] == ["team.started"]


def test_a_child_begins_by_itself_when_its_parent_is_complete():
    parent = finetunejob(name="base", status={"phase": "Training"})
    server = Server(finetunejob(model="run://base"), parent)
    settings = Settings.model_validate({"retry": {"firstSeconds": 0.05}})

    async def steps(controller):
        await controller.on_job_event(server.job, deleted=False)  # before its parent is listed
        assert server.job["status"]["phase"] == "Waiting"
        server.put({**parent, "status": {"phase": "Complete", "completionTime": "2026-11-23T12:00:00Z"}})
        await controller.on_job_event(server.objects[(*JOBS, "base")], deleted=False)
        while not server.job["status"].get("attempts"):
            await asyncio.sleep(0.01)

    assert run(steps, server, settings) == ["Waiting", "AttemptStarted"]
