"""Finds the prepared data that a user names: by a job file, a run, or the digest of a shard set."""

import re
from dataclasses import dataclass
from pathlib import Path

from data_prep import prepare
from data_prep.shards.manifest import ShardSet
from data_prep.text.tokenizer_folder import read_tokenizer
from data_prep.text.tokenizer_kind import has_tokenizer
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
class DataRef:
    """Where named data is.

    Its run (if there is one) and the digest of its shard set (if it is prepared).
    """

    name: str
    store: Store
    run: str | None
    digest: str | None
    job: FineTuneJob | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """Prepared data, the store that holds it, and the job it was prepared for, if that is known."""

    name: str
    store: Store
    shard_set: ShardSet
    job: FineTuneJob | None

    @property
    def cache(self) -> Cache:
        """Where parts are fetched to."""
        return Cache(cache_folder() / "shards")


def load_data(what: str, storage: str | None = None) -> Prepared:
    """Returns prepared data by job file, run or digest.

    Raises DataError if it is not prepared yet.
    """
    prepared = _load(locate_data(what, storage))
    if prepared is None:
        raise DataError(
            f"the data of {what} is not prepared yet", hint="prepare it with `raytrain run` or `data-prep prepare`"
        )
    return prepared


def load_job_data(job: FineTuneJob, *, storage: str | None, base_folder: Path) -> Prepared | None:
    """Returns the prepared data of a job; None if it is not prepared."""
    return _load(_job_data(job, storage=storage, base_folder=base_folder))


def locate_data(what: str, storage: str | None = None) -> DataRef:
    """Finds data by job file, run (name or URI), or the first digits of a shard set's digest.

    Raises UsageError.
    """
    if what.endswith(_JOB_FILE_SUFFIXES):
        loaded = load_job(what)
        return _job_data(loaded.job, storage=storage, base_folder=loaded.base_folder)
    if _DIGEST.fullmatch(what):
        store = open_store(storage_location(storage))
        if digest := _full_digest(store, what):
            return DataRef(f"shard set {digest[:12]}", store, None, digest, None)
    run = locate_run(what, storage)
    store = open_store(run.storage)
    record = read_record(store, require_run(store, run.name))
    if record is None:
        return DataRef(run.name, store, run.name, None, None)
    return DataRef(run.name, store, run.name, record.shard_set, record.written)


def _load(ref: DataRef) -> Prepared | None:
    if ref.digest is None:
        return None
    return Prepared(ref.name, ref.store, ShardSet.load(ref.store, ref.digest), ref.job)


def _job_data(job: FineTuneJob, *, storage: str | None, base_folder: Path) -> DataRef:
    """The data of the job's run if that run has the same identity.

    Else the data prepared for the job itself.
    """
    store = open_store(storage_location(storage, job, base_folder=base_folder))
    name = job.metadata.name
    record = read_record(store, RunLayout(name))
    if record is not None and not diff(identity(record.written), identity(job)):
        return DataRef(name, store, name, record.shard_set, job)
    return DataRef(name, store, None, _prepared_digest(job, store, base_folder), job)


def _prepared_digest(job: FineTuneJob, store: Store, base_folder: Path) -> str | None:
    """The digest of the shard set of a job without a run.

    None if it is not prepared or the tokenizer is not local.
    """
    folder, training = local_path(job.spec.model, base_folder), job.spec.training
    if not has_tokenizer(folder):
        return None
    shard_set = prepare.find(
        job.spec.tasks,
        job.spec.mixture,
        store=store,
        tokenizer=read_tokenizer(folder),
        limits=prepare.PrepLimits(training.max_input_tokens, training.max_target_tokens),
        base_folder=base_folder,
    )
    return None if shard_set is None else shard_set.digest


def _full_digest(store: Store, beginning: str) -> str | None:
    """The digest of the one shard set that begins like this.

    Raises UsageError if there are several.
    """
    prefix, ending = ShardSet.key(beginning).removesuffix(".json"), ".json"
    digests = [Path(stat.key).name.removesuffix(ending) for stat in store.list(prefix) if stat.key.endswith(ending)]
    if len(digests) > 1:
        raise UsageError(f"{len(digests)} shard sets under {store.uri} begin with {beginning}", hint="give more digits")
    return digests[0] if digests else None
