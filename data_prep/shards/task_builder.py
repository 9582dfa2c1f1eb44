"""The preparation of one task: what determines it, its rows cut into items, and what the items became."""

import json
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from data_prep.config import SPLITS, Split, Task
from data_prep.shards.manifest import PreparedSplit, PreparedTask
from data_prep.shards.progress import ProgressMeter
from data_prep.shards.reader import load_keys
from data_prep.shards.split_statistics import SplitStatistics, leakage
from data_prep.shards.writer import PrepLimits, PrepSpec, ShardParts, WorkUnit, digest_of, units_prefix
from data_prep.sources.files import SourceFile
from data_prep.sources.plugins import versions
from data_prep.tasks.bad_rows import BadRows
from data_prep.tasks.columns import check_columns
from data_prep.tasks.examples import Example, example_maker, row_transform
from data_prep.tasks.splits import Splitter, needed_splits
from data_prep.text.few_shot import ShotPool, Shots
from data_prep.text.templates import BUILT_IN, templates_of
from data_prep.text.tokenizer import Tokenizer
from raytrain_core.errors import DataError, RowError
from raytrain_core.hashing import content_key, splitmix64
from raytrain_core.storage import NotFoundError, Store
from raytrain_core.storage.store import sha256_of

FORMAT = 4
"""Raised whenever the same input would give other shards: wordings, row mapping, tokenizer conventions."""

ROWS_OF_A_PART = 20_000
TEXT_OF_A_PART = 32 << 20
"""Characters of inputs and targets; with the rows it bounds the memory that an item takes."""


@dataclass(frozen=True)
class TaskSources:
    """A task, its files and how their rows are divided; together with `Settings` all that determines its shards."""

    task: Task
    files: Sequence[SourceFile]
    splitter: Splitter

    @cached_property
    def used(self) -> list[SourceFile]:
        """The files that are read."""
        return [file for file in self.files if file.split in self.splitter.shares]

    def check_columns(self, scratch: Path) -> None:
        """DataError unless the first row of every file has the columns needed; a later one without is a bad row."""
        transform = row_transform(self.task)
        for file in self.used:
            check_columns(self.task, file.name, partial(file.rows, scratch), transform)


@dataclass(frozen=True, slots=True)
class PrepSettings:
    """What is the same for all tasks; with `verify` sources are read and parts are made again."""

    store: Store
    tokenizer: Tokenizer
    limits: PrepLimits
    seed: int
    verify: bool


