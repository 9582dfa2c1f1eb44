"""The operator as one pure function: an object and what surrounds it → actions, status, events.

It is called again after every change and answers the same question the same way, so a restart, a
lost event or a second operator does no harm. An attempt begins when its RayJob is created, the last
of its objects; it ends when KubeRay says so, when its RayJob is gone, or when it cannot or must not
go on. The next one begins when nothing is left of it. An effect that the API server refuses is
decided again, until it is seen to be done: the phase says what is, not what was asked.

`_next_state` is the state machine. `snapshot` holds what it reads, `attempt_end` judges attempts,
`status` and `conditions` write down the answer.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from raytrain.config.job import FineTuneJob
from raytrain.config.job_status import AttemptStatus, Status
from raytrain.operator.actions import Decision, NextState, Object
from raytrain.operator.admission import Refusal
from raytrain.operator.attempt_end import count, ended_attempt, permanent_failure, seconds_until_next
from raytrain.operator.conditions import NEVER_FITS, WORKING_PHASES
from raytrain.operator.obstacles import find_obstacle, seen_since
from raytrain.operator.parent import wait_for_parent
from raytrain.operator.ray_job_status import RayJobStatus, ray_job_status
from raytrain.operator.render import names, supporting_objects
from raytrain.operator.render.attempt import Attempt
from raytrain.operator.render.rayjob import ray_job
from raytrain.operator.serving import Serving, decide_serving
from raytrain.operator.settings import Settings
from raytrain.operator.snapshot import Observed, Snapshot, cluster_of, read_status, take_snapshot
from raytrain.operator.status import ENDED_PHASES, build_status, events_between, is_waiting, used_in_the_end
from raytrain.operator.timestamps import format_time, is_duration, parse_duration, seconds_between

MAX_ATTEMPTS = 99
KUBERAY_SECONDS = 30.0
"""How often to check whether KubeRay has been installed."""
TRY_AGAIN_SECONDS = 15.0
"""When to try again after the API server refused something that may pass, such as a quota."""
LOOK_SECONDS = 15.0
"""How often to look at pods of which some are missing."""
LEAVING_SECONDS = 3.0
"""How often to look whether pods that stop are gone."""
FIT_SECONDS = 60.0
"""How often to look whether there is a node or a quota that a job fits into."""
LINE_SECONDS = 60.0
"""How often a job in line asks for its turn, in case it was not told."""


def reconcile(observed: Observed, settings: Settings, now: datetime) -> Decision:
    """Decides what happens to one object; does nothing itself."""
    if observed.body["metadata"].get("deletionTimestamp"):
        return Decision()
    old = read_status(observed.body)
    if old.phase in ENDED_PHASES:
        return _clean_up(observed, old, settings, now)
    snapshot = take_snapshot(observed, settings, now, old)
    state = _next_state(snapshot)
    if state.look:
        return Decision(look=True)
    state = _waited_too_long(snapshot, state) or state
    status = build_status(snapshot, state)
    if used := used_in_the_end(status):
        status["message"] = f"{status['message']}; {used}"[:4096]
    return Decision(
        apply=state.apply,
        delete=state.delete,
        status=status,
        events=tuple(events_between(old, status)),
        wake_after=state.wake_after or (TRY_AGAIN_SECONDS if state.delete else None),
    )


def _clean_up(observed: Observed, old: Status, settings: Settings, now: datetime) -> Decision:
    """After the job's end: deletes RayJobs still at work, and after `ttl` the object itself."""
    working = {name: body for name, body in observed.ray_jobs.items() if not ray_job_status(body).ended}
    delete = tuple(name for name, body in working.items() if not ray_job_status(body).leaving)
    done = Decision(delete=delete, status=_seen(observed, old), wake_after=TRY_AGAIN_SECONDS if delete else None)
    if old.phase == "Complete":
        serving = decide_serving(observed, old, settings)
        if serving != Serving() or old.serving is not None:
            done = _with_serving(done, serving, again=observed.apply_error is not None)
    ttl = cluster_of(observed.body).get("ttl")
    if not is_duration(ttl) or not old.completion_time:
        return done
    left = parse_duration(ttl).total_seconds() - seconds_between(old.completion_time, now)
    if left <= 0:
        return replace(done, delete_self=True, wake_after=TRY_AGAIN_SECONDS)
    return replace(done, wake_after=min(left, done.wake_after or left))


