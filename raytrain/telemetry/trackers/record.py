"""What is known of a run at a tracker, kept in the run's storage: `trackers/NAME.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from raytrain.config.run_layout import RunLayout
from raytrain_core.storage import NotFoundError, Store


@dataclass(frozen=True, slots=True)
class TrackerRecord:
    """The id of the run at a tracker, and what arrived there.

    `segment` is the last metric segment that arrived completely, as (attempt, number); `step` the
    last step; `scores` the score cards, as stage/task; `described` and `model` whether the job and
    the model did.
    """

    id: str = ""
    link: str = ""
    described: bool = False
    segment: tuple[int, int] = (0, 0)
    step: int = 0
    scores: tuple[str, ...] = ()
    model: bool = False
    registered: str = ""


def read_tracker(store: Store, layout: RunLayout, name: str) -> TrackerRecord:
    """Returns the record; an empty one if there is none, or none that can be read."""
    try:
        found = json.loads(store.get(layout.tracker(name)))
        known = {field.name: found[field.name] for field in fields(TrackerRecord) if field.name in found}
        known["segment"] = tuple(known.get("segment", (0, 0)))
        known["scores"] = tuple(known.get("scores", ()))
        return TrackerRecord(**known)
    except (NotFoundError, ValueError, TypeError):
        return TrackerRecord()


def write_tracker(store: Store, layout: RunLayout, name: str, record: TrackerRecord) -> None:
    """Stores the record."""
    store.put(layout.tracker(name), (json.dumps(asdict(record), indent=1) + "\n").encode())
