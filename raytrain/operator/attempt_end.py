"""How an attempt ended, and what may be tried after it.

The run's own result explains an end better than KubeRay does; without one the attempt was cut off,
and the obstacle that was seen last explains why its pods never started.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from raytrain.config.job_status import AttemptStatus, Obstacle, Outcome
from raytrain.operator.ray_job_status import NOT_STARTED, PERMANENT, RayJobStatus
from raytrain.operator.render.groups import least_pods
from raytrain.operator.settings import Retry
from raytrain.operator.snapshot import Snapshot
from raytrain.operator.timestamps import parse_time, readable, seconds_between

USER_ERRORS = {2: "UsageError", 3: "DataError", 6: "TrainingError"}
"""Exit codes of errors that another attempt would run into again."""
_INTERRUPTED = 130
_SKEW = timedelta(minutes=5)
"""By how much the clock of a run may be ahead of ours."""
_HOPELESS = ("InvalidImageName", "QuotaTooSmall")
"""Obstacles that no patience helps against."""


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt ended, in one word and as a sentence."""

    outcome: Outcome
    reason: str
    message: str


def ended_attempt(snapshot: Snapshot, attempt: AttemptStatus) -> AttemptStatus | None:
    """The attempt with its outcome, None while it goes on. All times are our own clock's."""
    end = _end(snapshot, attempt)
    if end is None:
        return None
    result = snapshot.result
    changes = {
        "outcome": end.outcome,
        "reason": end.reason,
        "message": end.message[:1024],
        "exit_code": result.exit_code if result is not None else None,
        "ended": snapshot.time,
        "released": (attempt.released or 0) + 1 if end.reason == "PodsNotReady" else attempt.released,
    }
    return attempt.model_copy(update=changes)


def _end(snapshot: Snapshot, attempt: AttemptStatus) -> End | None:
    current, result = snapshot.current, snapshot.result
    if result is not None and result.exit_code == 0 and (current is None or current.ended):
        return End("Succeeded", "Complete", "the report is written")  # done is done, whatever became of the RayJob
    if current is None:
        return _requested_end(snapshot) or _deleted(snapshot, attempt)
    if current.state == "Succeeded":
        return End("Succeeded", "Complete", "the report is written")
    if current.state == "Failed":
        return _failed(snapshot, attempt, current)
    stopped = End("Cancelled", current.reason, current.message) if current.state == "Stopped" else None
    return _requested_end(snapshot) or stopped or _blocked(snapshot, attempt, current)


def _requested_end(snapshot: Snapshot) -> End | None:
    """How an attempt ends because a person asked for it."""
    if snapshot.cancelled:
        return End("Cancelled", "Cancelled", "cancelled on request")
    if snapshot.suspended:
        return End("Suspended", "Suspended", "suspended on request")
    return None


def _deleted(snapshot: Snapshot, attempt: AttemptStatus) -> End:
    result = snapshot.result
    if result is not None and result.exit_code in USER_ERRORS:
        return End("Failed", result.reason, result.message)
    return End("Failed", "RayJobDeleted", f"RayJob {attempt.ray_job} was deleted")


def _failed(snapshot: Snapshot, attempt: AttemptStatus, current: RayJobStatus) -> End:
    result, obstacle = snapshot.result, attempt.obstacle
    if result is not None:
        outcome: Outcome = "Interrupted" if result.exit_code == _INTERRUPTED else "Failed"
        return End(outcome, result.reason, result.message)
    if current.reason == NOT_STARTED and obstacle is not None:
        seconds = snapshot.settings.runs.start_deadline_seconds
        if obstacle.kind == "capacity":
            return _released(obstacle, seconds)
        return End("Failed", obstacle.reason, f"the Ray cluster was not ready after {seconds} s: {obstacle.message}")
    return End("Failed", current.reason, current.message)


