"""The operator as one pure function: an object and what is observed → what is to be made and removed, status, events.

It is called again after every change and gives the same answer to the same question, so a restart,
a lost event or a second operator does no harm. An attempt is begun by making its RayJob, last of
all its parts; it is over when KubeRay says so, or when its RayJob is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from raytrain.config.job import ClusterSpec, FineTuneJob
from raytrain.config.job_status import CONDITIONS, AttemptStatus, Outcome, Status
from raytrain.operator.admission import MAX_JOB_BYTES, Refusal, refusal
from raytrain.operator.render import names
from raytrain.operator.render import supporting_objects as companions
from raytrain.operator.render.attempt import Attempt
from raytrain.operator.render.kuberay import Seen, seen
from raytrain.operator.render.rayjob import ray_job
from raytrain.operator.settings import Settings
from raytrain_core.config.loader import ConfigError, from_mapping

Object = Mapping[str, Any]

MOST_ATTEMPTS = 99
KUBERAY_SECONDS = 30.0
"""How often it is looked whether KubeRay has been installed."""
TRY_AGAIN_SECONDS = 15.0
"""After the API server refused something that may pass, e.g. a quota."""

USER_ERRORS = {2: "UsageError", 3: "DataError", 6: "TrainingError"}
"""Exit codes that another attempt would meet again."""
_INTERRUPTED = 130
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PREPARED = ("ScoringBefore", "Training", "ScoringAfter", "Reporting", "Complete")
_USUAL = ("ClusterStarting", "Starting")
"""Reasons to be pending that everyone sees."""
_WORKING = (*_PREPARED[:-1], "Preparing")


@dataclass(frozen=True, slots=True)
class Observed:
    """The object as the API server has it, its RayJobs by name, and what surrounds them."""

    body: Object
    ray_jobs: Mapping[str, Object] = field(default_factory=dict)
    kuberay: bool = True
    trouble: Refusal | None = None
    """What the API server said when this decision's objects were applied a moment ago."""

    @property
    def name(self) -> str:
        """Name of the object."""
        return str(self.body["metadata"]["name"])


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the object, for `kubectl describe`."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows."""

    apply: tuple[Object, ...] = ()
    """Objects to be made, in this order."""
    delete: tuple[str, ...] = ()
    """RayJobs to be removed."""
    delete_self: bool = False
    status: Mapping[str, Any] = field(default_factory=dict)
    """The operator's part of the status, whole; keys with None are to be removed."""
    events: tuple[Event, ...] = ()
    wake_after: float | None = None
    """Seconds after which time alone changes the answer."""


@dataclass(frozen=True, slots=True)
class _View:
    """Everything the decision is drawn from, read once."""

    observed: Observed
    settings: Settings
    now: datetime
    old: Status
    job: FineTuneJob | None
    refused: Refusal | None
    attempts: tuple[AttemptStatus, ...]
    current: Seen | None
    """The newest attempt's RayJob, None where there is none."""

    @property
    def time(self) -> str:
        return _text(self.now)

    @property
    def newest(self) -> AttemptStatus | None:
        return self.attempts[-1] if self.attempts else None

    @property
    def cluster(self) -> ClusterSpec:
        return (self.job.spec.cluster if self.job else None) or ClusterSpec()

    @property
    def cancelled(self) -> bool:
        notes = self.observed.body["metadata"].get("annotations") or {}
        return str(notes.get(names.CANCEL_ANNOTATION, "")).lower() == "true"

    @property
    def leftovers(self) -> bool:
        """Whether an attempt that should be over still has a RayJob at work: the next one waits for it."""
        ended = {attempt.ray_job for attempt in self.attempts if attempt.outcome != "Running"}
        return any(name in ended and not seen(found).over for name, found in self.observed.ray_jobs.items())


@dataclass(frozen=True, slots=True)
class _Verdict:
    """Phase, reason and words, and what is to be done."""

    phase: str
    reason: str
    message: str
    attempts: tuple[AttemptStatus, ...]
    apply: tuple[Object, ...] = ()
    delete: tuple[str, ...] = ()
    wake_after: float | None = None