def _with_serving(done: Decision, serving: Serving, *, again: bool) -> Decision:
    told = serving.status.model_dump(mode="json", by_alias=True) if serving.status is not None else None
    return replace(
        done,
        apply=serving.apply,
        delete_service=serving.delete,
        status={**done.status, "serving": told},
        events=serving.events,
        wake_after=TRY_AGAIN_SECONDS if again or serving.delete else done.wake_after,
    )


def _seen(observed: Observed, old: Status) -> dict[str, Any]:
    """An edit of an ended job changes nothing, and is seen: the status refers to it from now on."""
    if old.observed_generation == observed.generation:
        return {}
    seen = {"observedGeneration": observed.generation}
    conditions = [c.model_dump(mode="json", by_alias=True, exclude_none=True) | seen for c in old.conditions]
    return {**seen, "conditions": conditions}


def _next_state(snapshot: Snapshot) -> NextState:
    """The state machine: before the first attempt, during an attempt, after an attempt."""
    newest = snapshot.newest
    if newest is None:
        if snapshot.cancelled:
            state = NextState("Cancelled", "Cancelled", "cancelled before the first attempt", ())
            return _leave(snapshot, "Cancelling", ()) or state
        return _start_attempt(snapshot, ())
    if newest.outcome != "Running":
        return _after_attempt(snapshot, snapshot.attempts)
    current = snapshot.current
    if current is not None and current.lacks_pods and not current.ended and snapshot.observed.pods is None:
        return NextState("", "", "", (), look=True)
    newest = _with_obstacle(snapshot, newest)
    attempts = (*snapshot.attempts[:-1], newest)
    ended = ended_attempt(snapshot, newest)
    if ended is not None:
        return _after_attempt(snapshot, (*snapshot.attempts[:-1], ended))
    assert current is not None
    return _during_attempt(snapshot, current, attempts)


def _with_obstacle(snapshot: Snapshot, attempt: AttemptStatus) -> AttemptStatus:
    """The attempt with what is in its pods' way now; at its end, the last obstacle stays."""
    current = snapshot.current
    if current is None or current.ended:
        return attempt
    observed, found = snapshot.observed, None
    if current.lacks_pods:
        found = find_obstacle([current.cluster_status], observed.pods or (), observed.pod_events)
    found = seen_since(found, attempt.obstacle, snapshot.time) if found is not None else None
    return attempt.model_copy(update={"obstacle": found})


def _during_attempt(snapshot: Snapshot, current: RayJobStatus, attempts: tuple[AttemptStatus, ...]) -> NextState:
    """During an attempt the phase is the run's own; until the run reports, the Ray cluster's."""
    obstacle = attempts[-1].obstacle
    wake = LOOK_SECONDS if current.lacks_pods and current.state != "Queued" else None
    if current.leaving:
        message = f"RayJob {attempts[-1].ray_job} is being deleted"
        return NextState("Retrying", "Stopping", message, attempts, wake_after=LOOK_SECONDS)
    if current.state == "Queued":
        problem = snapshot.observed.queue_problem
        if problem is not None:
            return NextState("Queued", problem.reason, problem.message, attempts, wake_after=LINE_SECONDS)
        return NextState("Queued", "Queued", current.message, attempts)
    if current.state != "Running":
        reason = obstacle.reason if obstacle else "ClusterStarting"
        return NextState(
            "Pending", reason, obstacle.message if obstacle else current.message, attempts, wake_after=wake
        )
    phase, message = _run_phase(snapshot, attempts[-1].number)
    if obstacle is not None:
        message = f"{obstacle.message}; {message or phase}"
    reason = phase if phase != "Pending" else obstacle.reason if obstacle else "Starting"
    return NextState(phase, reason, message, attempts, wake_after=wake)


def _run_phase(snapshot: Snapshot, number: int) -> tuple[str, str]:
    """The run's own phase and message, if it has reported in this attempt."""
    progress = snapshot.old.progress
    if progress is not None and progress.attempt == number:
        if progress.phase in WORKING_PHASES:
            return progress.phase, progress.message
        if progress.phase == "Complete":  # KubeRay has not seen yet that the driver has ended
            return "Reporting", "the report is written"
    return "Pending", "the run is starting"


def _after_attempt(snapshot: Snapshot, attempts: tuple[AttemptStatus, ...]) -> NextState:
    """An attempt has ended: the job is complete, cancelled or failed, or is tried again."""
    last = attempts[-1]
    if last.outcome == "Succeeded":
        return NextState("Complete", "Complete", _completion_message(snapshot), attempts)
    if last.outcome == "Cancelled" or snapshot.cancelled:
        state = NextState("Cancelled", "Cancelled", last.message or "cancelled on request", attempts)
        return _leave(snapshot, "Cancelling", attempts) or state
    if last.outcome == "Failed" and (reason := permanent_failure(last)):
        return NextState("Failed", reason, last.message, attempts, delete=snapshot.to_delete(attempts, ended=False))
    return _exhausted(snapshot, attempts) or _start_attempt(snapshot, attempts)


