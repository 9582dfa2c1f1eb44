"""A job that starts from another's model waits for it, and says so; circles and failures too."""

from datetime import timedelta

import pytest

from raytrain.operator.line import turn_of
from raytrain.operator.parent import find_parent
from raytrain.operator.reconcile import reconcile
from raytrain.operator.settings import Settings
from raytrain.operator.snapshot import Observed
from raytrain.operator.status import status_patch
from raytrain.operator.timestamps import format_time
from tests.support.finetunejob_objects import NOW, finetunejob

SETTINGS = Settings.model_validate({"maxRunningJobs": {"inAll": 1}})


def child(model="run://base", **job):
    return finetunejob(name="child", model=model, **job)


def decided(body, *others):
    by_name = {other["metadata"]["name"]: other for other in others}
    found = Observed(body, pods=(), parent=find_parent(body, by_name.get))
    return reconcile(found, SETTINGS, NOW)


def base(phase, message=""):
    return finetunejob(name="base", status={"phase": phase, "message": message})


@pytest.mark.parametrize("phase", ["Pending", "Queued", "Training", "Suspended", "Rejected", "Waiting"])
def test_a_child_waits_while_its_parent_is_not_complete(phase):
    decision = decided(child(), base(phase))
    assert not decision.starts
    assert decision.status["phase"] == "Waiting"
    assert decision.status["message"] == f"waits for base, whose model it starts from: it is {phase}"
    assert [event.reason for event in decision.events] == ["Waiting"]


def test_it_begins_once_its_parent_is_complete_or_is_no_job_here():
    waiting = decided(child(), base("Training"))
    body = child(status=status_patch(child(), waiting.status))
    assert decided(body, base("Complete")).starts
    assert decided(child()).starts  # the run is taken from storage


def test_a_new_job_waits_a_moment_for_a_parent_that_is_applied_after_it():
    body = child()
    body["metadata"]["creationTimestamp"] = format_time(NOW - timedelta(seconds=5))
    alone = decided(body)
    assert not alone.starts
    assert (alone.status["phase"], alone.wake_after) == ("Pending", 10)
    assert alone.status["message"] == "looks whether a job base is created too, whose model it starts from"
    body["status"] = status_patch(body, alone.status)
    assert decided(body, base("Pending")).status["phase"] == "Waiting"
    body["metadata"]["creationTimestamp"] = format_time(NOW - timedelta(seconds=15))
    assert decided(body).starts  # there is none: the run is taken from storage


@pytest.mark.parametrize(
    ("others", "reason", "told"),
    [
        ([base("Failed", "out of disk")], "ParentFailed", "ended as Failed: out of disk; this one begins once"),
        ([base("Cancelled")], "ParentFailed", "ended as Cancelled"),
        ([], "ParentDeleted", "was deleted before it was seen to be complete"),
    ],
)
def test_a_parent_that_will_not_be_complete_is_told_once_and_costs_no_attempt(others, reason, told):
    waiting = decided(child(), base("Training"))
    body = child(status=status_patch(child(), waiting.status))
    decision = decided(body, *others)
    assert (decision.status["phase"], decision.status["attempts"]) == ("Waiting", [])
    assert told in decision.status["message"]
    assert [event.reason for event in decision.events] == [reason]
    assert decision.events[0].warning
    again = decided(child(status={**body["status"], **status_patch(body, decision.status)}), *others)
    assert again.events == ()


def test_a_circle_is_named():
    first, second = (
        child(model="run://base"),
        finetunejob(name="base", model="run://child", status={"phase": "Waiting"}),
    )
    decision = decided(first, second, first)
    assert decision.status["message"] == "waits for itself: child → base → child; give one of them another model"


def test_a_job_may_not_start_from_itself():
    decision = decided(child(model="run://child"))
    assert decision.status["phase"] == "Rejected"
    assert "spec.model: run://child is this run itself" in decision.status["message"]


def test_a_job_that_waits_for_its_parent_holds_nobody_up_in_line():
    waiting = child(status={"phase": "Waiting"})
    waiting["metadata"]["creationTimestamp"] = "2026-11-23T10:00:00Z"
    other = finetunejob(name="other")
    other["metadata"]["creationTimestamp"] = "2026-11-23T11:00:00Z"
    assert turn_of(("team", "other"), [waiting, other], SETTINGS, NOW) is None


def test_a_run_that_has_begun_needs_its_parent_no_longer():
    attempt = {"number": 1, "rayJob": "child-a01", "outcome": "Failed", "exitCode": 4, "ended": "2026-11-23T11:00:00Z"}
    assert decided(child(status={"phase": "Retrying", "attempts": [attempt]}), base("Failed")).starts
