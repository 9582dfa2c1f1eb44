"""Prepares tasks into a shard set in the store: deterministic, content-addressed, resumable.

A task's digest is that of everything that determines its shards: its part of the job, the contents
of its sources, tokenizer, limits, seed, format. The workers read spans of the files
(`shards.span_reading`); this process cuts what they read into work units (`shards.task_builder`),
and the workers turn each unit into parts (`shards.writer`). Parts are stored under their own sha256
first, then the record of each unit, then the manifest of the task, last the manifest of the set: a
killed preparation continues with the units that are missing, and readers never see what it left
behind.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

from data_prep.config import Mixture, Split, Task
from data_prep.shards.manifest import PreparedTask, ShardSet
from data_prep.shards.progress import OnProgress, PrepareProgress, ProgressMeter
from data_prep.shards.settings import PrepLimits, PrepSettings
from data_prep.shards.stored_sets import set_digest, store_set, stored_set, stored_tasks
from data_prep.shards.task_builder import TaskBuilder
from data_prep.shards.task_sources import TaskSources
from data_prep.shards.work_unit import ShardParts, UnitPlan
from data_prep.shards.workers import ThisProcess, Workers
from data_prep.sources.task_files import find_sources
from data_prep.tasks.columns import needed_columns
from data_prep.tasks.splits import splitter_of
from data_prep.text.templates import templates_of
from data_prep.text.tokenizer import Tokenizer
from raytrain_core.storage import Store
from raytrain_core.storage.scratch import scratch

__all__ = ["PrepLimits", "PrepareProgress", "find", "prepare"]

_TICK = 0.2  # seconds between two reports of the workers' progress


def prepare(
    tasks: Sequence[Task],
    mixture: Mixture,
    *,
    store: Store,
    tokenizer: Tokenizer,
    limits: PrepLimits,
    base_folder: Path,
    on_progress: OnProgress = lambda progress: None,
    verify: bool = False,
    workers: Workers | None = None,
) -> ShardSet:
    """Prepares what is missing and returns the shard set, whose manifest is stored last.

    Relative sources are relative to `base_folder`; sources in S3 use the endpoint of `store` if
    that is in S3 too. `on_progress` is called at least a few times a second while something is
    prepared, and may raise to stop. `verify` reads the sources and every part again and replaces
    what does not match. `workers` read rows and write parts (by default this process does); the
    result does not depend on them. Raises UsageError, DataError or StorageError, before any work
    where possible.
    """
    settings = PrepSettings(store, tokenizer, limits, mixture.seed, verify)
    workers, meter = workers or ThisProcess(), ProgressMeter(on_progress)
    with scratch("preparation") as folder:
        sources = _sources(tasks, settings, base_folder, folder)
        stored = stored_tasks([task.digest for task in sources], store, read=verify)
        missing = [task for task in sources if task.digest not in stored]
        for task in missing:
            task.check_columns()
        builders = [TaskBuilder(task, settings) for task in missing]
        built = {task.digest: task for task in _build(builders, workers, meter)}
    prepared = tuple((stored | built)[task.digest] for task in sources)
    digest = set_digest([task.digest for task in prepared], mixture, settings)
    if not verify and not missing and (existing := stored_set(store, digest)) is not None:
        return existing
    return store_set(digest, prepared, mixture, settings, workers=workers, on_wait=meter.report)


def find(
    tasks: Sequence[Task],
    mixture: Mixture,
    *,
    store: Store,
    tokenizer: Tokenizer,
    limits: PrepLimits,
    base_folder: Path,
) -> ShardSet | None:
    """Returns the shard set if everything is prepared already, else None; raises as `prepare` does.

    Prepares nothing. Source files whose contents are not known yet are read for their sha256, which
    is remembered.
    """
    settings = PrepSettings(store, tokenizer, limits, mixture.seed, verify=False)
    with scratch("preparation") as folder:
        digests = [task.digest for task in _sources(tasks, settings, base_folder, folder)]
    return stored_set(store, set_digest(digests, mixture, settings))


def _sources(tasks: Sequence[Task], settings: PrepSettings, base_folder: Path, folder: Path) -> list[TaskSources]:
    for task in tasks:
        templates_of(task), needed_columns(task)
    found = [find_sources(task, base_folder, settings.store) for task in tasks]
    splitters = [splitter_of(task, (file.split for file in one.files)) for task, one in zip(tasks, found, strict=True)]
    return [
        TaskSources(task, one, splitter, settings, folder / task.name)
        for task, one, splitter in zip(tasks, found, splitters, strict=True)
    ]


class _Pending:
    """The work units that workers are writing."""

    def __init__(self, workers: Workers, meter: ProgressMeter) -> None:
        self._workers, self._meter = workers, meter
        self._units: dict[Future[ShardParts], tuple[TaskBuilder, Split, int]] = {}

    def submit(self, builder: TaskBuilder, unit: UnitPlan) -> None:
        """Gives a unit to the workers."""
        self._units[self._workers.submit(unit, self._meter.advance)] = builder, unit.split, unit.number

    def drain(self, most: int) -> Iterator[PreparedTask]:
        """Waits until at most `most` units are pending; yields the tasks that are complete then."""
        while len(self._units) > most:
            done, _ = wait(self._units, timeout=_TICK, return_when=FIRST_COMPLETED)
            self._workers.tick()
            if not done:
                self._meter.report()
            for future in done:
                builder, split, number = self._units.pop(future)
                builder.take(split, number, future.result())
                if builder.complete:
                    yield builder.finish(self._meter, self._workers)

    def cancel(self) -> None:
        """Cancels the units that were not started yet."""
        for future in self._units:
            future.cancel()


def _build(builders: Sequence[TaskBuilder], workers: Workers, meter: ProgressMeter) -> Iterator[PreparedTask]:
    """Yields each task when it is complete.

    At most one unit more than there are workers is held back, and rows are read ahead of that.
    """
    for builder in builders:
        meter.expect(builder.task.name, builder.count())
    pending = _Pending(workers, meter)
    try:
        for builder in builders:
            for unit in builder.units(meter, workers):
                pending.submit(builder, unit)
                yield from pending.drain(workers.count)
            if builder.complete:
                yield builder.finish(meter, workers)
        yield from pending.drain(0)
    finally:
        pending.cancel()