def _blocked(snapshot: Snapshot, attempt: AttemptStatus, current: RayJobStatus) -> End | None:
    """Ends an attempt that met a mistake, whose job was corrected, or that lacked room too long."""
    obstacle, runs = attempt.obstacle, snapshot.settings.runs
    if obstacle is None or current.state == "Queued":
        return None
    if current.state == "Pending" and _is_corrected(snapshot, attempt):
        return End("Released", "Corrected", f"the job was changed while this was in the way: {obstacle.message}")
    age = seconds_between(obstacle.since or snapshot.time, snapshot.now)
    short = snapshot.job is not None and current.ready < least_pods(snapshot.job.spec.resources)
    if obstacle.kind == "mistake" and (obstacle.reason in _HOPELESS or age >= runs.mistake_seconds):
        # GPU pods are asked for once the driver runs, which cannot know that they will never come.
        stuck = short and _is_silent(snapshot, attempt, runs.mistake_seconds)
        return End("Failed", obstacle.reason, obstacle.message) if current.state == "Pending" or stuck else None
    stuck = short and age >= runs.pods_ready_seconds and _is_silent(snapshot, attempt, runs.pods_ready_seconds)
    if obstacle.kind == "capacity" and stuck and not snapshot.queued_elsewhere:
        return _released(obstacle, runs.pods_ready_seconds)
    return None


def _is_silent(snapshot: Snapshot, attempt: AttemptStatus, seconds: int) -> bool:
    """Whether the run has reported nothing new for so long.

    A run that goes on is not stuck, however few pods it has: those that only preparation or scoring
    needed are given back while it trains. The report has the time of the run's clock.
    """
    progress = snapshot.old.progress
    time = readable(progress.updated) if progress is not None and progress.attempt == attempt.number else None
    if time is None or parse_time(time) > snapshot.now + _SKEW:
        return True
    return seconds_between(time, snapshot.now) >= seconds


def _is_corrected(snapshot: Snapshot, attempt: AttemptStatus) -> bool:
    """Whether the spec has changed since the attempt began, and can run."""
    began, now = attempt.generation, snapshot.observed.generation
    return snapshot.refused is None and began is not None and now is not None and now > began


def _released(obstacle: Obstacle, seconds: int) -> End:
    message = f"gave its pods back, because too few of them had started after {seconds} s: {obstacle.message}"
    return End("Released", "PodsNotReady", message)


def permanent_failure(attempt: AttemptStatus) -> str | None:
    """The reason to give up at once, None where another attempt may help."""
    if attempt.exit_code in USER_ERRORS:
        return attempt.reason or USER_ERRORS[attempt.exit_code]
    obstacle = attempt.obstacle
    mistaken = obstacle is not None and obstacle.kind == "mistake" and obstacle.reason == attempt.reason
    hopeless = attempt.exit_code is None and (attempt.reason in PERMANENT or mistaken)
    return attempt.reason if hopeless else None


def count(attempts: Sequence[AttemptStatus], outcome: Outcome) -> int:
    """How many attempts have this outcome."""
    return sum(attempt.outcome == outcome for attempt in attempts)


def seconds_until_next(attempts: Sequence[AttemptStatus], retry: Retry, snapshot: Snapshot) -> float:
    """How long the next attempt has to wait.

    The wait doubles with each failure, with each interruption that followed soon after a start, and
    with each time that the pods were given back, up to a limit.
    """
    last = attempts[-1] if attempts else None
    times = _times(attempts, retry) if last is not None else 0
    if last is None or not times:
        return 0.0
    wait = min(retry.first_seconds * 2.0 ** min(times - 1, 30), retry.longest_seconds)
    return min(wait - seconds_between(last.ended or snapshot.time, snapshot.now), wait)


def _times(attempts: Sequence[AttemptStatus], retry: Retry) -> int:
    last = attempts[-1]
    if last.outcome == "Failed":
        return count(attempts, "Failed")
    if last.outcome == "Released":
        return (last.released or 0) if last.reason == "PodsNotReady" else 0
    if last.outcome != "Interrupted":
        return 0
    times = 0
    for attempt in reversed(attempts):
        if attempt.outcome != "Interrupted" or _seconds(attempt) >= retry.longest_seconds:
            break
        times += 1
    return times


def _seconds(attempt: AttemptStatus) -> float:
    """How long an attempt took."""
    if not attempt.started or not attempt.ended:
        return 0.0
    return (parse_time(attempt.ended) - parse_time(attempt.started)).total_seconds()
