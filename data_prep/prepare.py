"""Tasks to a shard set in the store: deterministic, content-addressed, and nothing is done twice.

A task's digest is that of everything that determines its shards: its part of the document, the contents of its
sources, tokenizer, limits, seed, format. Parts are put under their own sha256 first, then the manifest of their task,
last that of the set: a preparation that was killed goes on with the first task that has no manifest, and what it left
behind is invisible. The contents of a source file are read for its sha256 once: `shards/sources/` remembers it by the
file's place, size and time (or etag), so that preparing unchanged sources again takes a moment.
"""

import json
import shutil
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.checks import Keys, leakage, leakage_across
from data_prep.document import Mixture, Task
from data_prep.document.models import SPLITS, Split
from data_prep.errors import DataError
from data_prep.keys import content_key, mix
from data_prep.mixture import rates
from data_prep.rows import Example, alternatives, example_maker, needed_columns
from data_prep.shards import ROWS_OF_A_PART, Part, PreparedTask, ShardSet, TokenizerRef, load_keys
from data_prep.sources import SourceFile, source_files, suggestion
from data_prep.splits import Splitter, needed_splits, splitter_of
from data_prep.storage import CorruptError, NotFoundError, Store
from data_prep.storage.scratch import scratch
from data_prep.storage.store import sha256_of
from data_prep.task_types import RowError
from data_prep.templates import BUILT_IN, templates_of
from data_prep.tokenizer import Tokenizer
from data_prep.writing import Limits, PartStore, SplitWriter, digest_of

__all__ = ["Limits", "PrepareProgress", "TokenizerSource", "prepare"]

FORMAT = 2
"""Raised whenever the same input would give other shards: wordings, row mapping, tokenizer conventions."""

NAMED_BAD_ROWS = 5
_READ_ROWS = 2000  # between two reports of progress while rows are only read
_CHECKERS = 8

TokenizerSource = Tokenizer


@dataclass(frozen=True, slots=True)
class PrepareProgress:
    """How far the preparation of a task is; `total` is None where the rows cannot be counted before reading."""

    task: str
    done: int
    total: int | None


OnProgress = Callable[[PrepareProgress], None]


def prepare(
    tasks: Sequence[Task],
    mixture: Mixture,
    *,
    store: Store,
    tokenizer: TokenizerSource,
    limits: Limits,
    base_folder: Path,
    on_progress: OnProgress = lambda progress: None,
    verify: bool = False,
) -> ShardSet:
    """Prepare what is not prepared yet and return the shard set; its manifest is stored when everything is.

    Relative sources are relative to `base_folder`; those in S3 are at the endpoint of `store` if that is in S3 too.
    `verify` reads the sources and every part again and writes anew what does not match. UsageError, DataError and
    StorageError say what is wrong, before any work where possible.
    """
    for task in tasks:
        templates_of(task), needed_columns(task)
    sources = {task.name: source_files(task, base_folder, store) for task in tasks}
    splitters = {task.name: splitter_of(task, (file.split for file in sources[task.name])) for task in tasks}
    prepared: list[PreparedTask] = []
    fresh: dict[tuple[str, Split], Keys] = {}
    with scratch("preparation") as folder:
        works = []
        for task in tasks:
            own = folder / task.name
            own.mkdir()
            work = _Work(task, sources[task.name], splitters[task.name], store, tokenizer, limits, own)
            works.append((work, work.look(mixture.seed, verify=verify)))
        for work, found in works:
            if found.prepared is None:
                done, keys = work.prepare(found, mixture.seed, on_progress, overwrite=verify)
                fresh |= {(done.name, split): split_keys for split, split_keys in keys.items()}
                prepared.append(done)
            else:
                prepared.append(found.prepared)
            shutil.rmtree(work.scratch)
    digest = digest_of(
        {
            "format": FORMAT,
            "tasks": [task.digest for task in prepared],
            "mixture": mixture.model_dump(mode="json", by_alias=True),
            "tokenizer": tokenizer.digest,
            "limits": asdict(limits),
        }
    )
    if not verify and not fresh and (existing := _existing_set(store, digest)) is not None:
        return existing
    trained = {task.name: task.splits["train"].examples for task in prepared if not task.probe}
    shard_set = ShardSet(
        digest=digest,
        tasks=tuple(prepared),
        tokenizer=_store_tokenizer(tokenizer, store, overwrite=verify),
        mixture=mixture.model_dump(mode="json", by_alias=True),
        rates=rates(mixture, trained) if trained else {},
        limits=asdict(limits),
        leakage=leakage_across(_keys(prepared, fresh, store)),
    )
    store.put(ShardSet.key(digest), shard_set.to_json())
    return shard_set