class TaskWork:
    """One task that is being prepared: gives items, takes what they became, and in the end is the prepared task."""

    def __init__(self, sources: TaskSources, settings: PrepSettings, scratch: Path) -> None:
        """Reads the files whose contents are not known yet, for their sha256; `scratch` is made, for downloads."""
        scratch.mkdir()
        self.task, self._sources, self._settings, self._scratch = sources.task, sources, settings, scratch
        self._fingerprints = [file.fingerprint for file in sources.used]
        self._hashes = [self._sha256(*pair) for pair in zip(sources.used, self._fingerprints, strict=True)]
        self._identity = self._identify()
        self.digest = digest_of(self._identity)
        self._bad = BadRows(self.task)
        self._masked: Counter[str] = Counter()
        self._gathered = {split: _Gathered() for split in SPLITS}
        self._all_given = False

    @property
    def complete(self) -> bool:
        """Whether all items were given and have become something."""
        return self._all_given and all(split.missing == 0 for split in self._gathered.values())

    def check_columns(self) -> None:
        """As `TaskSources.check_columns`."""
        self._sources.check_columns(self._scratch)

    def items(self, meter: ProgressMeter) -> Iterator[WorkUnit]:
        """Read the rows once and give every item of the task; DataError for rows that end the preparation."""
        meter.working_on(self.task.name)
        limit = self._limit(meter) if self.task.limit is not None else None
        recipe = self._recipe(self._shots(limit, meter))
        cutters = {split: _Cutter(split, recipe, self._settings) for split in SPLITS}
        keep = limit.keeper() if limit is not None else None
        for split, example in self._examples(self._bad, meter):
            if (keep is None or keep(split, example)) and not self._bad.fatal:
                self._masked.update(example.masked)
                yield from self._given(cutters[split].add(example))
        self._bad.finish()
        self._check_rows({split: cutter.rows for split, cutter in cutters.items()})
        meter.expect(self.task.name, sum(cutter.rows for cutter in cutters.values()))
        for cutter in cutters.values():
            yield from self._given(cutter.rest())
        self._all_given = True

    def take(self, split: Split, number: int, made: ShardParts) -> None:
        """What item `number` of a split has become."""
        self._gathered[split].made[number] = made

    def finish(self) -> PreparedTask:
        """Put the manifest of the complete task; forget which items were made for it, and what was downloaded."""
        store = self._settings.store
        splits = {
            split: gathered.split(store, self._recipe().variants_of(split))
            for split, gathered in self._gathered.items()
            if gathered.made
        }
        prepared = PreparedTask(
            name=self.task.name,
            type=self.task.type,
            probe=self.task.probe,
            digest=self.digest,
            splits=splits,
            bad_rows=self._bad.summary(),
            leakage=leakage({split: load_keys(found, store) for split, found in splits.items()}),
            provenance={
                "sources": [
                    {"name": file.name, "split": file.split, "sha256": sha256}
                    for file, sha256 in zip(self._sources.used, self._hashes, strict=True)
                ],
                "split_rule": self._sources.splitter.rule,
                "left_out_rows": self._bad.left_out,
                "masked": dict(self._masked.most_common()),
                "identity": self._identity,
            },
        )
        store.put(PreparedTask.key(self.digest), prepared.to_json())
        store.delete([stat.key for stat in store.list(units_prefix(self.digest))])
        shutil.rmtree(self._scratch)
        return prepared

    def count(self) -> int | None:
        """About how many rows there are, None where only reading them all would tell."""
        if self.task.limit is not None:
            return None
        counts = [file.count(self._scratch) for file in self._sources.used]
        return None if None in counts else sum(count for count in counts if count is not None)

    def _recipe(self, shots: Shots | None = None) -> PrepSpec:
        settings = self._settings
        return PrepSpec(
            self.task.name,
            self.digest,
            templates_of(self.task),
            self.task.templates_per_example,
            settings.seed,
            settings.tokenizer,
            settings.limits,
            shots,
        )

    def _given(self, items: Iterable[WorkUnit]) -> Iterator[WorkUnit]:
        for item in items:
            self._gathered[item.split].given += 1
            yield item

    def _identify(self) -> dict[str, Any]:
        fields = {"name", "type", "columns", "fields", "templates_per_example", "labels", "split", "limit", "probe"}
        fields |= {
            "on_bad_row",
            "bad_row_limit",
            "transform",
            "where",
            "mask",
            "few_shot",
            "target_format",
            "label_names",
        }
        document = self.task.model_dump(mode="json", include=fields)
        used = zip(self._sources.used, self._hashes, strict=True)
        return {
            "format": FORMAT,
            "task": document | {"templates": self.task.templates or list(BUILT_IN[self.task.type])},
            "functions": versions(self.task.transform, f"task {self.task.name}"),
            "files": [[file.split, sha256] for file, sha256 in used],
            "file_format": self.task.source.format,
            "tokenizer": self._settings.tokenizer.digest,
            "limits": asdict(self._settings.limits),
            "seed": self._settings.seed,
            "part": [ROWS_OF_A_PART, TEXT_OF_A_PART],
        }

    def _sha256(self, file: SourceFile, fingerprint: str | None) -> str:
        """Of a file's contents: as remembered from an earlier reading, or read (and remembered) now."""
        store = self._settings.store
        key = f"shards/sources/{sha256_of(fingerprint.encode())}.json" if fingerprint else None
        if key is not None and not self._settings.verify:
            try:
                return str(json.loads(store.get(key))["sha256"])
            except (NotFoundError, ValueError, KeyError, TypeError):
                pass
        found = file.sha256(self._scratch)
        if key is not None and file.fingerprint == fingerprint:  # else it changed meanwhile
            store.put(key, json.dumps({"source": file.name, "sha256": found}).encode())
        return found

    def _examples(self, bad: BadRows, meter: ProgressMeter) -> Iterator[tuple[Split, Example]]:
        make = example_maker(self.task)
        for file, fingerprint in zip(self._sources.used, self._fingerprints, strict=True):
            for row in file.rows(self._scratch):
                meter.read()
                if row.values is None:
                    bad.add(file.name, row.number, row.reason)
                    continue
                try:
                    example = make(row.values)
                except RowError as error:
                    bad.add(file.name, row.number, str(error))
                    continue
                if example is None:
                    bad.left_out += 1
                    continue
                yield self._sources.splitter.split(file.split, example.meta["input"]), example
            if fingerprint is not None and file.fingerprint != fingerprint:
                raise DataError(
                    f"task {self.task.name}: {file.name} was changed while it was read",
                    hint="Run the same command again when nobody writes to it.",
                )

    def _limit(self, meter: ProgressMeter) -> "_Limit":
        """Reads the sources once more beforehand."""
        keys = {split: array("Q") for split in SPLITS}
        bad = BadRows(self.task)
        for split, example in self._examples(bad, meter):
            keys[split].append(_limit_key(example, len(keys[split])))
        bad.finish()
        limit = self.task.limit or 0
        meter.expect(self.task.name, sum(min(len(found), limit) for found in keys.values()))
        return _Limit.of(keys, limit)

    def _shots(self, limit: "_Limit | None", meter: ProgressMeter) -> Shots | None:
        """Reads the sources once more beforehand."""
        wished = self.task.few_shot
        if wished is None:
            return None
        pool, bad = ShotPool(self._settings.seed), BadRows(self.task)
        keep = limit.keeper() if limit is not None else None
        for split, example in self._examples(bad, meter):
            if (keep is None or keep(split, example)) and split == "train":
                pool.add(example.input, example.targets[0])
        bad.finish()
        return Shots(pool.shots(), wished.share, wished.examples, self._settings.seed)

    def _check_rows(self, rows: Mapping[Split, int]) -> None:
        where = f"task {self.task.name}"
        if not any(rows.values()):
            names = ", ".join(file.name for file in self._sources.files[:3])
            left_out = self._bad.left_out
            raise DataError(
                f"{where}: there is not one row in {names}"
                + (f" that it wants ({left_out:,} are left out by where or transform)" if left_out else "")
            )
        for split in needed_splits(self.task):
            if not rows[split]:
                raise DataError(
                    f"{where}: its {split} split is empty (rows are {self._sources.splitter.rule})",
                    hint="Give more rows, another split.validation or split.test, or files by source.splits.",
                )


