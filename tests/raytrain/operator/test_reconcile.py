"""Every observable situation, the decision, and the status."""

from dataclasses import replace

import pytest

from raytrain.config.job_status import CONDITIONS
from raytrain.operator.admission import Refusal
from raytrain.operator.reconcile import reconcile
from raytrain.operator.settings import Settings
from raytrain.operator.snapshot import Observed, Turn
from raytrain.operator.status import status_patch
from raytrain.operator.timestamps import format_time
from tests.support.finetunejob_objects import NOW, UID, after, finetunejob, pod, rayjob, task

SETTINGS = Settings()


class World:
    """One object and its RayJobs over time; applies decisions as the controller does."""

    def __init__(self, **job):
        self.body = finetunejob(**job)
        self.ray_jobs = {}
        self.kuberay = True
        self.apply_error = None
        self.deleted = []
        self.gone = False
        self.events = []
        self.pods = []
        self.ray_clusters = []
        self.turn = None
        self.misfit = ""
        self.queue_systems = ("kueue",)
        self.queue_problem = None

    def step(self, seconds=0.0):
        observed = Observed(
            self.body, self.ray_jobs, self.kuberay, self.apply_error, turn=self.turn, misfit=self.misfit
        )
        observed = replace(observed, queue_systems=self.queue_systems, queue_problem=self.queue_problem)
        decision = reconcile(observed, SETTINGS, after(seconds))
        if decision.look:
            observed = replace(observed, pods=self.pods, ray_clusters=self.ray_clusters)
            decision = reconcile(observed, SETTINGS, after(seconds))
        for made in decision.apply:
            if made["kind"] == "RayJob":
                self.ray_jobs[made["metadata"]["name"]] = made
        for name in decision.delete:
            self.deleted.append(name)
            self.ray_jobs.pop(name)
        patch = status_patch(self.body, decision.status)
        self.body.setdefault("status", {}).update(patch)
        self.events += [event.reason for event in decision.events]
        self.gone = self.gone or decision.delete_self
        return decision

    def kuberay_says(self, number, deployment, job="", **status):
        self.ray_jobs[f"assistant-a{number:02d}"] = rayjob(number, deployment=deployment, job=job, **status)

    def run_says(self, attempt, phase, **fields):
        self.body["status"]["progress"] = {"attempt": attempt, "phase": phase, **fields}

    def ends(self, attempt, exit_code, reason, message=""):
        result = {"attempt": attempt, "exitCode": exit_code, "reason": reason, "message": message}
        self.body["status"]["result"] = result

    @property
    def phase(self):
        return self.body["status"]["phase"]

    @property
    def outcomes(self):
        return [attempt["outcome"] for attempt in self.body["status"].get("attempts", [])]

    def condition(self, kind):
        return next(c for c in self.body["status"]["conditions"] if c["type"] == kind)

    def true(self):
        return [c["type"] for c in self.body["status"]["conditions"] if c["status"] == "True"]


@pytest.fixture
def world():
    return World()


def test_a_job_from_apply_to_complete(world):
    first = world.step()
    kinds = [made["kind"] for made in first.apply]
    assert kinds == [
        "ServiceAccount", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "ConfigMap", "RayJob",
    ]  # fmt: skip
    assert (world.phase, world.true(), world.outcomes) == ("Pending", ["Progressing", "Accepted"], ["Running"])
    assert world.events == ["AttemptStarted"]

    assert world.step(1).apply == ()  # nothing observed, nothing to do
    world.kuberay_says(1, "Initializing", rayClusterStatus={"desiredWorkerReplicas": 1, "readyWorkerReplicas": 0})
    world.step(2)
    assert (world.phase, world.body["status"]["workers"]) == ("Pending", "0/1")

    world.kuberay_says(
        1, "Running", "RUNNING", rayClusterName="assistant-a01-x7k2p", dashboardURL="head-svc.team:8265",
        rayClusterStatus={"desiredWorkerReplicas": 3, "readyWorkerReplicas": 2},
    )  # fmt: skip
    world.step(3)
    assert (world.phase, world.body["status"]["message"]) == ("Pending", "the run is starting")
    world.run_says(1, "Preparing", message="preparing shards of chats")
    world.step(4)
    assert (world.phase, world.true()) == ("Preparing", ["Progressing", "Accepted", "Running"])
    world.run_says(1, "Training", percent="40%")
    world.step(5)
    assert (world.phase, world.true()) == ("Training", ["Progressing", "Accepted", "DataReady", "Running"])
    assert world.body["status"]["workers"] == "2/3"
    assert world.body["status"]["rayCluster"] == "assistant-a01-x7k2p"

    world.run_says(1, "Complete", percent="100%")
    world.step(590)
    assert world.phase == "Reporting", "KubeRay has not seen yet that the driver has ended"

    world.ends(1, 0, "Complete")
    world.body["status"]["result"]["report"] = "s3://bucket/raytrain/runs/assistant/report/index.html"
    world.kuberay_says(1, "Complete", "SUCCEEDED", endTime="2026-11-23T12:10:00Z")
    world.step(600)
    assert (world.phase, world.outcomes) == ("Complete", ["Succeeded"])
    assert world.true() == ["Ready", "Accepted", "DataReady", "Evaluated", "Complete"]
    assert world.body["status"]["completionTime"] == "2026-11-23T12:10:00Z"
    assert "index.html" in world.body["status"]["message"]
    assert world.body["status"]["workers"] == ""
    assert world.events == ["AttemptStarted", "Preparing", "Training", "Reporting", "Complete"]


