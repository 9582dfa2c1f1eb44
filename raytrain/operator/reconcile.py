"""The operator as one pure function: an object and what surrounds it → actions, status, events.

It is called again after every change and answers the same question the same way, so a restart, a
lost event or a second operator does no harm. An attempt begins when its RayJob is created, the last
of its objects; it ends when KubeRay says so, or when its RayJob is gone.

`_next_state` is the state machine. `snapshot` holds what it reads, `status` and `conditions` write
down its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from raytrain.config.job import FineTuneJob
from raytrain.config.job_status import AttemptStatus, Outcome, Status
from raytrain.operator.actions import Decision, NextState, Object
from raytrain.operator.admission import Refusal
from raytrain.operator.conditions import WORKING_PHASES
from raytrain.operator.ray_job_status import ray_job_status
from raytrain.operator.render import names, supporting_objects
from raytrain.operator.render.attempt import Attempt
from raytrain.operator.render.rayjob import ray_job
from raytrain.operator.settings import Settings
from raytrain.operator.snapshot import Observed, Snapshot, read_status, take_snapshot
from raytrain.operator.status import ENDED_PHASES, build_status, events_between
from raytrain.operator.timestamps import parse_duration, parse_time

MAX_ATTEMPTS = 99
KUBERAY_SECONDS = 30.0
"""How often to check whether KubeRay has been installed."""
TRY_AGAIN_SECONDS = 15.0
"""When to try again after the API server refused something that may pass, such as a quota."""

USER_ERRORS = {2: "UsageError", 3: "DataError", 6: "TrainingError"}
"""Exit codes of errors that another attempt would run into again."""
_INTERRUPTED = 130


def reconcile(observed: Observed, settings: Settings, now: datetime) -> Decision:
    """Decides what happens to one object; does nothing itself."""
    if observed.body["metadata"].get("deletionTimestamp"):
        return Decision()
    old = read_status(observed.body)
    if old.phase in ENDED_PHASES:
        return _clean_up(observed, old, now)
    snapshot = take_snapshot(observed, settings, now, old)
    state = _next_state(snapshot)
    status = build_status(snapshot, state)
    return Decision(
        apply=state.apply,
        delete=state.delete,
        status=status,
        events=tuple(events_between(old, status)),
        wake_after=state.wake_after,
    )


def _clean_up(observed: Observed, old: Status, now: datetime) -> Decision:
    """After the job's end: deletes RayJobs still at work, and after `ttl` the object itself."""
    working = tuple(name for name, body in observed.ray_jobs.items() if not ray_job_status(body).ended)
    ttl = ((observed.body.get("spec") or {}).get("cluster") or {}).get("ttl")
    if not ttl or not old.completion_time:
        return Decision(delete=working)
    left = (parse_time(old.completion_time) + parse_duration(ttl) - now).total_seconds()
    return Decision(delete=working, delete_self=left <= 0, wake_after=max(left, 0.0) or None)


def _next_state(snapshot: Snapshot) -> NextState:
    """The state machine: before the first attempt, during an attempt, after an attempt."""
    newest = snapshot.newest
    if newest is None:
        if snapshot.cancelled:
            return NextState("Cancelled", "Cancelled", "cancelled before the first attempt", ())
        return _start_attempt(snapshot, ())
    if newest.outcome != "Running":
        return _after_attempt(snapshot, snapshot.attempts)
    ended = _ended_attempt(snapshot, newest)
    if ended is None:
        return _during_attempt(snapshot, newest)
    attempts = (*snapshot.attempts[:-1], ended)
    remove = (ended.ray_job,) if snapshot.current is not None and not snapshot.current.ended else ()
    return replace(_after_attempt(snapshot, attempts), delete=remove)


