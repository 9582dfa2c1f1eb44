"""The operator's part of an object's status, and the events that a change of status brings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from raytrain.config.job_status import Status, Usage
from raytrain.operator.actions import Event, NextState, Object
from raytrain.operator.conditions import PARENT_PROBLEMS, WORKING_PHASES, conditions
from raytrain.operator.render.attempt import Attempt
from raytrain.operator.snapshot import Snapshot
from raytrain.operator.usage import comparison, estimate_of, gpus_held, next_usage

ENDED_PHASES = ("Complete", "Failed", "Cancelled")
QUEUE_PROBLEMS = ("QueueIgnored", "LocalQueueMissing", "LocalQueueInactive")
_STOPPED_PHASES = ("Suspended", "Suspending", "Cancelling", "Retrying")


def build_status(snapshot: Snapshot, state: NextState) -> dict[str, Any]:
    """The operator's part of the status, complete: unchanged fields too."""
    newest = state.attempts[-1] if state.attempts else None
    ended = state.phase in ENDED_PHASES
    same_attempt = newest is not None and snapshot.newest is not None and newest.number == snapshot.newest.number
    current = snapshot.current if same_attempt else None
    working = current if not ended and state.phase not in _STOPPED_PHASES else None
    return {
        "observedGeneration": snapshot.observed.generation,
        "phase": state.phase,
        "message": state.message[:4096],
        "conditions": conditions(snapshot, state),
        "attempts": [a.model_dump(mode="json", by_alias=True, exclude_none=True) for a in state.attempts],
        "place": state.place,
        "notBefore": state.not_before,
        "waitingSince": _waiting_since(snapshot, state),
        "storage": _place(snapshot),
        "workers": working.workers if working is not None else "",
        "rayCluster": current.cluster if current is not None else None,
        "dashboard": working.dashboard if working is not None else None,
        "usage": _usage(snapshot, state),
        "startTime": (state.attempts[0].started or None) if state.attempts else None,
        "completionTime": (newest.ended if newest else None) or snapshot.time if ended else None,
    }


def _usage(snapshot: Snapshot, state: NextState) -> dict[str, Any] | None:
    newest = state.attempts[-1] if state.attempts else None
    alive = newest is not None and newest.outcome == "Running"
    same = newest is not None and snapshot.newest is not None and newest.ray_job == snapshot.newest.ray_job
    progress = snapshot.old.progress
    found = next_usage(
        snapshot.old.usage,
        snapshot.now,
        gpus=gpus_held(snapshot.job, snapshot.current if alive and same else None),
        waiting=is_waiting(snapshot, state),
        attempt=newest,
        checkpointed=progress.checkpointed if progress is not None else "",
        estimate=estimate_of(snapshot.observed.body["metadata"].get("annotations")),
        price=snapshot.observed.gpu_price,
    )
    return None if found is None else found.model_dump(mode="json", by_alias=True, exclude_none=True)


def used_in_the_end(status: Mapping[str, Any]) -> str:
    """Actual against estimate, once the job has ended."""
    usage = status["usage"] if status["phase"] in ENDED_PHASES else None
    return comparison(Usage.model_validate(usage)) if usage else ""


def _waiting_since(snapshot: Snapshot, state: NextState) -> str | None:
    """Since when the job waits; a try that found no room does not begin the wait anew."""
    if state.phase not in ("Queued", "Pending"):
        return None
    return snapshot.old.waiting_since or (snapshot.time if is_waiting(snapshot, state) else None)


def is_waiting(snapshot: Snapshot, state: NextState) -> bool:
    """Whether the job waits for its turn, room or quota; not if its pods are starting."""
    if state.phase != "Pending":
        return state.phase == "Queued"
    obstacle = state.attempts[-1].obstacle if state.attempts else None
    error = snapshot.observed.apply_error
    quota = error is not None and "exceeded quota" in error.message
    return quota or bool(snapshot.observed.misfit) or (obstacle is not None and obstacle.kind == "capacity")