def test_reconcile_is_idempotent(world):
    world.step()
    world.kuberay_says(1, "Running", "RUNNING")
    world.run_says(1, "Training")
    world.step(1)
    before = dict(world.body["status"])
    for later in (2, 60, 3600):
        decision = world.step(later)
        assert (decision.apply, decision.delete, decision.events) == ((), (), ())
        assert status_patch(world.body, decision.status) == {}
    assert world.body["status"] == before


def test_fields_written_by_the_run_are_never_touched(world):
    world.step()
    world.kuberay_says(1, "Running", "RUNNING")
    decision = world.step(1)
    assert not set(decision.status) & {"progress", "tasks", "result"}


def test_a_user_error_is_not_retried(world):
    world.step()
    world.ends(1, 3, "DataError", "s3://rows/chats.jsonl: there is no such object")
    world.kuberay_says(1, "Failed", "FAILED", reason="AppFailed", message="driver exited with 3")
    decision = world.step(30)
    assert decision.apply == ()
    assert (world.phase, world.outcomes) == ("Failed", ["Failed"])
    assert world.condition("Failed")["reason"] == "DataError"
    assert "no such object" in world.condition("Failed")["message"]
    assert world.body["status"]["attempts"][0]["exitCode"] == 3
    assert "AttemptFailed" in world.events


@pytest.mark.parametrize("code", [None, 1, 4, 5])
def test_an_infrastructure_failure_is_retried_after_a_wait(world, code):
    world.step()
    if code is not None:
        world.ends(1, code, "StorageError", "503")
    world.kuberay_says(1, "Failed", "", reason="AppFailed", message="head pod is gone", endTime="2026-11-23T12:01:00Z")
    decision = world.step(60)
    assert (world.phase, decision.delete) == ("Retrying", ("assistant-a01",))  # its Ray cluster may still be there
    decision = world.step(61)
    assert (world.phase, decision.wake_after) == ("Retrying", 9)
    assert decision.apply == ()
    assert "the next start is not before 2026-11-23T12:01:10Z" in world.body["status"]["message"]
    decision = world.step(70)
    assert [made["metadata"]["name"] for made in decision.apply if made["kind"] == "RayJob"] == ["assistant-a02"]
    assert (world.phase, world.outcomes) == ("Pending", ["Failed", "Running"])
    assert world.body["status"]["message"] == "attempt 2 begins: the Ray cluster is starting"


def test_waits_grow_and_retries_end(world):
    world.body["spec"]["cluster"] = {"retries": 2}
    now, pauses = 0.0, []
    for number in (1, 2, 3):
        world.step(now)
        ended = after(now + 1).strftime("%Y-%m-%dT%H:%M:%SZ")
        world.kuberay_says(number, "Failed", "FAILED", reason="AppFailed", message="lost", endTime=ended)
        world.step(now + 1)
        decision = world.step(now + 1)
        if decision.wake_after:
            pauses.append(decision.wake_after)
            now += 1 + decision.wake_after
    assert pauses == [10, 20]
    assert (world.phase, world.outcomes) == ("Failed", ["Failed"] * 3)
    assert world.condition("Failed")["reason"] == "RetriesExhausted"
    assert "3 of 3 attempts failed (cluster.retries: 2)" in world.condition("Failed")["message"]


def test_the_result_of_an_old_attempt_is_ignored(world):
    world.step()
    world.ends(1, 5, "ClusterError")
    world.kuberay_says(1, "Failed", "FAILED", endTime="2026-11-23T12:00:10Z")
    world.step(10)
    world.step(11)
    world.step(20)
    world.body["status"]["result"] |= {"exitCode": 3}  # still attempt 1's
    world.kuberay_says(2, "Failed", "FAILED", reason="AppFailed", endTime="2026-11-23T12:00:40Z")
    world.step(40)
    assert world.phase == "Retrying"


