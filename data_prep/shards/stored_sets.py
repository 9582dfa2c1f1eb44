"""What the store holds of prepared tasks and shard sets, and the manifest of a new set."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from data_prep.config import Mixture
from data_prep.shards.leakage import leakage_across
from data_prep.shards.manifest import PreparedTask, ShardSet
from data_prep.shards.parts import are_stored, load_keys
from data_prep.shards.settings import PrepSettings
from data_prep.shards.task_sources import FORMAT
from data_prep.shards.tokenizer_files import store_tokenizer
from data_prep.shards.twins_elsewhere import find_twins_elsewhere
from data_prep.shards.workers import Workers
from data_prep.tasks.mixture import rates
from raytrain_core.hashing import digest_of
from raytrain_core.storage import CorruptError, NotFoundError, Store

_LOOKUPS = 8  # tasks that are looked up at the same time


def stored_tasks(digests: Sequence[str], store: Store, *, read: bool) -> dict[str, PreparedTask]:
    """Returns the tasks whose manifest and parts are all stored, by digest.

    Parts are compared by size or, with `read`, by contents.
    """

    def stored(digest: str) -> PreparedTask | None:
        try:
            task = PreparedTask.load(store, digest)
        except (NotFoundError, CorruptError):
            return None
        return task if are_stored(store, task.all_parts(), read=read) else None

    with ThreadPoolExecutor(_LOOKUPS) as pool:
        return {task.digest: task for task in pool.map(stored, digests) if task is not None}


def set_digest(tasks: Sequence[str], mixture: Mixture, settings: PrepSettings) -> str:
    """Returns the digest of everything that determines a set of tasks with these digests."""
    return digest_of(
        {
            "format": FORMAT,
            "tasks": list(tasks),
            "mixture": mixture.model_dump(mode="json", by_alias=True),
            "tokenizer": settings.tokenizer.digest,
            "limits": asdict(settings.limits),
        }
    )


def stored_set(store: Store, digest: str) -> ShardSet | None:
    """Returns a set whose manifest and tokenizer are stored; None for any other."""
    try:
        shard_set = ShardSet.load(store, digest)
    except (NotFoundError, CorruptError):
        return None
    return shard_set if are_stored(store, list(shard_set.tokenizer.files.values())) else None


def store_set(
    digest: str,
    prepared: tuple[PreparedTask, ...],
    mixture: Mixture,
    settings: PrepSettings,
    *,
    workers: Workers,
    on_wait: Callable[[], None],
) -> ShardSet:
    """Stores and returns the set of these tasks, its manifest last.

    The workers compare held-out rows with the training rows of other tasks; `on_wait` is called now
    and then meanwhile.
    """
    store = settings.store
    trained = {task.name: task.splits["train"].examples for task in prepared if not task.probe}
    keys = {(task.name, name): load_keys(split, store) for task in prepared for name, split in task.splits.items()}
    shard_set = ShardSet(
        digest=digest,
        tasks=prepared,
        tokenizer=store_tokenizer(settings.tokenizer, store, overwrite=settings.verify),
        mixture=mixture.model_dump(mode="json", by_alias=True),
        rates=rates(mixture, trained) if trained else {},
        limits=asdict(settings.limits),
        leakage=leakage_across(keys),
        twins_elsewhere=find_twins_elsewhere(prepared, store, workers, on_wait=on_wait),
    )
    store.put(ShardSet.key(digest), shard_set.to_json())
    return shard_set
