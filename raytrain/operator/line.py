"""Whose turn it is: a plain limit of running jobs, the oldest first.

Not a scheduler: nothing is measured or preempted. Jobs with a queue of Kueue, Volcano or YuniKorn
are neither limited nor counted, because their line is that queue's; a queue whose system is not
there does not count.

A second rule holds without any limit. A job that gave its pods back, because too few of them had
started, shows that the cluster is crowded; from then on, jobs begin one at a time, and the next
begins when no other lacks room. Else jobs that hold a part of what they need could starve each
other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from raytrain.config.job_status import AttemptStatus, Status
from raytrain.operator.settings import MaxRunningJobs, Settings
from raytrain.operator.snapshot import Turn, has_queue, is_suspended, read_status
from raytrain.operator.status import ENDED_PHASES
from raytrain.operator.timestamps import parse_time, readable

Object = Mapping[str, Any]
Key = tuple[str, str]
_GOES_ON = timedelta(minutes=2)
"""A run that has reported progress this long after an obstacle was seen does without those pods."""
_LEAVING_PHASES = ("Suspending", "Cancelling", "Retrying")


@dataclass(frozen=True, slots=True)
class _Member:
    """A job, as far as the line is concerned."""

    key: Key
    created: str
    holds: bool
    """Whether it has pods, or will have them soon."""
    waits: bool
    """Whether it could begin at once if it had its turn."""
    released: bool
    """Whether it has given pods back because too few had started."""
    short: bool
    """Whether it lacks room for its pods."""


def turn_of(
    key: Key,
    bodies: Iterable[Object],
    settings: Settings,
    now: datetime,
    *,
    begun: Collection[Key] = (),
    queue_systems: Collection[str] = ("kueue",),
) -> Turn | None:
    """The place in line of a job that wants to begin, None if it may begin now.

    `bodies` are all FineTuneJobs, this one too; `begun` are jobs that have a RayJob at work, even
    if their status does not say so yet. `queue_systems` are those that are there.
    """
    known = (_member(body, now, begun) for body in bodies if _counts(body, queue_systems))
    members = sorted(known, key=lambda m: (m.created, m.key))
    own = next((member for member in members if member.key == key), None)
    if own is None:
        return None
    others = [member for member in members if member.key != key]
    waiting = [member for member in members if member.waits or member.key == key]
    limits = settings.max_running_jobs
    first = [m for m in waiting if m.key != key and _full(m.key, members, waiting, limits) is None]
    reason = _full(key, members, waiting, limits) or _crowded(own, first, others)
    return None if reason is None else Turn(waiting.index(own) + 1, len(waiting), reason)


def _full(key: Key, members: list[_Member], waiting: list[_Member], limits: MaxRunningJobs) -> str | None:
    """Why there is no turn left for the job once older ones took theirs; None if there is one."""
    if limits.in_all is None and limits.per_namespace is None:
        return None
    running = [member for member in members if member.holds and member.key != key]
    total, spaces = len(running), Counter(member.key[0] for member in running)
    for member in waiting:
        namespace = member.key[0]
        in_all = limits.in_all is not None and total >= limits.in_all
        in_namespace = limits.per_namespace is not None and spaces[namespace] >= limits.per_namespace
        if member.key == key:
            if in_namespace:
                return (
                    f"at most {limits.per_namespace} jobs of this namespace run at once (maxRunningJobs.perNamespace)"
                )
            return f"at most {limits.in_all} jobs run at once (maxRunningJobs.inAll)" if in_all else None
        if not in_all and not in_namespace:  # an older one that begins next
            total, spaces[namespace] = total + 1, spaces[namespace] + 1
    return None


def _crowded(own: _Member, first: list[_Member], others: list[_Member]) -> str | None:
    """Why the job waits for room; `first` are others that wait, and that no limit holds back."""
    older_waits = any(m.released and (m.created, m.key) < (own.created, own.key) for m in first)
    if not own.released and not older_waits:
        return None
    if older_waits:
        return "there is no room for all jobs, and an older one begins first"
    short = next((m for m in others if m.short), None)
    return f"there is no room for all jobs, and {'/'.join(short.key)} lacks some too" if short else None


def _counts(body: Object, queue_systems: Collection[str]) -> bool:
    return not has_queue(body, queue_systems) and not body["metadata"].get("deletionTimestamp")


def holds_turn(body: Object) -> bool:
    """Whether the job has its turn: an attempt goes on, or its pods are not seen to be gone yet."""
    status = read_status(body)
    newest = status.attempts[-1] if status.attempts else None
    if newest is None or status.phase in ENDED_PHASES:
        return False
    return newest.outcome == "Running" or status.phase in _LEAVING_PHASES


def _member(body: Object, now: datetime, begun: Collection[Key]) -> _Member:
    status, metadata = read_status(body), body["metadata"]
    newest = status.attempts[-1] if status.attempts else None
    alive = newest is not None and newest.outcome == "Running"
    key, ended = (str(metadata["namespace"]), str(metadata["name"])), status.phase in ENDED_PHASES
    holds = holds_turn(body) or (not ended and key in begun)
    return _Member(
        key=key,
        created=str(metadata.get("creationTimestamp") or ""),
        holds=holds,
        waits=not ended and not holds and not is_suspended(body) and _is_ready_to_begin(status, now),
        released=bool(newest and newest.released),
        short=newest is not None and alive and _is_short(status, newest),
    )


def _is_short(status: Status, attempt: AttemptStatus) -> bool:
    """Whether room is lacking; not if the run goes on all the same, as an elastic one may."""
    obstacle, progress = attempt.obstacle, status.progress
    if obstacle is None or obstacle.kind != "capacity":
        return False
    reported = readable(progress.updated) if progress is not None and progress.attempt == attempt.number else None
    since = readable(obstacle.since)
    goes_on = reported and since and parse_time(reported) - parse_time(since) > _GOES_ON
    return not goes_on


def _is_ready_to_begin(status: Status, now: datetime) -> bool:
    """Not one that is refused, waits for its parent or its next try: it would hold up others."""
    refused = any(c.type == "Accepted" and c.status == "False" for c in status.conditions)
    early = status.not_before is not None and parse_time(status.not_before) > now
    return not refused and not early and status.phase != "Waiting"
