"""Whether everything that is stored of prepared data, or of a run, is still what was put there."""

from dataclasses import dataclass

from data_prep.shards import verify as verifying
from data_prep.shards.manifest import ShardSet
from data_prep.shards.verify import Entry, OnProgress
from raytrain.config.run_layout import RunLayout
from raytrain.datasets import resolve as prepared
from raytrain_core.storage import CorruptError, NotFoundError


@dataclass(frozen=True, slots=True)
class Verified:
    """What was read, and a sentence for each object that is not what its manifest says."""

    what: str
    objects: int
    bytes: int
    corrupt: list[str]


def verify(what: str, storage: str | None, *, on_progress: OnProgress) -> Verified:
    """Of a job or a run its checkpoints, scores, report, model and data; of a shard set all its parts.

    UsageError if there is no such thing.
    """
    place = prepared.look(what, storage)
    entries, broken = list[Entry](), list[str]()
    if place.run is not None:
        entries, broken = verifying.entries_below(place.store, RunLayout(place.run).root)
    if place.digest is not None:
        try:
            entries += verifying.entries_of_set(ShardSet.load(place.store, place.digest))
        except (CorruptError, NotFoundError) as error:
            broken.append(error.message)
    found = verifying.verify(place.store, entries, on_progress=on_progress)
    return Verified(place.name, found.objects, found.bytes, broken + found.corrupt)