def test_a_preemption_does_not_count_as_a_failure(world):
    world.body["spec"]["cluster"] = {"retries": 0}
    world.step()
    world.ends(1, 130, "Interrupted", "stopped on request")
    world.kuberay_says(1, "Failed", "FAILED", reason="AppFailed")
    world.step(900)
    assert (world.phase, world.outcomes) == ("Retrying", ["Interrupted"])
    decision = world.step(901)  # at once: the attempt had lasted
    assert (world.phase, world.outcomes) == ("Pending", ["Interrupted", "Running"])
    assert decision.wake_after is None


def test_an_attempt_whose_rayjob_is_deleted_has_failed(world):
    world.step()
    world.ray_jobs.clear()
    world.step(5)
    assert (world.phase, world.outcomes) == ("Retrying", ["Failed"])
    assert world.body["status"]["attempts"][0]["reason"] == "RayJobDeleted"


def test_suspend_releases_everything_and_resume_continues(world):
    world.step()
    world.kuberay_says(1, "Running", "RUNNING")
    world.run_says(1, "Training")
    world.step(1)
    world.body["spec"]["cluster"] = {"suspend": True}
    world.pods = [pod()]
    assert world.step(2).delete == ("assistant-a01",)
    assert (world.phase, world.outcomes) == ("Suspending", ["Suspended"])
    assert world.step(40).delete == ()
    assert (world.phase, "Suspended" in world.true()) == ("Suspending", False)
    assert "1 pods (assistant-a01-head)" in world.body["status"]["message"]
    world.pods = []
    world.step(50)
    assert (world.phase, world.outcomes) == ("Suspended", ["Suspended"])
    assert "Suspended" in world.true()
    assert "Running" not in world.true()
    assert world.step(100).apply == ()

    world.body["spec"]["cluster"] = {"suspend": False}
    world.step(101)
    assert (world.phase, world.outcomes) == ("Pending", ["Suspended", "Running"])
    assert "Suspended" not in world.true()
    assert "DataReady" in world.true()  # it was, and stays


def test_the_next_attempt_waits_until_the_last_ones_cluster_is_gone(world):
    world.step()
    world.kuberay_says(1, "Running", "RUNNING")
    world.step(1)
    leaving = world.ray_jobs["assistant-a01"]
    world.body["spec"]["cluster"] = {"suspend": True}
    world.step(2)
    leaving["metadata"]["deletionTimestamp"] = "2026-11-23T12:00:02Z"
    world.ray_jobs["assistant-a01"] = leaving  # KubeRay's finalizer still holds it
    world.body["spec"]["cluster"] = {}
    decision = world.step(3)
    assert (decision.apply, decision.delete, world.phase) == ((), (), "Retrying")
    assert decision.wake_after
    del world.ray_jobs["assistant-a01"]
    assert world.step(4).apply


def test_a_job_suspended_from_the_start_creates_nothing():
    world = World(cluster={"suspend": True})
    assert world.step().apply == ()
    assert (world.phase, world.outcomes) == ("Suspended", [])


def test_cancel_ends_the_job_for_good(world):
    world.step()
    world.kuberay_says(1, "Running", "RUNNING")
    world.step(1)
    world.body["metadata"]["annotations"] = {"raytrain.dev/cancel": "true"}
    assert world.step(2).delete == ("assistant-a01",)
    assert (world.phase, world.outcomes) == ("Cancelling", ["Cancelled"])
    world.step(3)
    assert world.phase == "Cancelled"
    assert world.condition("Failed")["status"] == "True"
    assert world.condition("Failed")["reason"] == "Cancelled"
    world.body["metadata"]["annotations"] = {}
    assert world.step(3).apply == ()
    assert world.phase == "Cancelled"


def test_a_ray_job_that_someone_stopped_is_cancelled(world):
    world.step()
    world.kuberay_says(1, "Complete", "STOPPED")
    world.step(1)
    world.step(2)
    assert (world.phase, world.outcomes) == ("Cancelled", ["Cancelled"])


def test_a_job_waits_for_its_queue():
    world = World(cluster={"queue": "team-queue"})
    world.step()
    world.ray_jobs["assistant-a01"] = rayjob(1, suspend=True, deployment="Suspended")
    world.step(1)
    assert world.phase == "Queued"
    assert world.condition("Suspended")["status"] == "True"
    assert world.condition("Suspended")["reason"] == "Queued"


