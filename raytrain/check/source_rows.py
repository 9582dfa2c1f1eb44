"""A task's rows as they will be used: counted by split, a sample of them rendered; nothing is written."""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.config import SPLITS, Task
from data_prep.sources.files import SourceFile, source_files
from data_prep.tasks.columns import check_columns
from data_prep.tasks.examples import example_maker, row_transform
from data_prep.tasks.splits import Splitter, needed_splits, splitter_of
from data_prep.text.templates import templates_of
from raytrain_core.errors import DataError, RowError, StorageError
from raytrain_core.storage import Store
from raytrain_core.storage.scratch import scratch

READ_AT_MOST = 200_000  # rows of a task that are read; more would take longer than a check may
SAMPLE = 500  # training rows whose lengths are looked at
NAMED_AT_MOST = 5  # bad rows that are named


@dataclass(slots=True)
class TaskRows:
    """What a task's source holds."""

    counts: dict[str, int] | None = None
    note: str = ""
    bad: list[str] = field(default_factory=list)
    bad_count: int = 0
    prompts: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)


HubRows = Callable[[str], dict[str, int] | None]


def look(task: Task, base_folder: Path, hub_rows: HubRows, store: Store | None = None) -> TaskRows:
    """Read what the task's source names. DataError or UsageError if preparation would end with one.

    Sources on the hub and in buckets are not downloaded: their rows are what the hub says of them,
    or unknown.
    """
    templates_of(task)
    maker = example_maker(task)
    uris = [task.source.uri] if task.source.uri is not None else list((task.source.splits or {}).values())
    if any(uri.startswith("hf://") for uri in uris):
        return _on_the_hub(task, uris, hub_rows)
    try:
        files = source_files(task, base_folder, store)
    except StorageError as error:
        return TaskRows(note=f"unknown: {error.message}")
    splitter = splitter_of(task, (file.split for file in files))
    if any(uri.startswith("s3://") for uri in uris):
        return TaskRows(note=f"unknown: {len(files)} objects in a bucket are read when the run prepares")
    return _read(task, files, splitter, maker)


def _read(task: Task, files: list[SourceFile], splitter: Splitter, maker: Callable[[Any], Any]) -> TaskRows:
    found = TaskRows(counts={}, note=splitter.rule)
    counts: Counter[str] = Counter()
    templates = templates_of(task)
    with scratch("check") as folder:
        files = [file for file in files if file.split in splitter.shares]
        transform = row_transform(task)
        for file in files:
            check_columns(task, file.name, partial(file.rows, folder), transform)
        rows = ((file, row) for file in files for row in file.rows(folder))
        for file, row in itertools.islice(rows, READ_AT_MOST):
            try:
                if row.values is None:
                    raise RowError(row.reason)
                example = maker(row.values)
            except RowError as error:
                found.bad_count += 1
                if len(found.bad) < NAMED_AT_MOST:
                    found.bad.append(f"{file.name}:{row.number}: {error}")
                continue
            if example is None:
                continue
            split = splitter.split(file.split, example.meta["input"])
            counts[split] += 1
            if split == needed_splits(task)[0] and len(found.prompts) < SAMPLE:
                found.prompts.append(templates[len(found.prompts) % len(templates)].render(example.input))
                found.targets.append(example.targets[0])
        if next(rows, None) is not None:
            found.note = f"only the first {READ_AT_MOST:,} rows were read; {found.note}"
    _complain(task, found, counts)
    limit = task.limit
    found.counts = {s: min(counts[s], limit) if limit else counts[s] for s in SPLITS if s in needed_splits(task)}
    return found


def _complain(task: Task, found: TaskRows, counts: Counter[str]) -> None:
    """DataError for what would end preparation."""
    if found.bad_count and task.on_bad_row == "fail":
        more = found.bad_count - len(found.bad)
        lines = [f"task {task.name}: {bad}" for bad in found.bad]
        lines += [f"task {task.name}: and {more:,} more bad rows"] if more else []
        raise DataError("\n".join(lines), hint="correct them, or leave bad rows out with onBadRow: skip")
    if found.bad_count > task.bad_row_limit:
        raise DataError(
            f"task {task.name}: {found.bad_count:,} bad rows, badRowLimit is {task.bad_row_limit:,}; "
            f"the first: {found.bad[0]}"
        )
    if empty := [s for s in needed_splits(task) if not counts[s]]:
        raise DataError(
            f"task {task.name}: no rows for {' and '.join(empty)} ({found.note})",
            hint="give the source more rows, or other shares with split",
        )


def _on_the_hub(task: Task, uris: list[str], hub_rows: HubRows) -> TaskRows:
    """Rows as the hub counts them: not divided where it has all splits, unknown otherwise."""
    from data_prep.sources.files import split_of_name

    if len(uris) > 1 or task.source.uri is None:
        return TaskRows(note="unknown: several data sets on the hub are read when the run prepares")
    said = hub_rows(uris[0])
    if not said:
        return TaskRows(note="unknown: the hub was not reached, or says nothing of it")
    told: Counter[str] = Counter()
    for name, rows in said.items():
        if split := split_of_name(name):
            told[split] += rows
    needed = needed_splits(task)
    if not all(told[s] for s in needed):
        listed = ", ".join(f"{name} {rows:,}" for name, rows in said.items())
        return TaskRows(note=f"unknown: the hub has {listed}, which preparation divides")
    return TaskRows(
        counts={s: min(told[s], task.limit) if task.limit else told[s] for s in SPLITS if s in needed},
        note="as the hub says",
    )