def reconcile(observed: Observed, settings: Settings, now: datetime) -> Decision:
    """What is to be done about one object; nothing of it is done here."""
    if observed.body["metadata"].get("deletionTimestamp"):
        return Decision()
    old = _old_status(observed.body)
    if old.phase in ("Complete", "Failed", "Cancelled"):
        return _at_rest(observed, old, now)
    view = _view(observed, settings, now, old)
    verdict = _verdict(view)
    status = _status(view, verdict)
    return Decision(
        apply=verdict.apply,
        delete=verdict.delete,
        status=status,
        events=tuple(_events(old, status)),
        wake_after=verdict.wake_after,
    )


def _at_rest(observed: Observed, old: Status, now: datetime) -> Decision:
    """It has ended: its status stands, RayJobs that still work are removed, and after its time the object itself."""
    working = tuple(name for name, found in observed.ray_jobs.items() if not seen(found).over)
    spec = observed.body.get("spec") or {}
    ttl = (spec.get("cluster") or {}).get("ttl")
    if not ttl or not old.completion_time:
        return Decision(delete=working)
    left = (_time(old.completion_time) + _duration(ttl) - now).total_seconds()
    return Decision(delete=working, delete_self=left <= 0, wake_after=max(left, 0.0) or None)


def _view(observed: Observed, settings: Settings, now: datetime, old: Status) -> _View:
    job, refused = _read_job(observed, settings)
    attempts = _adopted(observed, old.attempts, now)
    newest = attempts[-1] if attempts else None
    found = observed.ray_jobs.get(newest.ray_job) if newest else None
    return _View(observed, settings, now, old, job, refused, attempts, seen(found) if found is not None else None)


def _read_job(observed: Observed, settings: Settings) -> tuple[FineTuneJob | None, Refusal | None]:
    body = observed.body
    metadata = {key: body["metadata"][key] for key in ("name", "namespace") if key in body["metadata"]}
    content = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata, "spec": body.get("spec")}
    try:
        job = from_mapping(content, FineTuneJob, name="job")
    except ConfigError as error:
        lines = [line.removeprefix("job: ") for line in error.lines]
        return None, Refusal("InvalidSpec", "; ".join(lines)[:4000])
    if refused := refusal(job, settings):
        return job, refused
    if len(job.model_dump_json(by_alias=True, exclude_unset=True)) > MAX_JOB_BYTES:
        return job, Refusal("SpecTooLarge", f"the job is larger than {MAX_JOB_BYTES:,} bytes")
    if not observed.kuberay:
        return job, Refusal(
            "KubeRayMissing",
            "the cluster has no RayJobs: install KubeRay 1.6 or newer "
            "(helm install kuberay-operator kuberay/kuberay-operator); the job starts by itself then",
        )
    return job, None


def _adopted(observed: Observed, known: Iterable[AttemptStatus], now: datetime) -> tuple[AttemptStatus, ...]:
    """Attempts as the status has them, and those that were begun but not yet written down."""
    attempts = {attempt.number: attempt for attempt in known}
    for name, found in observed.ray_jobs.items():
        number = names.attempt_of(name)
        if number is not None and number not in attempts and name == names.ray_job_name(observed.name, number):
            made = found["metadata"].get("creationTimestamp") or _text(now)
            attempts[number] = AttemptStatus(number=number, ray_job=name, started=made)
    return tuple(attempts[number] for number in sorted(attempts))


def _verdict(view: _View) -> _Verdict:
    """The state machine: where the job stands, and the one thing that comes next."""
    newest = view.newest
    if newest is None:
        if view.cancelled:
            return _Verdict("Cancelled", "Cancelled", "cancelled before it began", ())
        return _next_attempt(view, ())
    if newest.outcome == "Running":
        ended = _ended(view, newest)
        if ended is None:
            return _under_way(view)
        attempts = (*view.attempts[:-1], ended)
        remove = (ended.ray_job,) if view.current is not None and not view.current.over else ()
        return replace(_after(view, attempts), delete=remove)
    return _after(view, view.attempts)