@pytest.mark.parametrize(
    ("spec", "there", "remedy"),
    [
        ({"cluster": {"queue": "team-queue"}}, (), "install Kueue"),
        ({"labels": {"kueue.x-k8s.io/queue-name": "team-queue"}}, ("volcano",), "install Kueue"),
        ({"labels": {"volcano.sh/queue-name": "team-queue"}}, ("kueue",), "runs.batchScheduler: volcano"),
    ],
)
def test_a_queue_whose_system_is_not_there_is_told_and_has_no_effect(spec, there, remedy):
    labels = spec.pop("labels", None)
    world = World(**spec)
    world.body["metadata"]["labels"] = labels or {}
    world.queue_systems = there
    decision = world.step()
    ray_job = decision.apply[-1]
    assert "suspend" not in ray_job["spec"]
    assert "kueue.x-k8s.io/queue-name" not in ray_job["metadata"]["labels"]
    accepted = world.condition("Accepted")
    assert (accepted["status"], accepted["reason"]) == ("True", "QueueIgnored")
    assert "team-queue has no effect" in accepted["message"]
    assert remedy in accepted["message"]
    assert "QueueIgnored" in world.events
    world.events.clear()
    world.step(1)
    assert "QueueIgnored" not in world.events  # told once


def test_a_rayjob_for_a_queue_starts_suspended_and_a_queue_that_is_not_there_is_told():
    world = World(cluster={"queue": "team-queue"})
    assert world.step().apply[-1]["spec"]["suspend"] is True
    world.ray_jobs["assistant-a01"] = rayjob(1, suspend=True, deployment="Suspended")
    world.queue_problem = Refusal("LocalQueueMissing", "the namespace team has no LocalQueue team-queue")
    decision = world.step(1)
    assert (world.phase, world.condition("Suspended")["reason"]) == ("Queued", "LocalQueueMissing")
    assert "no LocalQueue team-queue" in world.body["status"]["message"]
    assert "LocalQueueMissing" in world.events
    assert decision.wake_after <= 60
    world.queue_problem = None
    world.step(61)
    assert world.condition("Suspended")["reason"] == "Queued"


def test_a_job_waits_for_kuberay_and_then_starts():
    world = World()
    world.kuberay = False
    decision = world.step()
    assert (world.phase, decision.apply, decision.wake_after) == ("Pending", (), 30)
    assert world.condition("Accepted")["status"] == "False"
    assert world.condition("Accepted")["reason"] == "KubeRayMissing"
    assert world.events == ["KubeRayMissing"]
    world.kuberay = True
    assert world.step(30).apply
    assert "Accepted" in world.true()


def test_a_local_source_is_refused_with_a_remedy_and_the_corrected_job_starts():
    world = World(tasks=[task(source={"uri": "rows/chats.jsonl"})])
    assert world.step().apply == ()
    assert (world.phase, world.condition("Accepted")["reason"]) == ("Rejected", "LocalSource")
    assert "raytrain submit" in world.body["status"]["message"]
    assert world.events == ["Rejected"]
    world.body["spec"]["tasks"] = [task()]
    world.body["metadata"]["generation"] = 2
    assert world.step(10).apply
    assert (world.phase, world.body["status"]["observedGeneration"]) == ("Pending", 2)


def test_an_invalid_job_lists_every_problem():
    world = World(training={"steps": -1, "optimiser": "adamw"})
    world.step()
    assert world.condition("Accepted")["reason"] == "InvalidSpec"
    assert "spec.training.steps" in world.body["status"]["message"]
    assert "optimiser" in world.body["status"]["message"]


def test_a_refused_edit_does_not_stop_a_running_attempt(world):
    world.step()
    world.kuberay_says(1, "Running", "RUNNING")
    world.run_says(1, "Training")
    world.step(1)
    world.body["spec"]["cluster"] = {"podTemplate": {"spec": {"hostNetwork": True}}}
    decision = world.step(2)
    assert (decision.delete, world.phase) == ((), "Training")
    assert world.condition("Accepted")["reason"] == "PodTemplateNotAllowed"


def test_an_exceeded_quota_is_reported_and_waited_for(world):
    world.apply_error = Refusal("Forbidden", "exceeded quota: pods")
    decision = world.step()
    assert (world.phase, world.outcomes, decision.wake_after) == ("Pending", [], 15)
    assert world.condition("Accepted")["reason"] == "Forbidden"
    world.apply_error = None
    assert world.step(15).apply


