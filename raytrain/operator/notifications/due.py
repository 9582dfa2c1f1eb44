"""Which notifications a job's state calls for: a pure function of the object.

They follow from the state, not from its changes, and the ids of those that were sent are in
`status.notified`: so a restarted operator sends what is missing, and repeats at most the one whose
id it could not write down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from raytrain.config.job_status import Status
from raytrain.operator.conditions import WORKING_PHASES
from raytrain.operator.notification_settings import Channel, Kind, Notifications
from raytrain.operator.snapshot import read_status
from raytrain.operator.timestamps import readable, seconds_between

OLD_SECONDS = 3600.0
"""What happened longer ago is not told: somebody has just set up notifications."""
_MOST_IDS = 100


@dataclass(frozen=True, slots=True)
class Notification:
    """Something to tell a channel about a job."""

    id: str
    """The same whenever the same thing is told again: the object's UID, the event, the channel."""
    mark: str
    """What `status.notified` remembers it by."""
    kind: Kind
    channel: Channel
    namespace: str
    job: str
    phase: str
    message: str
    report: str
    time: str
    gpu_hours: float | None = None
    cost: str | None = None


def due(body: Mapping[str, Any], settings: Notifications, now: datetime) -> list[Notification]:
    """What has to be told about the object and was not told yet."""
    status, metadata = read_status(body), body["metadata"]
    found = []
    for channel in settings.channels:
        if not any(fnmatchcase(str(metadata["namespace"]), pattern) for pattern in channel.namespaces):
            continue
        for kind, time, detail in _happened(status, settings, now):
            mark = f"{channel.name}.{kind}{detail}"
            if kind in channel.events and mark not in status.notified:
                found.append(_notification(body, channel, kind, time, mark))
    return found


def remembered(status: Status, mark: str) -> list[str]:
    """`status.notified` with another mark; the oldest are forgotten."""
    return [*status.notified, mark][-_MOST_IDS:]


def _happened(status: Status, settings: Notifications, now: datetime) -> Iterator[tuple[Kind, str, str]]:
    """Yields (kind, time, detail) of what is true of the job now and began a short while ago."""
    started = readable(status.start_time)
    if started and seconds_between(started, now) <= OLD_SECONDS:
        yield "started", started, ""
    ended = readable(status.completion_time)
    if ended and seconds_between(ended, now) <= OLD_SECONDS and status.phase in ("Complete", "Failed"):
        yield ("finished" if status.phase == "Complete" else "failed"), ended, ""
    refused = next((c for c in status.conditions if c.type == "Accepted" and c.status == "False"), None)
    if (
        status.phase == "Rejected"
        and refused
        and seconds_between(_time(refused.last_transition_time), now) < OLD_SECONDS
    ):
        yield "failed", refused.last_transition_time, f"-{status.observed_generation}"
    progress = status.progress
    silent = readable(progress.updated) if progress is not None and status.phase in WORKING_PHASES else None
    if silent and settings.stalled_seconds <= seconds_between(silent, now) <= settings.stalled_seconds + OLD_SECONDS:
        yield "stalled", silent, f"-{silent}"


def _time(text: str) -> str:
    return readable(text) or "2000-01-01T00:00:00Z"


def _notification(body: Mapping[str, Any], channel: Channel, kind: Kind, time: str, mark: str) -> Notification:
    status, metadata = read_status(body), body["metadata"]
    message, usage = status.message, status.usage
    if kind == "stalled":
        message = f"no news from the run since {time}; {message}"
    ended = usage is not None and kind in ("finished", "failed")
    return Notification(
        id=f"{metadata['uid']}.{mark}",
        mark=mark,
        kind=kind,
        channel=channel,
        namespace=str(metadata["namespace"]),
        job=str(metadata["name"]),
        phase=status.phase,
        message=message,
        report=status.result.report if status.result else "",
        time=time,
        gpu_hours=round(usage.gpu_seconds / 3600, 3) if ended and usage else None,
        cost=f"{usage.cost} {usage.currency}" if ended and usage and usage.cost else None,
    )