def _place(snapshot: Snapshot) -> str:
    """Where the run is stored; what was told before stays while the job cannot be read."""
    job = snapshot.job
    if job is None:
        return snapshot.old.storage
    return Attempt(job, snapshot.settings.runs, namespace=job.metadata.namespace, owner={}).place or ""


def status_patch(body: Object, status: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch from the object's status to the desired one; empty if nothing differs."""
    old = body.get("status") or {}
    return {key: value for key, value in status.items() if old.get(key) != value and (value or key in old)}


def events_between(old: Status, status: Mapping[str, Any]) -> Iterator[Event]:
    """Yields events: attempts that started or ended, a new phase, a new obstacle, a lost worker."""
    yield from _attempt_events(old, status)
    phase, message = status["phase"], status["message"]
    if phase == "Rejected" and phase != old.phase:
        yield Event(phase, f"{_reason(status, 'Accepted')}: {message}", warning=True)
    elif phase != old.phase and phase not in ("Pending", "Retrying"):
        yield Event(phase, message or phase, warning=phase == "Failed")
    yield from _queue_events(old, status)
    yield from _parent_events(old, status)
    accepted = any(c["type"] == "Accepted" and c["status"] == "True" for c in status["conditions"])
    known_reasons = {condition.reason for condition in old.conditions}
    if phase == "Pending" and not accepted and (reason := _reason(status, "Accepted")) not in known_reasons:
        yield Event(reason, message, warning=True)
    if phase == old.phase and phase in WORKING_PHASES and _lost(old.workers, status["workers"]):
        yield Event("WorkerLost", f"a pod of the Ray cluster was lost: {status['workers']} are ready", warning=True)


def _queue_events(old: Status, status: Mapping[str, Any]) -> Iterator[Event]:
    """A queue without effect, or one that admits nothing: told once."""
    before = {condition.type: condition.reason for condition in old.conditions}
    for condition in status["conditions"]:
        kind, reason = condition["type"], condition["reason"]
        if kind in ("Accepted", "Suspended") and reason in QUEUE_PROBLEMS and before.get(kind) != reason:
            yield Event(reason, condition["message"], warning=True)


def _parent_events(old: Status, status: Mapping[str, Any]) -> Iterator[Event]:
    """A parent that will not be complete by itself: told once."""
    before = next((c.reason for c in old.conditions if c.type == "Progressing"), "")
    reason = _reason(status, "Progressing")
    if reason in PARENT_PROBLEMS and reason != before:
        yield Event(reason, status["message"], warning=True)


def _lost(before: str, after: str) -> bool:
    """Whether fewer pods are ready than before and than desired, although no fewer are desired."""
    (had, wanted), (has, wants) = (
        [int(n) if n.isdigit() else 0 for n in (*text.split("/"), "", "")[:2]] for text in (before, after)
    )
    return has < min(had, wanted) and wants >= wanted


def _attempt_events(old: Status, status: Mapping[str, Any]) -> Iterator[Event]:
    known = {attempt.number: attempt for attempt in old.attempts}
    for attempt in status["attempts"]:
        number, outcome = attempt["number"], attempt["outcome"]
        before = known.get(number)
        if before is None:
            yield Event("AttemptStarted", f"attempt {number} started: RayJob {attempt['rayJob']}")
        obstacle, seen = attempt.get("obstacle"), before.obstacle if before is not None else None
        if outcome == "Running" and obstacle and (seen is None or seen.reason != obstacle["reason"]):
            yield Event(obstacle["reason"], f"attempt {number}: {obstacle['message']}", warning=True)
        if outcome in ("Failed", "Interrupted", "Released") and (before is None or before.outcome == "Running"):
            message = f"attempt {number} ended: {attempt.get('reason')}: {attempt.get('message')}"
            yield Event(f"Attempt{outcome}", message, warning=outcome != "Interrupted")


def _reason(status: Mapping[str, Any], kind: str) -> str:
    return next(str(c["reason"]) for c in status["conditions"] if c["type"] == kind)