def _during_attempt(snapshot: Snapshot, newest: AttemptStatus) -> NextState:
    """During an attempt the phase is the run's own; until the run reports, the Ray cluster's."""
    current, progress = snapshot.current, snapshot.old.progress
    assert current is not None
    if current.state == "Queued":
        return NextState("Queued", "Queued", current.message, snapshot.attempts)
    if current.state != "Running":
        return NextState("Pending", current.reason or "ClusterStarting", current.message, snapshot.attempts)
    if progress is not None and progress.attempt == newest.number:
        if progress.phase in WORKING_PHASES:
            return NextState(progress.phase, progress.phase, progress.message, snapshot.attempts)
        if progress.phase == "Complete":  # KubeRay has not seen yet that the driver has ended
            return NextState("Reporting", "Reporting", "the report is written", snapshot.attempts)
    return NextState("Pending", "Starting", "the run is starting", snapshot.attempts)


def _ended_attempt(snapshot: Snapshot, attempt: AttemptStatus) -> AttemptStatus | None:
    """The attempt with its outcome, None while it goes on."""
    end = _attempt_outcome(snapshot, attempt)
    if end is None:
        return None
    outcome, reason, message = end
    result, current = snapshot.old.result, snapshot.current
    changes = {
        "outcome": outcome,
        "reason": reason,
        "message": message[:1024],
        "exit_code": result.exit_code if result is not None and result.attempt == attempt.number else None,
        "ended": (current.end_time if current else None) or snapshot.time,
    }
    return attempt.model_copy(update=changes)


def _attempt_outcome(snapshot: Snapshot, attempt: AttemptStatus) -> tuple[Outcome, str, str] | None:
    """(outcome, reason, message) of an attempt that has ended, None while it goes on.

    The run's own result explains a failure better than KubeRay does; without one it was cut off.
    """
    current, result, requested = snapshot.current, snapshot.old.result, _requested_end(snapshot)
    if current is None:
        return requested or ("Failed", "RayJobDeleted", f"RayJob {attempt.ray_job} was deleted")
    if current.state == "Succeeded":
        return "Succeeded", "Complete", "the report is written"
    if current.state == "Failed":
        if result is None or result.attempt != attempt.number or not result.exit_code:
            return "Failed", current.reason, current.message
        interrupted = result.exit_code == _INTERRUPTED
        return "Interrupted" if interrupted else "Failed", result.reason, result.message
    if requested is None and current.state == "Stopped":
        return "Cancelled", current.reason, current.message
    return requested


def _requested_end(snapshot: Snapshot) -> tuple[Outcome, str, str] | None:
    """How an attempt ends because a person asked for it."""
    if snapshot.cancelled:
        return "Cancelled", "Cancelled", "cancelled on request"
    if snapshot.cluster.suspend:
        return "Suspended", "Suspended", "suspended on request"
    return None


def _after_attempt(snapshot: Snapshot, attempts: tuple[AttemptStatus, ...]) -> NextState:
    """An attempt has ended: the job is complete, cancelled or failed, or is tried again."""
    last = attempts[-1]
    if last.outcome == "Succeeded":
        return NextState("Complete", "Complete", _completion_message(snapshot), attempts)
    if last.outcome == "Cancelled" or snapshot.cancelled:
        return NextState("Cancelled", "Cancelled", last.message or "cancelled on request", attempts)
    if last.outcome == "Failed" and (reason := _permanent_failure(snapshot, last)):
        return NextState("Failed", reason, last.message, attempts)
    failures = _count_failures(attempts)
    if failures > snapshot.cluster.retries or len(attempts) >= MAX_ATTEMPTS:
        message = f"{failures} of {len(attempts)} attempts failed; the last one: {last.reason}: {last.message}"
        return NextState("Failed", "RetriesExhausted", message, attempts)
    return _start_attempt(snapshot, attempts)


def _permanent_failure(snapshot: Snapshot, attempt: AttemptStatus) -> str | None:
    """The reason to give up at once, None where another attempt may help."""
    if attempt.exit_code in USER_ERRORS:
        return attempt.reason or USER_ERRORS[attempt.exit_code]
    current, newest = snapshot.current, snapshot.newest
    just_ended = current is not None and newest is not None and newest.number == attempt.number
    if attempt.exit_code is None and just_ended and current is not None and not current.retryable:
        return attempt.reason
    return attempt.reason if attempt.reason == "ValidationFailed" else None


