"""Checks that everything stored of prepared data or a run still has its original contents."""

from dataclasses import dataclass

from data_prep.shards.manifest import ShardSet
from raytrain.config.run_layout import RunLayout
from raytrain.datasets.resolve import locate_data
from raytrain_core.storage import CorruptError, NotFoundError
from raytrain_core.storage.integrity import Object, OnProgress, check_objects, committed_objects


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """How much was read, and a sentence for each object that does not match its manifest."""

    what: str
    objects: int
    bytes: int
    corrupt: list[str]


def verify(what: str, storage: str | None, *, on_progress: OnProgress) -> VerifyReport:
    """Reads the checkpoints, scores, report, model and data of a run, or all parts of a shard set.

    Raises UsageError if there is no such run or set.
    """
    ref = locate_data(what, storage)
    objects, broken = list[Object](), list[str]()
    if ref.run is not None:
        objects, broken = committed_objects(ref.store, RunLayout(ref.run).root)
    if ref.digest is not None:
        try:
            objects += _objects_of(ShardSet.load(ref.store, ref.digest))
        except (CorruptError, NotFoundError) as error:
            broken.append(error.message)
    result = check_objects(ref.store, objects, on_progress=on_progress)
    return VerifyReport(ref.name, result.objects, result.bytes, broken + result.corrupt)


def _objects_of(shard_set: ShardSet) -> list[Object]:
    """Every object of a shard set, tokenizer included.

    One that several tasks share is listed once.
    """
    parts = [part for task in shard_set.tasks for part in task.all_parts()]
    return sorted({Object(part.key, part.bytes, part.sha256) for part in [*parts, *shard_set.tokenizer.files.values()]})
