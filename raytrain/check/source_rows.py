"""Counts a task's rows by split and renders a sample of them, without preparing anything."""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from data_prep.config import SPLITS, Task
from data_prep.sources.file_names import split_of_name
from data_prep.sources.task_files import Sources, find_sources
from data_prep.tally import Tally
from data_prep.tasks.bad_rows import BadRows
from data_prep.tasks.columns import check_columns
from data_prep.tasks.examples import example_maker, row_transform
from data_prep.tasks.splits import Splitter, needed_splits, splitter_of
from data_prep.tasks.task_rows import read_task_rows, task_profile
from data_prep.text.templates import templates_of
from raytrain_core.errors import DataError, StorageError
from raytrain_core.extras import missing_extra
from raytrain_core.storage import Store
from raytrain_core.storage.bucket_uri import is_in_bucket
from raytrain_core.storage.scratch import scratch

READ_AT_MOST = 200_000  # rows read of a task: more would take too long for a check
SAMPLE = 500  # training rows whose lengths are measured


@dataclass(slots=True)
class TaskRows:
    """What a task's source holds; `counts` is None if that is unknown, `note` says why."""

    counts: dict[str, int] | None = None
    note: str = ""
    bad: list[str] = field(default_factory=list)
    bad_count: int = 0
    tally: Tally = field(default_factory=Tally)
    """What happened to the rows read."""
    prompts: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)


HubRows = Callable[[str], dict[str, int] | None]


def count_rows(task: Task, base_folder: Path, hub_rows: HubRows, store: Store | None = None) -> TaskRows:
    """Reads the task's source; raises DataError or UsageError where preparation would.

    Sources on the hub and in buckets are not downloaded: the hub is asked for the number of rows,
    and a bucket's rows are unknown.
    """
    templates_of(task)
    example_maker(task)
    uris = [task.source.uri] if task.source.uri is not None else list((task.source.splits or {}).values())
    if any(uri.startswith("hf://") for uri in uris):
        return _on_the_hub(task, uris, hub_rows)
    try:
        found = find_sources(task, base_folder, store)
    except StorageError as error:
        return TaskRows(note=f"unknown: {error.message}")
    splitter = splitter_of(task, (file.split for file in found.files))
    if any(is_in_bucket(uri) for uri in uris):
        return TaskRows(note=f"unknown: {len(found.files)} objects in a bucket are read when the run prepares")
    found.files = [file for file in found.files if file.split in splitter.shares]
    try:
        return _read(task, found, splitter)
    except ModuleNotFoundError as error:  # Parquet, phone numbers: the client has no library for them
        if (missing := missing_extra(error)) is None:
            raise
        return TaskRows(note=f"unknown: {missing.message}: {missing.hint}")


def _read(task: Task, sources: Sources, splitter: Splitter) -> TaskRows:
    found, bad, files = TaskRows(note=splitter.rule), BadRows(task), sources.files
    counts: Counter[str] = Counter()
    sampled, templates = needed_splits(task)[0], templates_of(task)
    with scratch("check") as folder:
        bad.tally.merge(sources.tally(folder))
        transform = row_transform(task)
        for file in files:
            check_columns(task, file.name, partial(file.rows, folder), transform)
        profile = task_profile(task, files, folder)
        bad.tally.merge(profile.tally(files[0].name))
        rows = read_task_rows(task, files, folder, profile)
        for row in itertools.islice(rows, READ_AT_MOST):
            bad.add(row)
            if row.example is None:
                continue
            split = splitter.split(row.file.split, row.example.meta["input"])
            counts[split] += 1
            if split == sampled and len(found.prompts) < SAMPLE:
                found.prompts.append(templates[len(found.prompts) % len(templates)].render(row.example.input))
                found.targets.append(row.example.targets[0])
        if next(rows, None) is not None:
            found.note = f"only the first {READ_AT_MOST:,} rows were read; {found.note}"
    found.bad, found.bad_count, found.tally = bad.first, bad.count, bad.tally
    _require_enough(task, bad, counts, found.note)
    found.counts = _limited(task, counts)
    return found


def _require_enough(task: Task, bad: BadRows, counts: Counter[str], note: str) -> None:
    """Raises DataError where preparation would."""
    if bad.fatal and task.on_bad_row == "fail":
        more = bad.count - len(bad.first)
        lines = [f"task {task.name}: {row}" for row in bad.first]
        lines += [f"task {task.name}: and {more:,} more bad rows"] if more else []
        raise DataError("\n".join(lines), hint="correct them, or skip bad rows with onBadRow: skip")
    if bad.fatal:
        raise DataError(
            f"task {task.name}: {bad.count:,} bad rows, badRowLimit is {task.bad_row_limit:,}; "
            f"the first: {bad.first[0]}"
        )
    if bad.count and not counts.total():
        lines = [
            f"task {task.name}: every row is bad; the first are",
            *(f"task {task.name}: {row}" for row in bad.first),
        ]
        raise DataError("\n".join(lines), hint="check the columns and the type of the task")
    if empty := [split for split in needed_splits(task) if not counts[split]]:
        raise DataError(
            f"task {task.name}: no rows for {' and '.join(empty)} ({note})",
            hint="give the source more rows, or change the shares under split",
        )


def _limited(task: Task, counts: Counter[str]) -> dict[str, int]:
    """Rows of each split that the task needs, within its limit."""
    needed = [split for split in SPLITS if split in needed_splits(task)]
    return {split: min(counts[split], task.limit or counts[split]) for split in needed}


def _on_the_hub(task: Task, uris: list[str], hub_rows: HubRows) -> TaskRows:
    """Rows as the hub counts them, if the data set has all splits; else unknown."""
    if len(uris) > 1 or task.source.uri is None:
        return TaskRows(note="unknown: several data sets on the hub are read when the run prepares")
    on_hub = hub_rows(uris[0])
    if not on_hub:
        return TaskRows(note="unknown: the hub was not reached, or does not say")
    counts: Counter[str] = Counter()
    for name, rows in on_hub.items():
        if split := split_of_name(name):
            counts[split] += rows
    if not all(counts[split] for split in needed_splits(task)):
        listed = ", ".join(f"{name} {rows:,}" for name, rows in on_hub.items())
        return TaskRows(note=f"unknown: the hub has {listed}, which preparation divides")
    return TaskRows(counts=_limited(task, counts), note="according to the hub")