def _ended(view: _View, attempt: AttemptStatus) -> AttemptStatus | None:
    """The attempt with its outcome, None while it goes on."""
    found, result = view.current, view.old.result
    told = result if result is not None and result.attempt == attempt.number else None
    asked = _asked(view)
    if found is None:
        end = asked or ("Failed", "RayJobDeleted", f"RayJob {attempt.ray_job} was deleted")
    elif found.state == "Succeeded":
        end = ("Succeeded", "Complete", "the report is written")
    elif found.state == "Failed" and told is not None and told.exit_code:
        end = ("Interrupted" if told.exit_code == _INTERRUPTED else "Failed", told.reason, told.message)
    elif found.state == "Failed":
        end = ("Failed", found.reason, found.message)
    elif asked is not None:
        end = asked
    elif found.state == "Stopped":
        end = ("Cancelled", found.reason, found.message)
    else:
        return None
    outcome, reason, message = end
    changes = {
        "outcome": outcome,
        "reason": reason,
        "message": message[:1024],
        "exit_code": told.exit_code if told is not None else None,
        "ended": (found.ended if found else None) or view.time,
    }
    return attempt.model_copy(update=changes)


def _asked(view: _View) -> tuple[Outcome, str, str] | None:
    """How an attempt ends because someone wants it to."""
    if view.cancelled:
        return "Cancelled", "Cancelled", "cancelled on request"
    if view.cluster.suspend:
        return "Suspended", "Suspended", "suspended on request"
    return None


def _under_way(view: _View) -> _Verdict:
    found, progress, newest = view.current, view.old.progress, view.newest
    assert found is not None
    assert newest is not None
    if found.state == "Queued":
        return _Verdict("Queued", "Queued", found.message, view.attempts)
    own = progress if progress is not None and progress.attempt == newest.number else None
    if found.state == "Running" and own is not None and own.phase in _WORKING:
        return _Verdict(own.phase, own.phase, own.message, view.attempts)
    if found.state == "Running" and own is not None and own.phase == "Complete":  # KubeRay has not seen it yet
        return _Verdict("Reporting", "Reporting", "the report is written", view.attempts)
    if found.state == "Running":
        return _Verdict("Pending", "Starting", "the run is starting", view.attempts)
    return _Verdict("Pending", found.reason or "ClusterStarting", found.message, view.attempts)


def _after(view: _View, attempts: tuple[AttemptStatus, ...]) -> _Verdict:
    """An attempt has ended: is the job done, given up, at rest, or tried again?"""
    last = attempts[-1]
    if last.outcome == "Succeeded":
        return _Verdict("Complete", "Complete", _done(view), attempts)
    if last.outcome == "Cancelled" or view.cancelled:
        return _Verdict("Cancelled", "Cancelled", last.message or "cancelled on request", attempts)
    if last.outcome == "Failed" and (fatal := _fatal(view, last)):
        return _Verdict("Failed", fatal, last.message, attempts)
    failures = sum(attempt.outcome == "Failed" for attempt in attempts)
    if failures > view.cluster.retries or len(attempts) >= MOST_ATTEMPTS:
        message = f"{failures} of {len(attempts)} attempts failed; at last: {last.reason}: {last.message}"
        return _Verdict("Failed", "RetriesExhausted", message, attempts)
    return _next_attempt(view, attempts)


def _fatal(view: _View, attempt: AttemptStatus) -> str | None:
    """The reason to give up at once, None where another attempt may help."""
    if attempt.exit_code in USER_ERRORS:
        return attempt.reason or USER_ERRORS[attempt.exit_code]
    same = view.current is not None and view.newest is not None and view.newest.number == attempt.number
    if attempt.exit_code is None and same and view.current is not None and not view.current.again:
        return attempt.reason
    return attempt.reason if attempt.reason == "ValidationFailed" else None