@dataclass(frozen=True, slots=True)
class _Found:
    """A task's files that are read, the sha256 of each, what determines its shards; the task if the store has it."""

    files: list[SourceFile]
    hashes: list[str]
    identity: dict[str, Any]
    prepared: PreparedTask | None


@dataclass(frozen=True, slots=True)
class _Work:
    """The preparation of one task."""

    task: Task
    files: list[SourceFile]
    splitter: Splitter
    store: Store
    tokenizer: Tokenizer
    limits: Limits
    scratch: Path

    def look(self, seed: int, *, verify: bool) -> "_Found":
        """What is to be prepared, and whether the store has it; where it has not, every file has the columns needed."""
        files = [file for file in self.files if file.split in self.splitter.shares]
        hashes = [self._sha256(file, read=verify) for file in files]
        identity = self._identity(seed, [[file.split, sha256] for file, sha256 in zip(files, hashes, strict=True)])
        prepared = _existing_task(self.store, digest_of(identity), read=verify)
        if prepared is None:
            needed = needed_columns(self.task)
            for file in files:
                _check_columns(self.task, file, needed, self.scratch)
        return _Found(files, hashes, identity, prepared)

    def prepare(
        self, found: "_Found", seed: int, on_progress: OnProgress, *, overwrite: bool
    ) -> tuple[PreparedTask, Mapping[Split, Keys]]:
        """The task, prepared now, and the keys of its inputs."""
        used, digest = found.files, digest_of(found.identity)
        meter = _Meter(self.task.name, self._total(used), on_progress)
        bad = _BadRows(self.task)
        keep = self._selection(used, meter) if self.task.limit is not None else None
        writers = self._writers(seed, meter, overwrite=overwrite)
        for split, example in self._examples(used, bad, meter):
            if (keep is None or keep(split, example)) and not bad.fatal:
                writers[split].add(example)
        bad.finish()
        self._check_rows(writers)
        meter.total = sum(writer.rows for writer in writers.values())
        finished = {split: writer.finish() for split, writer in writers.items() if writer.rows}
        keys = {split: found for split, (_, found) in finished.items()}
        prepared = PreparedTask(
            name=self.task.name,
            type=self.task.type,
            probe=self.task.probe,
            digest=digest,
            splits={split: finished[split][0] for split in SPLITS if split in finished},
            bad_rows=bad.summary(),
            leakage=leakage(keys),
            provenance={
                "sources": [
                    {"name": file.name, "split": file.split, "sha256": sha256}
                    for file, sha256 in zip(used, found.hashes, strict=True)
                ],
                "split_rule": self.splitter.rule,
                "identity": found.identity,
            },
        )
        self.store.put(PreparedTask.key(digest), prepared.to_json())
        meter.report()
        return prepared, keys

    def _identity(self, seed: int, files: list[list[str | None]]) -> dict[str, Any]:
        fields = {"name", "type", "columns", "fields", "wordings", "labels", "split", "limit", "probe"}
        fields |= {"on_bad_row", "bad_row_limit"}
        document = self.task.model_dump(mode="json", include=fields)
        return {
            "format": FORMAT,
            "task": document | {"templates": self.task.templates or list(BUILT_IN[self.task.type])},
            "files": files,
            "file_format": self.task.source.format,
            "tokenizer": self.tokenizer.digest,
            "limits": asdict(self.limits),
            "seed": seed,
            "rows_of_a_part": ROWS_OF_A_PART,
        }

    def _sha256(self, file: SourceFile, *, read: bool) -> str:
        """Of a file's contents: as remembered from an earlier reading, or read (and remembered) now."""
        fingerprint = file.fingerprint
        key = f"shards/sources/{sha256_of(fingerprint.encode())}.json" if fingerprint else None
        if key is not None and not read:
            try:
                return str(json.loads(self.store.get(key))["sha256"])
            except (NotFoundError, ValueError, KeyError, TypeError):
                pass
        found = file.sha256(self.scratch)
        if key is not None and file.fingerprint == fingerprint:  # else it changed meanwhile
            self.store.put(key, json.dumps({"source": file.name, "sha256": found}).encode())
        return found

    def _total(self, files: Sequence[SourceFile]) -> int | None:
        counts = [file.count(self.scratch) for file in files]
        return None if None in counts else sum(count for count in counts if count is not None)

    def _writers(self, seed: int, meter: "_Meter", *, overwrite: bool) -> dict[Split, SplitWriter]:
        templates = templates_of(self.task)
        parts = PartStore(self.store, self.scratch, overwrite)
        return {
            split: SplitWriter(
                self.task.name,
                split,
                templates=templates,
                wordings=self.task.wordings,
                seed=seed,
                tokenizer=self.tokenizer,
                limits=self.limits,
                parts=parts,
                advance=meter.advance,
            )
            for split in SPLITS
        }

    def _examples(
        self, files: Sequence[SourceFile], bad: "_BadRows", meter: "_Meter"
    ) -> Iterator[tuple[Split, Example]]:
        make = example_maker(self.task)
        for file in files:
            for row in file.rows(self.scratch):
                meter.read()
                if row.values is None:
                    bad.add(file.name, row.number, row.reason)
                    continue
                try:
                    example = make(row.values)
                except RowError as error:
                    bad.add(file.name, row.number, str(error))
                    continue
                yield self.splitter.split(file.split, example.meta["input"]), example

    def _selection(self, files: Sequence[SourceFile], meter: "_Meter") -> Callable[[Split, Example], bool]:
        """Which rows stay under `limit`: a keyed sample, not the first ones, since files are often sorted.

        Reads the sources once more beforehand; holds 8 bytes a row.
        """
        keys = {split: array("Q") for split in SPLITS}
        bad = _BadRows(self.task)
        for split, example in self._examples(files, bad, meter):
            keys[split].append(_limit_key(example, len(keys[split])))
        bad.finish()
        limit = self.task.limit or 0
        largest = {
            split: int(np.partition(np.frombuffer(found, np.uint64), limit - 1)[limit - 1])
            for split, found in keys.items()
            if len(found) > limit
        }
        seen = dict.fromkeys(SPLITS, 0)

        def keep(split: Split, example: Example) -> bool:
            key = _limit_key(example, seen[split])
            seen[split] += 1
            return split not in largest or key <= largest[split]

        return keep

    def _check_rows(self, writers: Mapping[Split, SplitWriter]) -> None:
        where = f"task {self.task.name}"
        if not any(writer.rows for writer in writers.values()):
            names = ", ".join(file.name for file in self.files[:3])
            raise DataError(f"{where}: there is not one row in {names}")
        for split in needed_splits(self.task):
            if not writers[split].rows:
                raise DataError(
                    f"{where}: its {split} split is empty (rows are {self.splitter.rule})",
                    hint="Give more rows, another split.validation or split.test, or files by source.splits.",
                )


