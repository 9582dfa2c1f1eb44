"""Whose turn it is: the oldest first, limits per namespace and in all, queue systems left alone."""

from raytrain.operator.line import turn_of
from raytrain.operator.settings import Settings
from tests.support.finetunejob_objects import NOW, finetunejob

ONE = Settings.model_validate({"maxRunningJobs": {"inAll": 1}})
ONE_EACH = Settings.model_validate({"maxRunningJobs": {"perNamespace": 1}})
ACCEPTED = [{"type": "Accepted", "status": "True", "lastTransitionTime": "", "reason": "Valid", "message": ""}]


def job(name, minute=0, *, namespace="team", outcome=None, phase="Pending", labels=None, cluster=None, **status):
    body = finetunejob(name=name, cluster=cluster or {})
    body["metadata"] |= {
        "namespace": namespace,
        "creationTimestamp": f"2026-11-23T11:{minute:02d}:00Z",
        "labels": labels,
    }
    attempts = (
        [{"number": 1, "rayJob": f"{name}-a01", "outcome": outcome, **status.pop("attempt", {})}] if outcome else []
    )
    return body | {"status": {"phase": phase, "attempts": attempts, "conditions": ACCEPTED, **status}}


def turn(name, jobs, settings=ONE, namespace="team", **options):
    found = turn_of((namespace, name), jobs, settings, NOW, **options)
    return found and (found.place, found.of)


def test_without_a_limit_every_job_begins():
    jobs = [job("a", outcome="Running"), job("b", 1), job("c", 2)]
    assert turn("c", jobs, Settings()) is None


def test_the_oldest_begins_first_whoever_asks_first():
    jobs = [job("young", 2), job("old", 0), job("middle", 1)]
    assert [turn(name, jobs) for name in ("old", "middle", "young")] == [None, (2, 3), (3, 3)]
    running = [job("running", 9, outcome="Running"), *jobs]
    assert [turn(name, running) for name in ("old", "middle", "young")] == [(1, 3), (2, 3), (3, 3)]


def test_a_job_whose_pods_are_not_gone_keeps_its_turn_and_one_that_has_ended_or_is_suspended_does_not():
    for phase, held in (("Suspending", True), ("Retrying", True), ("Suspended", False), ("Complete", False)):
        outcome = "Succeeded" if phase == "Complete" else "Suspended"
        jobs = [
            job("first", 0, outcome=outcome, phase=phase, cluster={"suspend": phase.startswith("Suspend")}),
            job("second", 1),
        ]
        assert turn("second", jobs) == ((1, 1) if held else None), phase


def test_limits_of_namespaces_are_apart():
    jobs = [job("a", 0, outcome="Running"), job("b", 1), job("c", 2, namespace="other")]
    assert turn("b", jobs, ONE_EACH) == (1, 2)
    assert turn("c", jobs, ONE_EACH, namespace="other") is None


def test_jobs_with_a_queue_are_neither_limited_nor_counted():
    for labels, cluster in (
        ({"kueue.x-k8s.io/queue-name": "q"}, {}),
        (None, {"queue": "q"}),
        ({"volcano.sh/queue-name": "q"}, {}),
    ):
        there = {"queue_systems": ("kueue", "volcano")}
        queued = job("queued", 0, outcome="Running", labels=labels, cluster=cluster)
        assert turn("plain", [queued, job("plain", 1)], **there) is None
        assert turn("queued", [job("plain", outcome="Running"), queued | {"status": {}}], **there) is None
        assert turn("plain", [queued, job("plain", 1)], queue_systems=()) == (1, 1)
        assert turn("queued", [job("plain", outcome="Running"), queued | {"status": {}}], queue_systems=()) == (1, 1)


def test_a_label_that_rayjobs_do_not_get_is_no_way_around_the_line():
    labelled = job("labelled", 1, labels={"ray.io/scheduler-name": "volcano"})
    assert turn("labelled", [job("plain", outcome="Running"), labelled]) == (1, 1)


def test_a_job_that_a_limit_of_its_namespace_holds_back_does_not_hold_up_other_namespaces():
    gave_back = job("gave-back", 0, attempt={"released": 1}, outcome="Released", phase="Queued")
    jobs = [gave_back, job("running", 1, outcome="Running"), job("next", 2, namespace="other")]
    assert turn("gave-back", jobs, ONE_EACH) == (1, 2)
    assert turn("next", jobs, ONE_EACH, namespace="other") is None


def test_a_job_that_is_refused_or_waits_for_its_next_try_holds_nobody_up():
    refused = job("refused", 0, conditions=[ACCEPTED[0] | {"status": "False"}])
    early = job("early", 1, notBefore="2026-11-23T12:05:00Z")
    suspended = job("suspended", 2, phase="Suspended", cluster={"suspend": True})
    leaving = job("leaving", 3)
    leaving["metadata"]["deletionTimestamp"] = "2026-11-23T11:59:00Z"
    assert turn("next", [refused, early, suspended, leaving, job("next", 4)]) is None


def test_a_rayjob_that_the_status_does_not_know_yet_is_counted():
    jobs = [job("begun", 0), job("next", 1)]
    assert turn("next", jobs, begun={("team", "begun")}) == (1, 1)


def test_where_there_is_no_room_for_all_jobs_begin_one_at_a_time_without_any_limit():
    """Otherwise each would hold its head and driver, and none would get its workers."""
    gave_back = {"attempt": {"released": 1}, "outcome": "Released", "phase": "Queued"}
    jobs = [job("first", 0, **gave_back), job("second", 1, **gave_back), job("new", 2)]
    assert [turn(name, jobs, Settings()) for name in ("first", "second", "new")] == [None, (2, 3), (3, 3)]
    short = {"kind": "capacity", "reason": "Unschedulable", "message": "no room", "since": ""}
    starting = [job("first", 0, outcome="Running", attempt={"obstacle": short}), *jobs[1:]]
    assert turn("second", starting, Settings()) == (1, 2)
    running = [job("first", 0, outcome="Running"), *jobs[1:]]
    assert turn("second", running, Settings()) is None


def test_a_run_that_goes_on_with_fewer_workers_does_not_close_the_line():
    obstacle = {"kind": "capacity", "reason": "Unschedulable", "message": "no room", "since": "2026-11-23T11:30:00Z"}
    waiting = job("waiting", 1, attempt={"released": 1}, outcome="Released", phase="Queued")
    for updated, place in (("2026-11-23T11:29:00Z", (1, 1)), ("2026-11-23T11:45:00Z", None)):
        progress = {"attempt": 1, "phase": "Training", "updated": updated}
        elastic = job("elastic", 0, outcome="Running", attempt={"obstacle": obstacle}, progress=progress)
        assert turn("waiting", [elastic, waiting], Settings()) == place