def _exhausted(snapshot: Snapshot, attempts: tuple[AttemptStatus, ...]) -> NextState | None:
    """The end of a job that has used up a limit, which the message names."""
    last, retry = attempts[-1], snapshot.settings.retry
    failures, interruptions = count(attempts, "Failed"), count(attempts, "Interrupted")
    cause = f"the last one: {last.reason}: {last.message}"
    if failures > snapshot.cluster.retries:
        reason = "RetriesExhausted"
        message = (
            f"{failures} of {len(attempts)} attempts failed (cluster.retries: {snapshot.cluster.retries}); {cause}"
        )
    elif interruptions > retry.max_interruptions:
        reason = "InterruptionsExhausted"
        message = f"interrupted {interruptions} times (retry.maxInterruptions: {retry.max_interruptions}); {cause}"
    elif len(attempts) >= MAX_ATTEMPTS and last.outcome != "Released":
        reason = "AttemptsExhausted"
        message = f"{len(attempts)} attempts, of which {failures} failed and {interruptions} were interrupted; {cause}"
    else:
        return None
    return NextState("Failed", reason, message, attempts, delete=snapshot.to_delete(attempts, ended=False))


def _leave(snapshot: Snapshot, phase: str, attempts: tuple[AttemptStatus, ...]) -> NextState | None:
    """Deletes what is left of earlier attempts, and waits until it is gone; None if nothing is."""
    if snapshot.observed.pods is None:
        return NextState("", "", "", (), look=True)
    if (remains := snapshot.remains) is None:
        return None
    error = snapshot.observed.apply_error
    told = f"attempt {attempts[-1].number}: {attempts[-1].message}; " if attempts else ""
    refusal = f"; the API server refuses: {error.message}" if error else ""
    wake = TRY_AGAIN_SECONDS if error else LEAVING_SECONDS
    delete = snapshot.to_delete(attempts, ended=True)
    message = f"{told}waiting until {remains} is gone{refusal}"
    return NextState(phase, "Stopping", message, attempts, delete=delete, wake_after=wake)


def _start_attempt(snapshot: Snapshot, attempts: tuple[AttemptStatus, ...]) -> NextState:
    """Starts the next attempt, unless something is in the way."""
    if snapshot.suspended:
        message = "suspended; set cluster.suspend to false to resume"
        return _leave(snapshot, "Suspending", attempts) or NextState("Suspended", "Suspended", message, attempts)
    if snapshot.refused is not None or snapshot.job is None:
        refused = snapshot.refused or Refusal("InvalidSpec", "the job cannot be read")
        return replace(_refuse(refused, attempts), delete=snapshot.to_delete(attempts, ended=True))
    waits = None if attempts else wait_for_parent(snapshot)
    obstruction = (
        waits
        or _never_fits(snapshot, attempts)
        or _in_line(snapshot, attempts)
        or _leave(snapshot, _leaving_phase(attempts), attempts)
        or _back_off(snapshot, attempts)
        or _refused_effect(snapshot, attempts)
    )
    return obstruction or _create_attempt(snapshot, snapshot.job, attempts)


def _leaving_phase(attempts: tuple[AttemptStatus, ...]) -> str:
    if not attempts:
        return "Pending"  # an earlier job of the same name
    return "Queued" if attempts[-1].outcome == "Released" else "Retrying"


def _never_fits(snapshot: Snapshot, attempts: tuple[AttemptStatus, ...]) -> NextState | None:
    """A job that is too large for every node or a quota does not begin, and holds nobody up."""
    if not (misfit := snapshot.observed.misfit):
        return None
    message = f"the job cannot start here: {misfit}; it starts on its own once there is more, or it requests less"
    state = NextState("Pending", NEVER_FITS, message, attempts, wake_after=FIT_SECONDS)
    return replace(state, delete=snapshot.to_delete(attempts, ended=True))


def _in_line(snapshot: Snapshot, attempts: tuple[AttemptStatus, ...]) -> NextState | None:
    turn = snapshot.observed.turn
    if turn is None:
        return None
    message = f"place {turn.place} of {turn.of} in line: {turn.reason}; the job starts on its own"
    state = NextState("Queued", "WaitingForTurn", message, attempts, wake_after=LINE_SECONDS, place=turn.place)
    return replace(state, delete=snapshot.to_delete(attempts, ended=True))


