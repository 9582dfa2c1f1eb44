"""Tasks to a shard set in the store: deterministic, content-addressed, and nothing is done twice.

A task's digest is that of everything that determines its shards: its part of the job, the
contents of its sources, tokenizer, limits, seed, format. This process reads the rows and cuts them
into items (`task_work`); whoever `workers` are make the parts of an item (`writing`). Parts are put
under their own sha256 first, then what each item became, then the manifest of their task, last that
of the set: a preparation that was killed goes on with the items that were not made, and what it
left behind is invisible. The contents of a source file are read for its sha256 once:
`shards/sources/` remembers it by the file's place, size and time (or etag), so that preparing
unchanged sources again takes a moment.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path

from data_prep.config import Mixture, Split, Task
from data_prep.shards.manifest import PreparedTask, ShardSet, TokenizerRef
from data_prep.shards.progress import OnProgress, PrepareProgress, ProgressMeter
from data_prep.shards.reader import are_stored, load_keys
from data_prep.shards.split_statistics import leakage_across
from data_prep.shards.task_builder import FORMAT, PrepSettings, TaskSources, TaskWork
from data_prep.shards.workers import ThisProcess, Workers
from data_prep.shards.writer import PartStore, PrepLimits, ShardParts, digest_of
from data_prep.sources.files import source_files
from data_prep.tasks.columns import needed_columns
from data_prep.tasks.mixture import rates
from data_prep.tasks.splits import splitter_of
from data_prep.text.templates import templates_of
from data_prep.text.tokenizer import Tokenizer
from raytrain_core.storage import CorruptError, NotFoundError, Store
from raytrain_core.storage.scratch import scratch

__all__ = ["PrepLimits", "PrepareProgress", "TokenizerSource", "find", "prepare"]

_LOOKS = 8  # tasks that are looked for at the same time
_TICK = 0.2  # seconds between two looks at what the workers have done

TokenizerSource = Tokenizer


def prepare(
    tasks: Sequence[Task],
    mixture: Mixture,
    *,
    store: Store,
    tokenizer: TokenizerSource,
    limits: PrepLimits,
    base_folder: Path,
    on_progress: OnProgress = lambda progress: None,
    verify: bool = False,
    workers: Workers | None = None,
) -> ShardSet:
    """Prepare what is not prepared yet and return the shard set; its manifest is stored when everything is.

    Relative sources are relative to `base_folder`; those in S3 are at the endpoint of `store` if
    that is in S3 too. `on_progress` is called while something is prepared, at least a few times a
    second, and may raise to stop. `verify` reads the sources and every part again and writes anew
    what does not match. `workers` make the parts (by default this process); the result does not
    depend on them. UsageError, DataError and StorageError say what is wrong, before any work where
    possible.
    """
    sources = _sources(tasks, base_folder, store)
    settings = PrepSettings(store, tokenizer, limits, mixture.seed, verify)
    with scratch("preparation") as folder:
        works = [TaskWork(of_task, settings, folder / of_task.task.name) for of_task in sources]
        with ThreadPoolExecutor(_LOOKS) as pool:
            stored = pool.map(lambda work: _existing_task(store, work.digest, read=verify), works)
            found = {work.digest: task for work, task in zip(works, stored, strict=True)}
        missing = [work for work in works if found[work.digest] is None]
        for work in missing:
            work.check_columns()
        made = {task.digest: task for task in _made(missing, workers or ThisProcess(), on_progress)}
    prepared = tuple(found[work.digest] or made[work.digest] for work in works)
    digest = _set_digest([task.digest for task in prepared], mixture, tokenizer, limits)
    if not verify and not missing and (existing := _existing_set(store, digest)) is not None:
        return existing
    trained = {task.name: task.splits["train"].examples for task in prepared if not task.probe}
    keys = {(task.name, split): load_keys(part, store) for task in prepared for split, part in task.splits.items()}
    shard_set = ShardSet(
        digest=digest,
        tasks=prepared,
        tokenizer=_store_tokenizer(tokenizer, store, overwrite=verify),
        mixture=mixture.model_dump(mode="json", by_alias=True),
        rates=rates(mixture, trained) if trained else {},
        limits=asdict(limits),
        leakage=leakage_across(keys),
    )
    store.put(ShardSet.key(digest), shard_set.to_json())
    return shard_set


def find(
    tasks: Sequence[Task],
    mixture: Mixture,
    *,
    store: Store,
    tokenizer: TokenizerSource,
    limits: PrepLimits,
    base_folder: Path,
) -> ShardSet | None:
    """What `prepare` would return at once, because everything is prepared; else None. Errors as in `prepare`.

    Makes nothing; source files whose contents are not known yet are read for their sha256, which is
    kept.
    """
    settings = PrepSettings(store, tokenizer, limits, mixture.seed, verify=False)
    with scratch("preparation") as folder:
        sources = _sources(tasks, base_folder, store)
        digests = [TaskWork(source, settings, folder / source.task.name).digest for source in sources]
    return _existing_set(store, _set_digest(digests, mixture, tokenizer, limits))


def _sources(tasks: Sequence[Task], base_folder: Path, store: Store) -> list[TaskSources]:
    for task in tasks:
        templates_of(task), needed_columns(task)
    all_files = [source_files(task, base_folder, store) for task in tasks]
    return [
        TaskSources(task, files, splitter_of(task, (file.split for file in files)))
        for task, files in zip(tasks, all_files, strict=True)
    ]


def _set_digest(tasks: Sequence[str], mixture: Mixture, tokenizer: Tokenizer, limits: PrepLimits) -> str:
    return digest_of(
        {
            "format": FORMAT,
            "tasks": list(tasks),
            "mixture": mixture.model_dump(mode="json", by_alias=True),
            "tokenizer": tokenizer.digest,
            "limits": asdict(limits),
        }
    )


def _made(works: Sequence[TaskWork], workers: Workers, on_progress: OnProgress) -> Iterator[PreparedTask]:
    """Each task as it is ready. Rows are read ahead by one item more than there are workers."""
    meter = ProgressMeter(on_progress)
    for work in works:
        meter.expect(work.task.name, work.count())
    pending: dict[Future[ShardParts], tuple[TaskWork, Split, int]] = {}

    def taken(most: int) -> Iterator[PreparedTask]:
        """Wait until at most so many items are pending; the tasks that are complete with that."""
        while len(pending) > most:
            done, _ = wait(pending, timeout=_TICK, return_when=FIRST_COMPLETED)
            workers.tick()
            if not done:
                meter.report()
            for future in done:
                work, split, number = pending.pop(future)
                work.take(split, number, future.result())
                if work.complete:
                    yield work.finish()

    try:
        for work in works:
            for item in work.items(meter):
                pending[workers.submit(item, meter.advance)] = work, item.split, item.number
                yield from taken(workers.count)
            if work.complete:
                yield work.finish()
        yield from taken(0)
    finally:
        for future in pending:
            future.cancel()


def _existing_task(store: Store, digest: str, *, read: bool) -> PreparedTask | None:
    """The task if its manifest and every part are there (by size, with `read` by contents)."""
    try:
        task = PreparedTask.load(store, digest)
    except (NotFoundError, CorruptError):
        return None
    return task if are_stored(store, task.all_parts(), read=read) else None


def _existing_set(store: Store, digest: str) -> ShardSet | None:
    try:
        shard_set = ShardSet.load(store, digest)
    except (NotFoundError, CorruptError):
        return None
    return shard_set if are_stored(store, list(shard_set.tokenizer.files.values())) else None


def _store_tokenizer(tokenizer: Tokenizer, store: Store, *, overwrite: bool) -> TokenizerRef:
    with scratch("preparation") as folder:
        parts = PartStore(store, folder, overwrite)
        files = {}
        for name, data in tokenizer.files().items():

            def write(path: Path, data: bytes = data) -> None:
                path.write_bytes(data)

            files[name] = parts.put("json", write)
    return TokenizerRef(tokenizer.digest, tokenizer.size, files)
