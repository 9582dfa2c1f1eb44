"""A job that starts from the model of another (`model: run://NAME`) begins once that is complete.

The other is a FineTuneJob of the same namespace, which may be created at the same moment. If there
is none, the run is taken from storage, and the attempt says if it is not there either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raytrain.operator.actions import NextState
from raytrain.operator.conditions import PARENT_PROBLEMS
from raytrain.operator.snapshot import Parent, Snapshot, read_status
from raytrain.operator.status import ENDED_PHASES
from raytrain.operator.timestamps import readable, seconds_between

WAITING = "Waiting"
PARENT_SECONDS = 60.0
"""How often a job looks after its parent, in case it was not told."""
GRACE_SECONDS = 15.0
"""How long a new job waits for its parent to appear: files are applied in any order."""
_LONGEST = 50
"""Generations that a circle is looked for in."""


@dataclass(frozen=True, slots=True)
class _Told:
    reason: str
    message: str


def parent_name(body: Mapping[str, Any]) -> str:
    """The run that a job's model comes from; empty if it comes from elsewhere."""
    spec = body.get("spec")
    model = spec.get("model") if isinstance(spec, Mapping) else None
    return model.removeprefix("run://").strip("/") if isinstance(model, str) and model.startswith("run://") else ""


def find_parent(body: Mapping[str, Any], get: Callable[[str], Mapping[str, Any] | None]) -> Parent | None:
    """The parent as it is now, by `get`, which returns a FineTuneJob of the namespace by name.

    None for a job without one.
    """
    name = parent_name(body)
    if not name:
        return None
    found = get(name)
    if found is None:
        return Parent(name, None)
    status = read_status(found)
    return Parent(name, status.phase, status.message, _circle(body, get))


def _circle(body: Mapping[str, Any], get: Callable[[str], Mapping[str, Any] | None]) -> tuple[str, ...]:
    """The names from a job through its parents back to itself; empty if they end."""
    own = str(body["metadata"]["name"])
    path, current = [own], body
    for _ in range(_LONGEST):
        name = parent_name(current)
        if not name:
            return ()
        if name in path:
            return (*path, name) if name == own else ()
        found = get(name)
        if found is None or read_status(found).phase == "Complete":
            return ()
        path, current = [*path, name], found
    return ()


def wait_for_parent(snapshot: Snapshot) -> NextState | None:
    """Why the job does not begin yet; None if it may."""
    parent = snapshot.observed.parent
    if parent is not None and parent.phase is None and (seconds := _seconds_of_grace(snapshot)) > 0:
        message = f"looks whether a job {parent.name} is created too, whose model it starts from"
        return NextState("Pending", "LookingForParent", message, (), wake_after=seconds)
    told = _obstacle(snapshot, parent) if parent is not None else None
    if told is None:
        return None
    return NextState(WAITING, told.reason, told.message, (), wake_after=PARENT_SECONDS)


def _seconds_of_grace(snapshot: Snapshot) -> float:
    """How much longer a new job waits for its parent to appear; at most 0 if it was seen once."""
    created = readable(str(snapshot.observed.body["metadata"].get("creationTimestamp") or ""))
    if created is None or snapshot.old.phase == WAITING:
        return 0.0
    return GRACE_SECONDS - seconds_between(created, snapshot.now)


def _obstacle(snapshot: Snapshot, parent: Parent) -> _Told | None:
    what = f"the job {parent.name}, whose model it starts from"
    failed, deleted, circle = PARENT_PROBLEMS
    if parent.circle:
        return _Told(circle, f"waits for itself: {' → '.join(parent.circle)}; give one of them another model")
    if parent.phase is None:
        if snapshot.old.phase != WAITING:
            return None
        return _Told(
            deleted,
            f"{what}, was deleted before it was seen to be complete: create it again, or apply this job anew if its "
            "model is in storage",
        )
    if parent.phase == "Complete":
        return None
    if parent.phase in ENDED_PHASES:
        ended = f"{what}, ended as {parent.phase}: {parent.message}"
        return _Told(failed, f"{ended}; this one begins once a job of that name is complete")
    return _Told("WaitingForParent", f"waits for {what.removeprefix('the job ')}: it is {parent.phase}")