def _start_attempt(snapshot: Snapshot, attempts: tuple[AttemptStatus, ...]) -> NextState:
    """Starts the next attempt, unless something is in the way."""
    if snapshot.refused is not None or snapshot.job is None:
        return _refuse(snapshot.refused or Refusal("InvalidSpec", "the job cannot be read"), attempts)
    if snapshot.cluster.suspend:
        message = "suspended; set cluster.suspend to false to resume"
        return NextState("Suspended", "Suspended", message, attempts)
    if (seconds := _seconds_until_retry(snapshot, attempts)) > 0:
        last = attempts[-1]
        message = f"attempt {last.number} failed ({last.reason}: {last.message}); the next begins in {seconds:.0f} s"
        return NextState("Retrying", last.reason, message, attempts, wake_after=seconds)
    if snapshot.has_leftovers:
        message = "waiting until the previous attempt's Ray cluster is gone"
        return NextState("Retrying", "Stopping", message, attempts, wake_after=TRY_AGAIN_SECONDS)
    if (error := snapshot.observed.apply_error) is not None:
        return NextState("Pending", error.reason, error.message, attempts, wake_after=TRY_AGAIN_SECONDS)
    return _create_attempt(snapshot, snapshot.job, attempts)


def _refuse(refused: Refusal, attempts: tuple[AttemptStatus, ...]) -> NextState:
    """Without KubeRay a job waits; any other refusal lasts until job or settings change."""
    if refused.reason == "KubeRayMissing":
        return NextState("Pending", refused.reason, refused.message, attempts, wake_after=KUBERAY_SECONDS)
    return NextState("Rejected", refused.reason, refused.message, attempts)


def _create_attempt(snapshot: Snapshot, job: FineTuneJob, attempts: tuple[AttemptStatus, ...]) -> NextState:
    number = attempts[-1].number + 1 if attempts else 1
    name = names.ray_job_name(job.metadata.name, number)
    verb = "resumes from the newest checkpoint" if attempts else "begins"
    return NextState(
        "Pending",
        "ClusterStarting",
        f"attempt {number} {verb}: the Ray cluster is starting",
        (*attempts, AttemptStatus(number=number, ray_job=name, started=snapshot.time)),
        apply=_attempt_objects(snapshot, job, number),
    )


def _attempt_objects(snapshot: Snapshot, job: FineTuneJob, number: int) -> tuple[Object, ...]:
    """The objects of an attempt; the RayJob last, because its existence is the attempt's."""
    body = snapshot.observed.body
    attempt = Attempt(job, snapshot.settings.runs, number, str(body["metadata"]["namespace"]), names.owner_of(body))
    policies = [supporting_objects.network_policy(attempt)] if attempt.runs.network_policy else []
    return (
        *supporting_objects.accounts(attempt),
        *policies,
        supporting_objects.job_config_map(attempt),
        ray_job(attempt),
    )


def _seconds_until_retry(snapshot: Snapshot, attempts: Sequence[AttemptStatus]) -> float:
    """The wait doubles with each failure, up to a limit; otherwise there is none."""
    if not attempts or attempts[-1].outcome != "Failed":
        return 0.0
    retry = snapshot.settings.retry
    wait = min(retry.first_seconds * 2.0 ** (_count_failures(attempts) - 1), retry.longest_seconds)
    ended = parse_time(attempts[-1].ended or snapshot.time)
    return (ended - snapshot.now).total_seconds() + wait


def _count_failures(attempts: Sequence[AttemptStatus]) -> int:
    return sum(attempt.outcome == "Failed" for attempt in attempts)


def _completion_message(snapshot: Snapshot) -> str:
    result = snapshot.old.result
    return f"report: {result.report}" if result is not None and result.report else "the report is written"
