"""What a job has used: GPU-seconds, those that were lost, time in line, and what they cost.

The operator hears of pods when KubeRay reports a change, so amounts are summed from change to
change: `since` and `gpus` say what has been counted up to when, and what is held since then. While
nothing changes the status stays as it is, and readers add `gpus` times the time since `since`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from raytrain.config.job import FineTuneJob
from raytrain.config.job_status import AttemptStatus, Usage
from raytrain.operator.prices import PriceRange
from raytrain.operator.ray_job_status import RayJobStatus
from raytrain.operator.render import names
from raytrain.operator.render.groups import CPU_GROUP, GPU_GROUP, groups
from raytrain.operator.timestamps import format_time, parse_time, readable, seconds_between
from raytrain_core.quantities import parse_quantity

_HOUR = 3600.0
_COUNTED_BY_KUBERAY = "gpu"
"""KubeRay sums the resources whose names end like this (`desiredGPU`)."""


def gpus_held(job: FineTuneJob | None, current: RayJobStatus | None) -> float:
    """GPUs of the worker pods that are ready; of missing pods it is assumed that they have GPUs."""
    if job is None or current is None or current.ended or current.state == "Queued" or not current.ready:
        return 0.0
    found = {group.name: group for group in groups(job.spec.resources)}
    gpu = found.get(GPU_GROUP)
    if gpu is None:
        return 0.0
    desired, missing = current.desired or 0, max(0, (current.desired or 0) - current.ready)
    pods = max(0, desired - found[CPU_GROUP].most)  # where KubeRay does not count them: at least these
    if job.spec.resources.training.resource_name.endswith(_COUNTED_BY_KUBERAY):
        pods = _amount(current.cluster_status.get("desiredGPU")) // gpu.gpus
    return float(max(0, min(pods, gpu.most) - missing) * gpu.gpus)


def next_usage(
    old: Usage | None,
    now: datetime,
    *,
    gpus: float,
    waiting: bool,
    attempt: AttemptStatus | None,
    checkpointed: str,
    estimate: Mapping[str, float],
    price: PriceRange | None,
) -> Usage | None:
    """The amounts up to now, if something changed that they depend on; else as they were."""
    if old is None:
        if attempt is None and not waiting:
            return None
        old = Usage(since=format_time(now))
    ended = attempt is not None and attempt.outcome != "Running"
    attempt_key = "" if attempt is None else f"{attempt.number}.{attempt.released or 0}.{attempt.outcome}"
    saved = readable(checkpointed) or ""
    state: dict[str, Any] = {"gpus": gpus, "waiting": waiting, "attempt": attempt_key, "checkpointed": saved}
    if all(getattr(old, key) == value for key, value in state.items()):
        return old
    spent = seconds_between(readable(old.since) or format_time(now), now)
    used = old.gpus * spent
    unsaved = old.unsaved_gpu_seconds + used
    if saved and saved != old.checkpointed:  # at most what was used since; the times are two clocks'
        unsaved = min(unsaved, old.gpus * seconds_between(saved, now))
    lost = unsaved if ended and attempt is not None and attempt.outcome != "Succeeded" else 0.0
    price = price or (None if old.price is None else PriceRange(*old.price, old.currency))
    total = old.gpu_seconds + used
    return Usage(
        since=format_time(now),
        **state,
        gpu_seconds=round(total, 1),
        wasted_gpu_seconds=round(old.wasted_gpu_seconds + lost, 1),
        unsaved_gpu_seconds=0.0 if ended else round(unsaved, 1),
        waiting_seconds=round(old.waiting_seconds + (spent if old.waiting else 0.0), 1),
        estimated_gpu_seconds=old.estimated_gpu_seconds or _seconds(estimate.get("gpuHours")),
        cost=None if price is None else price.of_hours(total / _HOUR),
        price=None if price is None else (price.low, price.high),
        currency="" if price is None else price.currency,
    )


def live(usage: Usage, now: datetime) -> Usage:
    """The amounts at this moment."""
    spent = seconds_between(readable(usage.since) or format_time(now), now)
    return usage.model_copy(
        update={
            "gpu_seconds": usage.gpu_seconds + usage.gpus * spent,
            "waiting_seconds": usage.waiting_seconds + (spent if usage.waiting else 0.0),
        }
    )


def estimate_of(annotations: Mapping[str, Any] | None) -> dict[str, float]:
    """What `raytrain submit` estimated; empty if there is none, or somebody else wrote it."""
    try:
        found = json.loads(str((annotations or {}).get(names.ESTIMATE_ANNOTATION) or "{}"))
    except ValueError:
        return {}
    numbers = found.items() if isinstance(found, dict) else ()
    return {key: float(n) for key, n in numbers if isinstance(n, int | float) and 0 <= n < 1e9}


def comparison(usage: Usage) -> str:
    """Actual against estimate, for the message of a job that has ended; empty without GPUs."""
    if not usage.gpu_seconds:
        return ""
    parts = [f"{usage.gpu_seconds / _HOUR:.2f} GPU-hours"]
    if usage.estimated_gpu_seconds:
        parts.append(f"estimated {usage.estimated_gpu_seconds / _HOUR:.2f}")
    if usage.wasted_gpu_seconds:
        parts.append(f"{usage.wasted_gpu_seconds / _HOUR:.2f} of them lost to retries")
    if usage.cost is not None:
        parts.append(f"cost {usage.cost} {usage.currency}")
    return "used " + ", ".join(parts)


def seconds_waited(usage: Usage | None, now: datetime) -> float:
    """Seconds in line so far."""
    return live(usage, now).waiting_seconds if usage is not None else 0.0


def checkpoint_age(usage: Usage | None, now: datetime) -> float | None:
    """Seconds since the newest checkpoint, None before the first."""
    saved = readable(usage.checkpointed) if usage is not None else None
    return max(0.0, (now - parse_time(saved)).total_seconds()) if saved else None


def _seconds(hours: float | None) -> float | None:
    return None if hours is None else round(hours * _HOUR, 1)


def _amount(quantity: object) -> int:
    try:
        return int(parse_quantity(str(quantity or "0")))
    except ValueError:
        return 0