def _next_attempt(view: _View, attempts: tuple[AttemptStatus, ...]) -> _Verdict:
    if view.refused is not None or view.job is None:
        refused = view.refused or Refusal("InvalidSpec", "the job cannot be read")
        waits = refused.reason == "KubeRayMissing"
        phase = "Pending" if waits else "Rejected"
        return _Verdict(phase, refused.reason, refused.message, attempts, wake_after=KUBERAY_SECONDS if waits else None)
    if view.cluster.suspend:
        return _Verdict("Suspended", "Suspended", "suspended; cluster.suspend: false resumes it", attempts)
    if (wait := _wait(view, attempts)) > 0:
        last = attempts[-1]
        message = f"attempt {last.number} ended ({last.reason}: {last.message}); the next begins in {wait:.0f} s"
        return _Verdict("Retrying", last.reason, message, attempts, wake_after=wait)
    if view.leftovers:
        message = "waiting until the last attempt's Ray cluster is gone"
        return _Verdict("Retrying", "Stopping", message, attempts, wake_after=TRY_AGAIN_SECONDS)
    if view.observed.trouble is not None:
        trouble = view.observed.trouble
        return _Verdict("Pending", trouble.reason, trouble.message, attempts, wake_after=TRY_AGAIN_SECONDS)
    number = attempts[-1].number + 1 if attempts else 1
    begun = AttemptStatus(number=number, ray_job=names.ray_job_name(view.job.metadata.name, number), started=view.time)
    verb = "resumes from the newest checkpoint" if attempts else "begins"
    return _Verdict(
        "Pending",
        "ClusterStarting",
        f"attempt {number} {verb}: the Ray cluster is starting",
        (*attempts, begun),
        apply=_parts(view, view.job, number),
    )


def _parts(view: _View, job: FineTuneJob, number: int) -> tuple[Object, ...]:
    """Everything an attempt needs; the RayJob last, for it is what the attempt is known by."""
    body = view.observed.body
    attempt = Attempt(job, view.settings.runs, number, str(body["metadata"]["namespace"]), names.owner_of(body))
    policy = [companions.network_policy(attempt)] if attempt.runs.network_policy else []
    return (*companions.accounts(attempt), *policy, companions.job_config_map(attempt), ray_job(attempt))


def _wait(view: _View, attempts: Sequence[AttemptStatus]) -> float:
    """Seconds until the next attempt: after failures the longer, the more there were."""
    if not attempts or attempts[-1].outcome != "Failed":
        return 0.0
    last, retry = attempts[-1], view.settings.retry
    failures = sum(attempt.outcome == "Failed" for attempt in attempts)
    pause = min(retry.first_seconds * 2.0 ** (failures - 1), retry.longest_seconds)
    return (_time(last.ended or view.time) - view.now).total_seconds() + pause


def _done(view: _View) -> str:
    result = view.old.result
    return f"report: {result.report}" if result is not None and result.report else "the report is written"


# The status


def _status(view: _View, verdict: _Verdict) -> dict[str, Any]:
    """The operator's part of the status: what changed and what did not."""
    newest, found = (verdict.attempts[-1] if verdict.attempts else None), view.current
    ended = verdict.phase in ("Complete", "Failed", "Cancelled")
    same = found is not None and newest is not None and view.newest is not None and newest.number == view.newest.number
    resting = ended or verdict.phase in ("Suspended", "Retrying")
    first = verdict.attempts[0].started if verdict.attempts else None
    return {
        "observedGeneration": view.observed.body["metadata"].get("generation"),
        "phase": verdict.phase,
        "message": verdict.message[:4096],
        "conditions": _conditions(view, verdict),
        "attempts": [a.model_dump(mode="json", by_alias=True, exclude_none=True) for a in verdict.attempts],
        "workers": found.workers if same and found is not None and not resting else "",
        "rayCluster": found.cluster if same and found is not None else None,
        "dashboard": found.dashboard if same and found is not None and not resting else None,
        "startTime": first or None,
        "completionTime": (newest.ended if newest else None) or view.time if ended else None,
    }


def _conditions(view: _View, verdict: _Verdict) -> list[dict[str, Any]]:
    old = {condition.type: condition for condition in view.old.conditions}
    generation = view.observed.body["metadata"].get("generation")
    found = []
    for kind, (holds, reason, message) in _judgements(view, verdict).items():
        status = "True" if holds else "False"
        before = old.get(kind)
        since = before.last_transition_time if before is not None and before.status == status else view.time
        found.append(
            {
                "type": kind,
                "status": status,
                "observedGeneration": generation,
                "lastTransitionTime": since,
                "reason": reason,
                "message": message[:4096],
            }
        )
    return found