class _Meter:
    """Counts the examples of a task that are done; also tells while rows are only read, so that one can stop there."""

    def __init__(self, task: str, total: int | None, on_progress: OnProgress) -> None:
        self.total = total
        self._task, self._on_progress = task, on_progress
        self._done = self._read = 0

    def read(self) -> None:
        """One row more was read."""
        self._read += 1
        if self._read % _READ_ROWS == 0:
            self.report()

    def advance(self, examples: int) -> None:
        """So many more are done."""
        self._done += examples
        self.report()

    def report(self) -> None:
        """Say how far it is."""
        self._on_progress(PrepareProgress(self._task, self._done, self.total))


class _BadRows:
    """Counts bad rows and decides when they end the preparation."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._count = 0
        self._first: list[str] = []

    @property
    def fatal(self) -> bool:
        """Whether preparation will end because of them: nothing needs to be written any more."""
        return self._count > (self._task.bad_row_limit if self._task.on_bad_row == "skip" else 0)

    def add(self, file: str, number: int, reason: str) -> None:
        """One more; ends at once when there are too many, or enough to name under onBadRow: fail."""
        self._count += 1
        if len(self._first) < NAMED_BAD_ROWS:
            self._first.append(f"{file}:{number}: {reason}")
        if self.fatal and len(self._first) == NAMED_BAD_ROWS:
            self.finish()

    def finish(self) -> None:
        """DataError if there were more than are borne."""
        if not self.fatal:
            return
        lines = "\n".join(self._first)
        if self._task.on_bad_row == "skip":
            raise DataError(
                f"task {self._task.name}: more than {self._task.bad_row_limit:,} bad rows, the first are\n{lines}",
                hint="Is a column mapped wrongly? Or raise badRowLimit.",
            )
        rows = "a bad row" if self._count == 1 else "bad rows, the first are"
        raise DataError(
            f"task {self._task.name}: {rows}\n{lines}",
            hint="Correct them, or leave bad rows out with onBadRow: skip.",
        )

    def summary(self) -> dict[str, Any]:
        """For the manifest."""
        return {"count": self._count, "first": self._first}


def _check_columns(task: Task, file: SourceFile, needed: Sequence[str], scratch: Path) -> None:
    """DataError unless the first row of `file` has the columns needed; a later row without one is a bad row."""
    columns = next((list(row.values) for row in file.rows(scratch) if row.values is not None), None)
    if columns is None:
        return
    for column in needed:
        names = alternatives(column)
        if not any(one in columns for one in names):
            meant = suggestion(names[0], columns)
            raise DataError(
                f"task {task.name}: {file.name} has no column {' or '.join(map(repr, names))}{meant}",
                hint=f"Its columns are {', '.join(map(repr, columns))}. Map them with `columns`; "
                "`a|b` takes whichever of the two a file has.",
            )


def _limit_key(example: Example, ordinal: int) -> int:
    return mix(content_key("limit", example.meta["input"]) ^ mix(ordinal))


def _existing_task(store: Store, digest: str, *, read: bool) -> PreparedTask | None:
    """The task if its manifest and every part are there (by size, with `read` by contents)."""
    try:
        task = PreparedTask.load(store, digest)
    except (NotFoundError, CorruptError):
        return None
    return task if _all_there(store, task.all_parts(), read=read) else None


def _existing_set(store: Store, digest: str) -> ShardSet | None:
    try:
        shard_set = ShardSet.load(store, digest)
    except (NotFoundError, CorruptError):
        return None
    return shard_set if _all_there(store, list(shard_set.tokenizer.files.values()), read=False) else None


def _all_there(store: Store, parts: Sequence[Part], *, read: bool) -> bool:
    def there(part: Part) -> bool:
        if read:
            try:
                return sha256_of(store.get(part.key)) == part.sha256
            except NotFoundError:
                return False
        stat = store.stat(part.key)
        return stat is not None and stat.bytes == part.bytes

    with ThreadPoolExecutor(_CHECKERS) as pool:
        return all(pool.map(there, parts))


def _store_tokenizer(tokenizer: Tokenizer, store: Store, *, overwrite: bool) -> TokenizerRef:
    with scratch("preparation") as folder:
        parts = PartStore(store, folder, overwrite)
        files = {}
        for name, data in tokenizer.files().items():

            def write(path: Path, data: bytes = data) -> None:
                path.write_bytes(data)

            files[name] = parts.put("json", write)
    return TokenizerRef(tokenizer.digest, tokenizer.size, files)


def _keys(
    tasks: Sequence[PreparedTask], fresh: Mapping[tuple[str, Split], Keys], store: Store
) -> dict[tuple[str, Split], Keys]:
    return {
        (task.name, split): fresh[task.name, split] if (task.name, split) in fresh else load_keys(prepared, store)
        for task in tasks
        for split, prepared in task.splits.items()
    }