def _refused_effect(snapshot: Snapshot, attempts: tuple[AttemptStatus, ...]) -> NextState | None:
    error = snapshot.observed.apply_error
    if error is None:
        return None
    return NextState("Pending", error.reason, error.message, attempts, wake_after=TRY_AGAIN_SECONDS)


def _back_off(snapshot: Snapshot, attempts: tuple[AttemptStatus, ...]) -> NextState | None:
    seconds = seconds_until_next(attempts, snapshot.settings.retry, snapshot)
    if seconds <= 0:
        return None
    last = attempts[-1]
    time = format_time(snapshot.now + timedelta(seconds=seconds))
    verb = {"Failed": "failed", "Released": "waits"}.get(last.outcome, "was interrupted")
    message = f"attempt {last.number} {verb} ({last.reason}: {last.message}); the next start is not before {time}"
    phase = "Queued" if last.outcome == "Released" else "Retrying"
    return NextState(phase, last.reason, message, attempts, wake_after=seconds, not_before=time)


def _waited_too_long(snapshot: Snapshot, state: NextState) -> NextState | None:
    """The end of a job that has waited for longer than it said it would."""
    limit, since = snapshot.cluster.max_wait, snapshot.old.waiting_since
    if limit is None or since is None or not is_waiting(snapshot, state):
        return None
    left = parse_duration(limit).total_seconds() - seconds_between(since, snapshot.now)
    if left > 0:
        return replace(state, wake_after=min(left, state.wake_after or left))
    attempts = state.attempts
    if attempts and attempts[-1].outcome == "Running":
        changes = {"outcome": "Failed", "reason": "WaitedTooLong", "message": state.message, "ended": snapshot.time}
        attempts = (*attempts[:-1], attempts[-1].model_copy(update=changes))
    delete = snapshot.to_delete(attempts, ended=False)
    message = f"waited for longer than cluster.maxWait: {limit}; {state.message}"
    return NextState("Failed", "WaitedTooLong", message, attempts, delete=delete)


def _refuse(refused: Refusal, attempts: tuple[AttemptStatus, ...]) -> NextState:
    """Without KubeRay a job waits; any other refusal lasts until job or settings change."""
    if refused.reason == "KubeRayMissing":
        return NextState("Pending", refused.reason, refused.message, attempts, wake_after=KUBERAY_SECONDS)
    return NextState("Rejected", refused.reason, refused.message, attempts)


def _create_attempt(snapshot: Snapshot, job: FineTuneJob, attempts: tuple[AttemptStatus, ...]) -> NextState:
    """The next attempt; one that gave its pods back begins again under the same number."""
    last = attempts[-1] if attempts else None
    again = last is not None and last.outcome == "Released"
    number = (last.number if again else last.number + 1) if last else 1
    attempt = AttemptStatus(
        number=number,
        ray_job=names.ray_job_name(job.metadata.name, number),
        started=snapshot.time,
        generation=snapshot.observed.generation,
        released=last.released if last and again else None,
    )
    return NextState(
        "Pending",
        "ClusterStarting",
        f"attempt {number} begins: the Ray cluster is starting",
        (*(attempts[:-1] if again else attempts), attempt),
        apply=_attempt_objects(snapshot, job, number),
    )


def _attempt_objects(snapshot: Snapshot, job: FineTuneJob, number: int) -> tuple[Object, ...]:
    """The objects of an attempt; the RayJob last, because its existence is the attempt's."""
    body = snapshot.observed.body
    attempt = Attempt(
        job,
        snapshot.settings.runs,
        number,
        namespace=str(body["metadata"]["namespace"]),
        owner=names.owner_of(body),
        tenant=snapshot.observed.tenant,
        kueue="kueue" in snapshot.observed.queue_systems,
        annotations=names.annotations_passed_on(job.metadata.annotations, snapshot.settings.policy.allowed_annotations),
    )
    policies = [supporting_objects.network_policy(attempt)] if attempt.runs.network_policy else []
    return (
        *supporting_objects.accounts(attempt),
        *policies,
        supporting_objects.job_config_map(attempt),
        ray_job(attempt),
    )


def _completion_message(snapshot: Snapshot) -> str:
    result = snapshot.old.result
    return f"report: {result.report}" if result is not None and result.report else "the report is written"