@dataclass(frozen=True, slots=True)
class _Limit:
    """Which rows stay under `limit`: a keyed sample, not the first ones, since files are often sorted."""

    largest: Mapping[Split, int]
    """The largest key that stays, of the splits that are too long."""

    @classmethod
    def of(cls, keys: "Mapping[Split, array[int]]", limit: int) -> Self:
        """The keys of all rows, 8 bytes each."""
        return cls(
            {
                split: int(np.partition(np.frombuffer(found, np.uint64), limit - 1)[limit - 1])
                for split, found in keys.items()
                if len(found) > limit
            }
        )

    def keeper(self) -> Callable[[Split, Example], bool]:
        """Whether an example stays; to be asked of all of them, in the order in which they are read."""
        seen = dict.fromkeys(SPLITS, 0)

        def keep(split: Split, example: Example) -> bool:
            key = _limit_key(example, seen[split])
            seen[split] += 1
            return split not in self.largest or key <= self.largest[split]

        return keep


class _Cutter:
    """Cuts the examples of one split into items, always at the same places."""

    def __init__(self, split: Split, recipe: PrepSpec, settings: PrepSettings) -> None:
        self._split, self._recipe, self._settings = split, recipe, settings
        self._buffer: list[Example] = []
        self._text = self._number = self.rows = 0
        self._seen: dict[str, int] = {}

    def add(self, example: Example) -> Iterator[WorkUnit]:
        """The next example; gives the item that is full then, if one is."""
        if example.id is not None:
            example = Example(example.input, example.targets, example.meta, self._unique(example.id))
        self._buffer.append(example)
        self._text += len(example.input) + sum(map(len, example.targets))
        self.rows += 1
        if len(self._buffer) == ROWS_OF_A_PART or self._text >= TEXT_OF_A_PART:
            yield from self.rest()

    def rest(self) -> Iterator[WorkUnit]:
        """The item of the examples that were not given yet, if there are any."""
        if self._buffer:
            examples, self._buffer, self._text = self._buffer, [], 0
            start, number = self.rows - len(examples), self._number
            self._number += 1
            settings = self._settings
            yield WorkUnit(self._recipe, self._split, number, start, examples, settings.store, settings.verify)

    def _unique(self, identifier: str) -> str:
        """The row's own id; where the split had it before, with the number of the occurrence (`q7`, `q7-2`, ...).

        Scores before and after are paired by id. This keeps all ids of the split in memory.
        """
        number = self._seen.get(identifier, 0) + 1
        unique = identifier if number == 1 else f"{identifier}-{number}"
        while number > 1 and unique in self._seen:  # some row has just that for its own id
            number += 1
            unique = f"{identifier}-{number}"
        self._seen[identifier] = number
        self._seen.setdefault(unique, 1)
        return unique


class _Gathered:
    """What the items of one split have become, by their numbers."""

    def __init__(self) -> None:
        self.given = 0
        self.made: dict[int, ShardParts] = {}

    @property
    def missing(self) -> int:
        """Items that were given and are not made yet."""
        return self.given - len(self.made)

    def split(self, store: Store, variants: int) -> PreparedSplit:
        """All items together."""
        made = [self.made[number] for number in sorted(self.made)]
        statistics = SplitStatistics()
        for one in made:
            statistics.merge(one.statistics)
        split = PreparedSplit(
            examples=sum(one.pairs[0].rows for one in made),
            variants=variants,
            parts=tuple(tuple(one.pairs[variant] for one in made) for variant in range(variants)),
            keys=tuple(one.keys for one in made),
            statistics={},
        )
        return replace(split, statistics=statistics.summary(load_keys(split, store)))


def _limit_key(example: Example, ordinal: int) -> int:
    return splitmix64(content_key("limit", example.meta["input"]) ^ splitmix64(ordinal))
