"""The conditions of a FineTuneJob, derived from its next state.

Three are there by convention: `Ready` and `Stalled` are what kstatus (kubectl, Flux) judges by,
`Progressing` is Deployments'. The others say what the job has reached.
"""

from __future__ import annotations

from typing import Any

from raytrain.config.job_status import CONDITIONS
from raytrain.operator.actions import NextState
from raytrain.operator.render import names
from raytrain.operator.snapshot import Snapshot

PREPARED_PHASES = ("ScoringBefore", "Training", "ScoringAfter", "Reporting", "Complete")
"""Phases of a run that begin once its shards are in storage."""
ENDED_BADLY = ("Failed", "Cancelled", "Rejected")
"""Phases that nothing but a person ends."""
AT_REST = ("Complete", "Suspended")
NEVER_FITS = "NeverFits"
"""Why a job is not accepted that no node or no quota is large enough for."""
PARENT_PROBLEMS = ("ParentFailed", "ParentDeleted", "ModelCircle")
"""Why a job waits for another's model in vain."""
WORKING_PHASES = (*PREPARED_PHASES[:-1], "Preparing")

Condition = tuple[bool, str, str]
"""Whether it holds, the reason, the message."""


def conditions(snapshot: Snapshot, state: NextState) -> list[dict[str, Any]]:
    """Builds the conditions; a transition time changes only together with its status."""
    old = {condition.type: condition for condition in snapshot.old.conditions}
    result = []
    for kind, (holds, reason, message) in decide_conditions(snapshot, state).items():
        status = "True" if holds else "False"
        before = old.get(kind)
        unchanged = before is not None and before.status == status
        result.append(
            {
                "type": kind,
                "status": status,
                "observedGeneration": snapshot.observed.generation,
                "lastTransitionTime": before.last_transition_time if before and unchanged else snapshot.time,
                "reason": reason,
                "message": message[:4096],
            }
        )
    return result


def decide_conditions(snapshot: Snapshot, state: NextState) -> dict[str, Condition]:
    """Decides every condition, in the order of `CONDITIONS`."""
    decided = {
        "Ready": (state.phase == "Complete", state.reason, state.message),
        "Progressing": (state.phase not in (*ENDED_BADLY, *AT_REST), state.reason, state.message),
        "Stalled": (state.phase in ENDED_BADLY, state.reason, state.message),
        "Accepted": _accepted(snapshot, state),
        "PodsReady": _pods_ready(snapshot, state),
        "DataReady": _data_ready(snapshot, state),
        "Running": _running(state),
        "Evaluated": _evaluated(snapshot, state),
        "Complete": _complete(state),
        "Failed": _failed(state),
        "Suspended": _suspended(state),
    }
    return {kind: decided[kind] for kind in CONDITIONS}


def _accepted(snapshot: Snapshot, state: NextState) -> Condition:
    refused, error = snapshot.refused, snapshot.observed.apply_error
    if refused is not None:
        return False, refused.reason, refused.message
    if error is not None and state.reason == error.reason:
        return False, error.reason, error.message
    if state.reason == NEVER_FITS:
        return False, NEVER_FITS, state.message
    if ignored := snapshot.ignored_queue:
        return True, "QueueIgnored", f"the job can run in this cluster, but {ignored}"
    return True, "Valid", f"the job can run in this cluster{_kept_back(snapshot)}"


def _kept_back(snapshot: Snapshot) -> str:
    """The annotations that stay on the object because the policy does not allow them in pods."""
    given = snapshot.job.metadata.annotations if snapshot.job else {}
    allowed = snapshot.settings.policy.allowed_annotations
    kept = [key for key in sorted(given) if not names.is_own(key) and names.is_kept_back(key, allowed)]
    if not kept:
        return ""
    more = f" and {len(kept) - 3} more" if len(kept) > 3 else ""
    return f"; not passed on to its pods (policy.allowedAnnotations): annotation {', '.join(kept[:3])}{more}"


def _pods_ready(snapshot: Snapshot, state: NextState) -> Condition:
    """Whether all wanted pods are ready; else what is in the way, also after an attempt's end."""
    newest = state.attempts[-1] if state.attempts else None
    if newest is not None and newest.obstacle is not None:
        return False, newest.obstacle.reason, newest.obstacle.message
    current = snapshot.current
    same_attempt = newest is not None and snapshot.newest is not None and newest.number == snapshot.newest.number
    if current is None or not same_attempt or state.phase not in (*WORKING_PHASES, "Pending"):
        return False, "NoPods", "the job has no pods now"
    if current.state == "Running" and not current.lacks_pods:
        return True, "PodsReady", "all pods are ready"
    return False, "Starting", "pods are starting"


def _data_ready(snapshot: Snapshot, state: NextState) -> Condition:
    progress = snapshot.old.progress
    stays = any(c.type == "DataReady" and c.status == "True" for c in snapshot.old.conditions)
    if stays or state.phase == "Complete" or (progress is not None and progress.phase in PREPARED_PHASES):
        return True, "Prepared", "the shards are in storage"
    return False, "NotPrepared", "the data has not been prepared yet"


def _running(state: NextState) -> Condition:
    if state.phase in WORKING_PHASES:
        return True, state.phase, state.message or state.phase
    return False, state.reason, state.message


def _evaluated(snapshot: Snapshot, state: NextState) -> Condition:
    tasks = snapshot.old.tasks
    if state.phase == "Complete" or (tasks and all(task.after is not None for task in tasks)):
        return True, "Scored", "all tasks have been scored before and after training"
    return False, "NotScored", "not all tasks have been scored yet"


def _complete(state: NextState) -> Condition:
    if state.phase == "Complete":
        return True, "Complete", state.message
    return False, state.reason, "the job is not complete"


def _failed(state: NextState) -> Condition:
    if state.phase in ("Failed", "Cancelled"):
        return True, state.reason, state.message
    return False, "NotFailed", "the job has not failed"


def _suspended(state: NextState) -> Condition:
    if state.phase in ("Suspended", "Queued"):
        return True, state.reason, state.message
    return False, "NotSuspended", "the job is not suspended"