def _judgements(view: _View, verdict: _Verdict) -> dict[str, tuple[bool, str, str]]:
    """(holds, reason, message) of each condition."""
    phase, old = verdict.phase, {c.type: c for c in view.old.conditions}
    progress, tasks = view.old.progress, view.old.tasks
    prepared = _holds(old, "DataReady") or phase == "Complete" or (progress is not None and progress.phase in _PREPARED)
    evaluated = phase == "Complete" or (bool(tasks) and all(task.after is not None for task in tasks))
    working = phase in _WORKING
    refused, trouble = view.refused, view.observed.trouble
    not_yet = "not yet"
    waiting = (False, verdict.reason, verdict.message)
    if refused is not None:
        accepted = (False, refused.reason, refused.message)
    elif trouble is not None and verdict.reason == trouble.reason:
        accepted = (False, trouble.reason, trouble.message)
    else:
        accepted = (True, "Valid", "the job can run here")
    found = {
        "Accepted": accepted,
        "DataReady": (True, "Prepared", "shards are in storage") if prepared else (False, "NotPrepared", not_yet),
        "Running": (True, phase, verdict.message or phase) if working else waiting,
        "Evaluated": (True, "Scored", "all tasks are scored before and after")
        if evaluated
        else (False, "NotScored", not_yet),
        "Complete": (True, "Complete", verdict.message) if phase == "Complete" else (False, verdict.reason, not_yet),
        "Failed": (True, verdict.reason, verdict.message)
        if phase in ("Failed", "Cancelled")
        else (False, "NotFailed", "no"),
        "Suspended": (True, verdict.reason, verdict.message)
        if phase in ("Suspended", "Queued")
        else (False, "NotSuspended", "no"),
    }
    return {kind: found[kind] for kind in CONDITIONS}


def _holds(conditions: Mapping[str, Any], kind: str) -> bool:
    return kind in conditions and conditions[kind].status == "True"


def _events(old: Status, status: Mapping[str, Any]) -> Iterable[Event]:
    """What happened between two statuses, in plain words."""
    known = {attempt.number: attempt for attempt in old.attempts}
    for attempt in status["attempts"]:
        before = known.get(attempt["number"])
        if before is None:
            yield Event("AttemptStarted", f"attempt {attempt['number']} started: RayJob {attempt['rayJob']}")
        if attempt["outcome"] in ("Failed", "Interrupted") and (before is None or before.outcome == "Running"):
            message = f"attempt {attempt['number']} ended: {attempt.get('reason')}: {attempt.get('message')}"
            yield Event(f"Attempt{attempt['outcome']}", message, warning=attempt["outcome"] == "Failed")
    if status["phase"] != old.phase and status["phase"] not in ("Pending", "Retrying"):
        warning = status["phase"] in ("Failed", "Rejected")
        reason = next(
            (c["reason"] for c in status["conditions"] if c["type"] == "Accepted" and c["status"] == "False"), ""
        )
        message = f"{reason}: {status['message']}" if status["phase"] == "Rejected" else status["message"]
        yield Event(status["phase"], message or status["phase"], warning=warning)
    known_reasons = {*_USUAL, *(condition.reason for condition in old.conditions)}
    if status["phase"] == "Pending" and (reason := _trouble(status) or _reason(status, "Running")) not in known_reasons:
        yield Event(reason, status["message"], warning=True)


def _trouble(status: Mapping[str, Any]) -> str:
    """Why the job is not accepted; empty if it is."""
    holds = any(c["type"] == "Accepted" and c["status"] == "True" for c in status["conditions"])
    return "" if holds else _reason(status, "Accepted")


def _reason(status: Mapping[str, Any], kind: str) -> str:
    return next(str(c["reason"]) for c in status["conditions"] if c["type"] == kind)


def changes(body: Object, status: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch from the status that the object has to the wished one; empty if nothing differs."""
    old = body.get("status") or {}
    return {key: value for key, value in status.items() if old.get(key) != value and (value or key in old)}


def _old_status(body: Object) -> Status:
    """The status as it stands; what cannot be read (another version wrote it) counts as not there."""
    try:
        return Status.model_validate(body.get("status") or {})
    except ValidationError:
        return Status()


def _duration(text: str) -> timedelta:
    return timedelta(seconds=int(text[:-1]) * _UNITS[text[-1]])


def _text(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
