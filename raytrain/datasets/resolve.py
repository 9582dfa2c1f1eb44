"""Which prepared data a person means: that of a job, of a run, or a shard set by its digest."""

import re
from dataclasses import dataclass
from pathlib import Path

from data_prep import prepare
from data_prep.shards.manifest import ShardSet
from data_prep.text.tokenizer import Tokenizer
from raytrain.config.identity import diff, identity
from raytrain.config.job import FineTuneJob
from raytrain.config.load import load_job
from raytrain.config.locations import cache_folder, locate_run, storage_location
from raytrain.config.run_layout import RunLayout
from raytrain.model.source import local_path
from raytrain.runs.record import read_record
from raytrain.runs.status import require_run
from raytrain_core.errors import DataError, UsageError
from raytrain_core.storage import Store, open_store
from raytrain_core.storage.cache import Cache

_DIGEST = re.compile(r"[0-9a-f]{8,64}")
_JOB_FILE_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Place:
    """What was named, where it is: its run (if there is one) and the digest of its shard set (if it is prepared)."""

    name: str
    store: Store
    run: str | None
    digest: str | None
    job: FineTuneJob | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """Prepared data, the store that holds it, and the job that it was prepared for, if that is known."""

    name: str
    store: Store
    shard_set: ShardSet
    job: FineTuneJob | None

    @property
    def cache(self) -> Cache:
        """Where parts are fetched to."""
        return Cache(cache_folder() / "shards")


def look(what: str, storage: str | None = None) -> Place:
    """Find a job's data, a run by name or URI, or a shard set by (the beginning of) its digest; UsageError."""
    if what.endswith(_JOB_FILE_SUFFIXES):
        loaded = load_job(what)
        return place_of(loaded.job, storage=storage, base_folder=loaded.base_folder)
    if _DIGEST.fullmatch(what):
        store = open_store(storage_location(storage))
        if digest := _digest_of(store, what):
            return Place(f"shard set {digest[:12]}", store, None, digest, None)
    where = locate_run(what, storage)
    store = open_store(where.storage)
    record = read_record(store, require_run(store, where.name))
    if record is None:
        return Place(where.name, store, where.name, None, None)
    return Place(where.name, store, where.name, record.shard_set, record.written)


def find(what: str, storage: str | None = None) -> Prepared:
    """As `look`; DataError if it is not prepared yet."""
    place = look(what, storage)
    if place.digest is None:
        raise DataError(
            f"the data of {what} is not prepared yet", hint="`raytrain run` prepares it, or `data-prep prepare`"
        )
    return Prepared(place.name, place.store, ShardSet.load(place.store, place.digest), place.job)


def of_job(job: FineTuneJob, *, storage: str | None, base_folder: Path) -> Prepared | None:
    """The data of a job, None if it is not prepared."""
    place = place_of(job, storage=storage, base_folder=base_folder)
    if place.digest is None:
        return None
    return Prepared(place.name, place.store, ShardSet.load(place.store, place.digest), job)


def place_of(job: FineTuneJob, *, storage: str | None, base_folder: Path) -> Place:
    """The run of a job, if it is of just this job, and its data; else the data of the job as it is."""
    store = open_store(storage_location(storage, job, base_folder=base_folder))
    name = job.metadata.name
    record = read_record(store, RunLayout(name))
    if record is not None and not diff(identity(record.written), identity(job)):
        return Place(name, store, name, record.shard_set, job)
    return Place(name, store, None, _prepared_for(job, store, base_folder), job)


def _prepared_for(job: FineTuneJob, store: Store, base_folder: Path) -> str | None:
    """The digest of what was prepared for a job without a run; None if the model's tokenizer is not here."""
    folder, training = local_path(job.spec.model, base_folder), job.spec.training
    if not (folder / "tokenizer.json").is_file():
        return None
    found = prepare.find(
        job.spec.tasks,
        job.spec.mixture,
        store=store,
        tokenizer=Tokenizer.from_folder(folder),
        limits=prepare.PrepLimits(training.max_input_tokens, training.max_target_tokens),
        base_folder=base_folder,
    )
    return None if found is None else found.digest


def _digest_of(store: Store, beginning: str) -> str | None:
    """The digest of the one shard set that begins so; None if there is none, UsageError if there are several."""
    prefix, ending = ShardSet.key(beginning).removesuffix(".json"), ".json"
    found = [Path(stat.key).name.removesuffix(ending) for stat in store.list(prefix) if stat.key.endswith(ending)]
    if len(found) > 1:
        raise UsageError(f"{len(found)} shard sets under {store.uri} begin with {beginning}", hint="give more digits")
    return found[0] if found else None
