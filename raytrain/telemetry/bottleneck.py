"""Finds the bottleneck of training: how steps spend their time, and what to do about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

LATEST = 50
"""Number of steps that are considered."""
_OTHER = "other"

# A part is the bottleneck if its share reaches this threshold; otherwise computation is.
_THRESHOLDS = {"data": 0.15, "checkpoint": 0.10, "grad_sync": 0.25, "optimizer": 0.25}
_ADVICE = {
    "data": (
        "waiting for training data",
        "storage or disk is too slow for the shards: use a local cache, or give the workers more CPUs",
    ),
    "checkpoint": (
        "writing checkpoints",
        "raise training.checkpointEvery, or find out why storing one takes so long",
    ),
    "grad_sync": (
        "gradient synchronization across workers",
        "raise training.batchTokens, use fewer workers, or find the slowest worker",
    ),
    "optimizer": ("the optimizer", "raise training.batchTokens to make fewer updates for the same number of tokens"),
    "compute": (
        "computation, as it should be",
        "to go faster, set precision: bf16, shorten the examples, or use more workers or faster devices",
    ),
}


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """Mean seconds of a step, the share of each part (largest first), and the limiting part."""

    steps: int
    seconds: float
    shares: dict[str, float]
    part: str
    description: str
    advice: str

    def as_json(self) -> dict[str, Any]:
        """Returns plain data for `-o json`."""
        return asdict(self)


def find_bottleneck(lines: Sequence[Mapping[str, Any]]) -> Bottleneck | None:
    """Analyses the latest `LATEST` lines of a run's metrics; returns None if none has times.

    Times are those of the first worker. On a GPU, work is attributed to the part that waits for it:
    forward and backward look shorter, and the optimizer, which waits for the gradient norm, longer.
    """
    timed = [line for line in lines if line.get("seconds_by_part") and line.get("seconds")][-LATEST:]
    if not timed:
        return None
    parts: defaultdict[str, float] = defaultdict(float)
    for line in timed:
        for part, seconds in line["seconds_by_part"].items():
            parts[part] += float(seconds or 0)
    total = sum(float(line["seconds"]) for line in timed)
    parts[_OTHER] = max(total - sum(parts.values()), 0.0)
    shares = {part: seconds / total for part, seconds in sorted(parts.items(), key=lambda item: -item[1])}
    excess = {part: shares.get(part, 0.0) / threshold for part, threshold in _THRESHOLDS.items()}
    largest = max(excess, key=lambda part: excess[part])
    limiting = largest if excess[largest] >= 1 else "compute"
    description, advice = _ADVICE[limiting]
    return Bottleneck(len(timed), total / len(timed), shares, limiting, description, advice)