def test_pods_that_cannot_be_created_are_reported(world):
    world.step()
    failing = [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreatePod", "message": "exceeded quota"}]
    world.kuberay_says(1, "Initializing", rayClusterStatus={"conditions": failing})
    world.step(1)
    assert world.condition("Running")["reason"] == "QuotaExceeded"
    assert world.body["status"]["message"] == "waiting for quota: exceeded quota"
    assert world.condition("PodsReady")["reason"] == "QuotaExceeded"


def test_the_reason_why_a_head_does_not_start_is_reported(world):
    world.step()
    reported = {"type": "HeadPodReady", "status": "False", "reason": "CreateContainerConfigError"}
    reported["message"] = 'containers with unready status: [ray]; ray: secret "bucket" not found'
    world.kuberay_says(1, "Initializing", rayClusterStatus={"conditions": [reported]})
    world.step(1)
    assert world.condition("Running")["reason"] == "CreateContainerConfigError"
    assert 'secret "bucket" not found' in world.body["status"]["message"]
    assert world.events == ["AttemptStarted", "CreateContainerConfigError"]
    reported["message"] += " again"
    world.step(1.5)
    assert len(world.events) == 2  # reported once
    reported["reason"] = "ContainerCreating"  # passes by itself
    world.kuberay_says(1, "Initializing", rayClusterStatus={"conditions": [reported]})
    world.step(2)
    assert world.body["status"]["message"] == "the Ray cluster is starting"


def test_a_rayjob_that_kuberay_rejects_is_not_retried(world):
    world.step()
    world.kuberay_says(1, "ValidationFailed", reason="ValidationFailed", message="restartPolicy should be Never")
    world.step(1)
    assert (world.phase, world.condition("Failed")["reason"]) == ("Failed", "ValidationFailed")


def test_a_lost_status_is_restored_from_the_rayjobs(world):
    world.step()
    world.kuberay_says(1, "Failed", "FAILED", endTime="2026-11-23T12:00:05Z")
    world.step(5)
    world.step(15)
    world.kuberay_says(2, "Running", "RUNNING")
    del world.body["status"]
    decision = world.step(20)
    assert decision.apply == ()
    assert [attempt["rayJob"] for attempt in world.body["status"]["attempts"]] == ["assistant-a02"]


def test_rayjobs_with_other_names_are_not_attempts(world):
    world.ray_jobs["someone-elses-a01"] = rayjob(1, name="someone-elses", deployment="Running")
    world.step()
    assert [attempt["rayJob"] for attempt in world.body["status"]["attempts"]] == ["assistant-a01"]


def test_an_ended_object_is_deleted_after_its_ttl():
    world = World(cluster={"ttl": "1h"})
    world.step()
    world.kuberay_says(1, "Complete", "SUCCEEDED", endTime="2026-11-23T12:10:00Z")
    world.step(600)
    decision = world.step(660)
    assert (decision.delete_self, decision.wake_after) == (False, 3540)
    assert world.step(600 + 3600).delete_self


def test_an_ended_object_without_ttl_stays_and_causes_no_work(world):
    world.step()
    world.kuberay_says(1, "Complete", "SUCCEEDED")
    world.step(1)
    world.ray_jobs.clear()  # whoever removed it: it is not made again
    decision = world.step(10_000_000)
    assert decision.apply == decision.delete == decision.events == ()
    assert (decision.status, decision.wake_after, decision.delete_self) == ({}, None, False)


def test_an_object_that_is_being_deleted_is_left_alone(world):
    world.body["metadata"]["deletionTimestamp"] = "2026-11-23T12:00:00Z"
    assert world.step().apply == ()


def test_every_condition_is_always_present_and_its_time_changes_only_with_its_status(world):
    world.step()
    world.kuberay_says(1, "Running", "RUNNING")
    world.run_says(1, "Preparing")
    world.step(10)
    first = {c["type"]: c["lastTransitionTime"] for c in world.body["status"]["conditions"]}
    assert tuple(first) == CONDITIONS
    world.run_says(1, "Training")
    world.step(20)
    second = {c["type"]: c["lastTransitionTime"] for c in world.body["status"]["conditions"]}
    assert {kind for kind in CONDITIONS if first[kind] != second[kind]} == {"DataReady"}


def test_every_created_object_is_owned_by_the_job(world):
    for made in world.step().apply:
        (owner,) = made["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (UID, True)
        assert "finalizers" not in made["metadata"]
        assert made["metadata"]["namespace"] == "team"
        assert len(made["metadata"]["name"]) <= 50  # KubeRay clips accounts there


def test_the_result_depends_on_no_other_clock(world):
    assert reconcile(Observed(world.body), SETTINGS, NOW) == reconcile(Observed(world.body), SETTINGS, NOW)


# causes, waiting, endings

NO_GPUS = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu"
LOOKING_FOR_ROOM = {"desiredWorkerReplicas": 3, "readyWorkerReplicas": 1}


def unscheduled():
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": NO_GPUS}
    return pod("assistant-a01-gpu", phase="Pending", conditions=[condition])


def unpulled(message="manifest unknown: not found"):
    return pod(
        phase="Pending", containerStatuses=[{"state": {"waiting": {"reason": "ErrImagePull", "message": message}}}]
    )


def test_pods_without_room_are_told_by_message_condition_and_event_while_the_run_waits(world):
    world.step()
    world.kuberay_says(1, "Running", "RUNNING", rayClusterStatus=LOOKING_FOR_ROOM)
    world.run_says(1, "Training", message="waiting for workers")
    world.pods = [unscheduled()]
    assert world.step(10).wake_after == 15
    assert world.phase == "Training"
    assert NO_GPUS in world.body["status"]["message"]
    assert (world.condition("PodsReady")["status"], world.condition("PodsReady")["reason"]) == (
        "False",
        "Unschedulable",
    )
    assert "Unschedulable" in world.events
    world.pods = [pod()]
    world.kuberay_says(1, "Running", "RUNNING", rayClusterStatus={"desiredWorkerReplicas": 3, "readyWorkerReplicas": 3})
    assert world.step(20).wake_after is None
    assert (world.body["status"]["message"], world.condition("PodsReady")["status"]) == ("waiting for workers", "True")


def test_too_few_pods_after_the_set_time_are_given_back_and_cost_no_retry(world):
    world.body["spec"]["cluster"] = {"retries": 0}
    world.step()
    for start in (0, 2000, 4000):
        world.kuberay_says(1, "Running", "RUNNING", rayClusterStatus=LOOKING_FOR_ROOM)
        world.pods = [unscheduled()]
        world.step(start + 10)
        assert world.outcomes == ["Running"]
        assert world.step(start + 620).delete == ("assistant-a01",)
        assert (world.phase, world.outcomes) == ("Queued", ["Released"])
        assert "too few of them had started after 600 s" in world.body["status"]["message"]
        world.pods = []
        world.step(start + 621)
        assert (world.phase, "not before" in world.body["status"]["message"]) == ("Queued", True)
        world.step(start + 1500)
        assert (world.phase, world.outcomes) == ("Pending", ["Running"])
    assert [a["rayJob"] for a in world.body["status"]["attempts"]] == ["assistant-a01"]
    assert world.body["status"]["attempts"][0]["released"] == 3
    assert world.body["status"]["waitingSince"] == "2026-11-23T12:00:10Z", "the next try does not begin the wait anew"


def test_enough_pods_for_an_elastic_run_keep_what_they_have(world):
    world.body["spec"]["resources"]["training"]["minWorkers"] = 1
    world.step()
    world.kuberay_says(1, "Running", "RUNNING", rayClusterStatus={"desiredWorkerReplicas": 4, "readyWorkerReplicas": 3})
    world.pods = [unscheduled()]
    world.step(10)
    world.step(5000)
    assert world.outcomes == ["Running"]


@pytest.mark.parametrize("obstacle", ["room", "image"])
def test_a_run_that_goes_on_keeps_its_pods_however_few_they_are(world, obstacle):
    """A lost worker has no room to come back; pods that only preparation needed are long gone."""
    world.body["spec"]["resources"]["training"]["minWorkers"] = 1
    world.step()
    world.pods = [unscheduled() if obstacle == "room" else unpulled()]
    for seconds in range(10, 3000, 60):
        world.kuberay_says(1, "Running", "RUNNING", rayClusterStatus=LOOKING_FOR_ROOM)
        world.run_says(1, "Training", step=seconds, updated=format_time(after(seconds)))
        world.step(seconds)
        assert world.outcomes == ["Running"]
    world.step(seconds + 700)
    assert world.outcomes == [{"room": "Released", "image": "Failed"}[obstacle]], "it reports nothing any more"


def test_a_job_that_can_never_fit_is_told_does_not_begin_and_begins_once_it_fits(world):
    world.misfit = "spec.resources (the gpu pods): a pod requests nvidia.com/gpu 8, and the largest node offers 4"
    decision = world.step()
    assert (world.phase, decision.apply, decision.wake_after) == ("Pending", (), 60)
    assert world.misfit in world.body["status"]["message"]
    assert (world.condition("Accepted")["status"], world.condition("Accepted")["reason"]) == ("False", "NeverFits")
    assert world.events == ["NeverFits"]
    assert world.body["status"]["waitingSince"]
    world.misfit = ""
    assert world.step(60).apply
    assert "Accepted" in world.true()


def test_a_job_waits_no_longer_than_it_said(world):
    world.body["spec"]["cluster"] = {"maxWait": "1h"}
    world.turn = Turn(2, 3, "at most 1 jobs run at once")
    decision = world.step()
    assert (world.phase, world.body["status"]["place"], decision.apply) == ("Queued", 2, ())
    assert world.body["status"]["message"].startswith("place 2 of 3 in line: at most 1 jobs run at once")
    world.step(3599)
    assert world.phase == "Queued"
    world.step(3601)
    assert (world.phase, world.condition("Failed")["reason"]) == ("Failed", "WaitedTooLong")
    assert "cluster.maxWait: 1h" in world.body["status"]["message"]
    assert "place" not in {k for k, v in world.body["status"].items() if v}


def test_a_job_whose_turn_came_in_time_may_start_for_as_long_as_that_takes(world):
    world.body["spec"]["cluster"] = {"maxWait": "1h"}
    world.turn = Turn(1, 1, "at most 1 jobs run at once")
    world.step()
    world.turn = None
    world.step(3550)
    world.kuberay_says(1, "Initializing", rayClusterStatus={"desiredWorkerReplicas": 1})
    world.step(3605)
    assert (world.phase, world.outcomes) == ("Pending", ["Running"]), "its image is being pulled"
    world.pods = [unscheduled()]
    world.step(3620)
    assert world.condition("Failed")["reason"] == "WaitedTooLong", "there was no room after all"


def test_a_mistake_ends_the_job_with_its_cause_once_it_had_time_to_be_put_right(world):
    world.step()
    world.kuberay_says(1, "Initializing", rayClusterStatus={"desiredWorkerReplicas": 1})
    world.pods = [unpulled()]
    world.step(10)
    assert (world.phase, world.condition("PodsReady")["reason"]) == ("Pending", "ErrImagePull")
    assert world.step(140).delete == ("assistant-a01",)
    assert (world.phase, world.condition("Failed")["reason"]) == ("Failed", "ErrImagePull")
    assert "manifest unknown" in world.body["status"]["message"]
    assert world.condition("PodsReady")["reason"] == "ErrImagePull", "kept after the pods are gone"


def test_a_mistake_that_only_the_gpu_pods_meet_ends_the_job_too(world):
    """They are created once the driver runs: by then KubeRay calls the RayJob Running."""
    world.step()
    words = "requested: requests.nvidia.com/gpu=8, used: requests.nvidia.com/gpu=0, limited: requests.nvidia.com/gpu=4"
    refused = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreateWorkerPod",
        "message": f'pods "a" is forbidden: exceeded quota: gpus, {words}',
    }
    cluster = {"desiredWorkerReplicas": 3, "readyWorkerReplicas": 1, "conditions": [refused]}
    world.kuberay_says(1, "Running", "RUNNING", rayClusterStatus=cluster)
    assert world.step(10).delete == ("assistant-a01",)
    assert (world.phase, world.condition("Failed")["reason"]) == ("Failed", "QuotaTooSmall")
    assert "can never start here" in world.body["status"]["message"]


def test_a_mistake_does_not_end_an_elastic_run_that_has_what_it_needs(world):
    world.body["spec"]["resources"]["training"]["minWorkers"] = 1
    world.step()
    enough = {"desiredWorkerReplicas": 4, "readyWorkerReplicas": 3}
    world.kuberay_says(1, "Running", "RUNNING", rayClusterStatus=enough)
    world.pods = [unpulled()]
    world.step(10)
    world.step(5000)
    assert world.outcomes == ["Running"]


def test_a_registry_that_does_not_answer_is_nobodys_mistake(world):
    world.step()
    world.kuberay_says(1, "Initializing", rayClusterStatus={"desiredWorkerReplicas": 1})
    world.pods = [unpulled("dial tcp: i/o timeout")]
    world.step(10)
    world.step(1000)
    assert world.outcomes == ["Running"]
    world.kuberay_says(1, "Failed", reason="PreRunningDeadlineExceeded", message="passed preRunningDeadlineSeconds")
    world.step(1800)
    assert (world.phase, world.outcomes) == ("Retrying", ["Failed"])
    assert "i/o timeout" in world.body["status"]["attempts"][0]["message"]


@pytest.mark.parametrize(
    ("pods", "phase", "outcome", "words"),
    [([unscheduled()], "Queued", "Released", NO_GPUS), ([unpulled()], "Failed", "Failed", "manifest unknown")],
)
def test_a_start_that_kuberay_gave_up_is_explained_by_what_was_in_the_way(world, pods, phase, outcome, words):
    world.step()
    world.kuberay_says(1, "Initializing", rayClusterStatus={"desiredWorkerReplicas": 1})
    world.pods = pods
    world.step(10)
    world.pods = []
    world.kuberay_says(1, "Failed", reason="PreRunningDeadlineExceeded", message="passed preRunningDeadlineSeconds")
    world.step(60)
    assert (world.phase, world.outcomes) == (phase, [outcome])
    assert words in world.body["status"]["message"]


def test_a_corrected_job_is_taken_up_at_once_by_an_attempt_that_cannot_start(world):
    world.step()
    world.kuberay_says(1, "Initializing", rayClusterStatus={"desiredWorkerReplicas": 1})
    world.pods = [unpulled()]
    world.step(10)
    world.body["spec"]["cluster"] = {"image": "registry.example.org/raytrain:2"}
    world.body["metadata"]["generation"] = 2
    assert world.step(20).delete == ("assistant-a01",)
    world.pods = []
    made = world.step(21).apply
    assert made[-1]["metadata"]["name"] == "assistant-a01"
    containers = made[-1]["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    assert containers[0]["image"] == "registry.example.org/raytrain:2"
    assert world.outcomes == ["Running"]


def test_done_is_done_whatever_became_of_the_rayjob(world):
    world.step()
    world.kuberay_says(1, "Running", "RUNNING")
    world.step(1)
    world.ends(1, 0, "Complete")
    world.step(2)
    assert world.outcomes == ["Running"], "KubeRay says when"
    world.kuberay_says(1, "Failed", "FAILED", reason="AppFailed", message="head is gone")
    world.step(3)
    assert (world.phase, world.outcomes) == ("Complete", ["Succeeded"])


def test_done_is_done_although_the_rayjob_is_deleted(world):
    world.step()
    world.ends(1, 0, "Complete")
    world.ray_jobs.clear()
    world.step(3)
    assert (world.phase, world.outcomes) == ("Complete", ["Succeeded"])


def test_a_result_judges_only_the_start_that_wrote_it(world):
    world.step()
    world.ends(1, 130, "Interrupted", "told to stop")
    world.body["status"]["result"]["rayCluster"] = "assistant-a01-first"
    world.kuberay_says(1, "Failed", "FAILED", rayClusterName="assistant-a01-second", reason="AppFailed", message="OOM")
    world.step(5)
    assert (world.outcomes, world.body["status"]["attempts"][0]["reason"]) == (["Failed"], "AppFailed")


def test_the_clock_of_kuberays_host_does_not_matter(world):
    world.body["spec"]["cluster"] = {"ttl": "1h"}
    world.step()
    world.kuberay_says(1, "Failed", "FAILED", reason="AppFailed", message="lost", endTime="2026-11-23T14:00:00Z")
    world.step(1)
    assert world.step(2).wake_after == 9
    world.step(11)
    world.kuberay_says(2, "Complete", "SUCCEEDED", endTime="2026-11-23T10:00:00Z")
    world.step(20)
    assert (world.phase, world.body["status"]["completionTime"]) == ("Complete", "2026-11-23T12:00:20Z")
    assert world.step(30).delete_self is False


def test_interruptions_that_follow_each_other_wait_longer_and_longer_up_to_a_named_limit(world):
    now, waits = 0.0, []
    for number in range(1, 52):
        world.step(now)
        world.ends(number, 130, "Interrupted", "told to stop")
        world.kuberay_says(number, "Failed", "FAILED", reason="AppFailed")
        world.step(now + 1)
        wait = world.step(now + 1).wake_after
        waits.append(wait)
        now += 1 + (wait or 0)
    assert waits[:4] == [10, 20, 40, 80]
    assert max(wait for wait in waits if wait) == 600
    assert (world.phase, world.condition("Failed")["reason"]) == ("Failed", "InterruptionsExhausted")
    assert "interrupted 51 times (retry.maxInterruptions: 50)" in world.body["status"]["message"]


def test_a_lost_worker_is_an_event(world):
    world.step()
    for seconds, ready in ((1, 3), (2, 2)):
        world.kuberay_says(
            1, "Running", "RUNNING", rayClusterStatus={"desiredWorkerReplicas": 3, "readyWorkerReplicas": ready}
        )
        world.run_says(1, "Training")
        world.step(seconds)
    assert world.events[-1] == "WorkerLost"


def test_a_pod_that_the_autoscaler_gives_back_is_not_a_lost_worker(world):
    world.step()
    for seconds, ready, desired in ((1, 4, 4), (2, 4, 3), (3, 3, 3)):
        cluster = {"desiredWorkerReplicas": desired, "readyWorkerReplicas": ready}
        world.kuberay_says(1, "Running", "RUNNING", rayClusterStatus=cluster)
        world.run_says(1, "Training")
        world.step(seconds)
    assert "WorkerLost" not in world.events


def test_suspend_holds_even_if_the_rest_of_the_spec_cannot_be_read(world):
    world.step()
    world.kuberay_says(1, "Running", "RUNNING")
    world.step(1)
    world.body["spec"]["cluster"] = {"suspend": True, "imagee": "x"}
    assert world.step(2).delete == ("assistant-a01",)
    world.step(3)
    assert world.phase == "Suspended"


def test_a_pod_on_a_node_that_does_not_answer_holds_the_next_attempt_up_for_its_grace_and_two_minutes(world):
    world.step()
    world.kuberay_says(1, "Failed", "FAILED", reason="AppFailed", message="node lost")
    world.step(1)
    lost = pod(leaving=True)
    observed = Observed(world.body, {}, pods=[lost], leaving={"pod-1": 170.0})
    assert reconcile(observed, SETTINGS, after(180)).apply == ()
    assert reconcile(replace(observed, leaving={"pod-1": 181.0}), SETTINGS, after(190)).apply
