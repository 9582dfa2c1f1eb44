"""What bounds a step: where the seconds of the latest steps went, and what could be done about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

LATEST = 50
"""Steps that are looked at."""
_OTHER = "other"

# A part is named as the bound where its share is at least this; computing is the bound where none
# of these is.
_NOTABLE = {"data": 0.15, "checkpoint": 0.10, "grad_sync": 0.25, "optimizer": 0.25}
_WORDS = {
    "data": (
        "waiting for training data",
        "storage or disk is too slow for the shards: use a local cache, or give the workers more CPUs",
    ),
    "checkpoint": (
        "handing over checkpoints",
        "raise training.checkpointEvery, or find out why the storage takes so long to store one",
    ),
    "grad_sync": (
        "gradient synchronization across workers",
        "raise training.batchTokens, take fewer workers, or find the worker that is slower than the others",
    ),
    "optimizer": ("the optimizer", "raise training.batchTokens: fewer updates for the same tokens"),
    "compute": (
        "computing, as it should be",
        "faster only with precision bf16 (if not set yet), fewer tokens an example, more workers or faster devices",
    ),
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where time went: `shares` of each part (0..1, largest first), the part that bounds, and what to do."""

    steps: int
    seconds: float
    shares: dict[str, float]
    bound: str
    what: str
    advice: str

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def bounds(lines: Sequence[Mapping[str, Any]]) -> Bounds | None:
    """From the lines of the metric segments, the latest `LATEST` of them; None where there are none with times.

    Times are those of the first worker. On a GPU what was only started counts where it was waited
    for: forward and backward look shorter there, and the optimizer, which waits for the gradient's
    norm, longer.
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
    over = {part: shares.get(part, 0.0) / least for part, least in _NOTABLE.items() if shares.get(part, 0.0) >= least}
    bound = max(over, key=lambda part: over[part]) if over else "compute"
    what, advice = _WORDS[bound]
    return Bounds(len(timed), total / len(timed), shares, bound, what, advice)
