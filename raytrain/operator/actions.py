"""What `reconcile` answers: the next state of a job, and what the controller has to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raytrain.config.job_status import AttemptStatus

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NextState:
    """The state machine's answer: the phase, its reason and message, and the actions to take."""

    phase: str
    reason: str
    message: str
    attempts: tuple[AttemptStatus, ...]
    apply: tuple[Object, ...] = ()
    delete: tuple[str, ...] = ()
    wake_after: float | None = None
    place: int | None = None
    """Place in the line of jobs that wait for a turn."""
    not_before: str | None = None
    """When the next start may be tried."""
    look: bool = False
    """Whether the answer depends on pods that were not looked at: look, and ask again."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the object, for `kubectl describe`."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What the controller does."""

    apply: tuple[Object, ...] = ()
    """Objects to create or update, in this order."""
    delete: tuple[str, ...] = ()
    """Names of RayJobs to delete."""
    delete_service: bool = False
    """Whether to delete the RayService."""
    delete_self: bool = False
    """Whether to delete the FineTuneJob itself."""
    status: Mapping[str, Any] = field(default_factory=dict)
    """The operator's part of the status, complete; keys with None are removed."""
    events: tuple[Event, ...] = ()
    wake_after: float | None = None
    """Seconds after which the answer changes even if nothing else does."""
    look: bool = False
    """Whether to look at the job's pods and ask again; nothing else is to be done then."""

    @property
    def starts(self) -> bool:
        """Whether an attempt begins."""
        return any(made["kind"] == "RayJob" for made in self.apply)
