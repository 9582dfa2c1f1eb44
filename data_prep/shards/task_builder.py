"""Prepares one task: cuts work units, collects their parts, and stores the task's manifest."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from data_prep.config import SPLITS, Split
from data_prep.shards import task_sources
from data_prep.shards.leakage import leakage
from data_prep.shards.manifest import PreparedSplit, PreparedTask
from data_prep.shards.parts import load_keys
from data_prep.shards.progress import ProgressMeter
from data_prep.shards.row_limit import Keep, RowLimit
from data_prep.shards.settings import PrepSettings
from data_prep.shards.split_statistics import SplitStatistics
from data_prep.shards.task_sources import TaskSources
from data_prep.shards.work_unit import PrepSpec, ShardParts, WorkUnit, units_prefix
from data_prep.tally import Event, Tally
from data_prep.tasks.bad_rows import BadRows
from data_prep.tasks.examples import Example
from data_prep.tasks.splits import needed_splits
from data_prep.text.few_shot import ShotPool, Shots
from data_prep.text.templates import templates_of
from raytrain_core.errors import DataError
from raytrain_core.storage import Store


class TaskBuilder:
    """Yields the work units of one task, takes their parts, and stores the prepared task."""

    def __init__(self, sources: TaskSources, settings: PrepSettings) -> None:
        self.task, self.digest = sources.task, sources.digest
        self._sources, self._settings = sources, settings
        self._bad = BadRows(self.task)
        self._parts = {split: _SplitParts() for split in SPLITS}
        self._all_given = False

    @property
    def complete(self) -> bool:
        """Whether all units were given and their parts were taken."""
        return self._all_given and all(parts.missing == 0 for parts in self._parts.values())

    def count(self) -> int | None:
        """About how many examples there will be; None if only reading them all would tell."""
        return self._sources.count()

    def units(self, meter: ProgressMeter) -> Iterator[WorkUnit]:
        """Reads the rows once and yields every work unit.

        Raises DataError for rows that end the preparation.
        """
        meter.start_task(self.task.name)
        limit = self._limit(meter)
        cutters = self._cutters(self._shots(limit, meter))
        for split, example in self._kept(self._bad, limit, meter):
            if not self._bad.fatal:
                yield from self._count(cutters[split].add(example))
        self._bad.check()
        self._check_rows({split: cutter.rows for split, cutter in cutters.items()})
        meter.expect(self.task.name, sum(cutter.rows for cutter in cutters.values()))
        for cutter in cutters.values():
            yield from self._count(cutter.rest())
        self._all_given = True

    def take(self, split: Split, number: int, parts: ShardParts) -> None:
        """Accepts the parts of unit `number` of a split."""
        self._parts[split].done[number] = parts

    def finish(self) -> PreparedTask:
        """Stores the manifest of the complete task.

        Deletes the records of its units and its downloads.
        """
        store = self._settings.store
        spec = self._spec()
        splits = {
            split: parts.merge(store, spec.variants_of(split)) for split, parts in self._parts.items() if parts.done
        }
        prepared = PreparedTask(
            name=self.task.name,
            type=self.task.type,
            probe=self.task.probe,
            digest=self.digest,
            splits=splits,
            tally=self._tally().to_json(),
            leakage=leakage({split: load_keys(prepared, store) for split, prepared in splits.items()}),
            provenance={
                "sources": self._sources.provenance(),
                "split_rule": self._sources.splitter.rule,
                "detected": list(self._sources.profile.detected),
                "identity": self._sources.identity,
            },
        )
        store.put(PreparedTask.key(self.digest), prepared.to_json())
        store.delete([stat.key for stat in store.list(units_prefix(self.digest))])
        shutil.rmtree(self._sources.scratch)
        return prepared

    def _limit(self, meter: ProgressMeter) -> RowLimit | None:
        """Reads the sources once more beforehand if the task has a limit."""
        if self.task.limit is None:
            return None
        bad = BadRows(self.task)
        limit = RowLimit.of(self._sources.examples(bad, meter), self.task.limit)
        bad.check()
        meter.expect(self.task.name, limit.rows)
        return limit

    def _shots(self, limit: RowLimit | None, meter: ProgressMeter) -> Shots | None:
        """Reads the sources once more beforehand if the task shows few-shot examples."""
        few_shot = self.task.few_shot
        if few_shot is None:
            return None
        pool, bad = ShotPool(self._settings.seed), BadRows(self.task)
        for split, example in self._kept(bad, limit, meter):
            if split == "train":
                pool.add(example.input, example.targets[0])
        bad.check()
        return Shots(pool.shots(), few_shot.share, few_shot.examples, self._settings.seed)

    def _kept(self, bad: BadRows, limit: RowLimit | None, meter: ProgressMeter) -> Iterator[tuple[Split, Example]]:
        """Yields the examples within the task's limit."""
        keep: Keep | None = limit.keeper() if limit is not None else None
        for split, example in self._sources.examples(bad, meter):
            if keep is None or keep(split, example):
                bad.tally.add_row(*example.place, example.events)
                yield split, example
            else:
                bad.tally.add_row(*example.place, [Event("limit")])

    def _tally(self) -> Tally:
        """What happened to all rows, from the files to the model's input."""
        tally = Tally()
        for found in self._sources.profile.detected:
            tally.add("detected", self._sources.files[0].name, note=found)
        for part in [self._sources.tally(), self._bad.tally, *(parts.tally() for parts in self._parts.values())]:
            tally.merge(part)
        return tally

    def _spec(self, shots: Shots | None = None) -> PrepSpec:
        return PrepSpec(
            task=self.task.name,
            digest=self.digest,
            templates=templates_of(self.task),
            templates_per_example=self.task.templates_per_example,
            seed=self._settings.seed,
            tokenizer=self._settings.tokenizer,
            limits=self._settings.limits,
            shots=shots,
        )

    def _cutters(self, shots: Shots | None) -> dict[Split, "_UnitCutter"]:
        spec = self._spec(shots)
        return {split: _UnitCutter(split, spec, self._settings) for split in SPLITS}

    def _count(self, units: Iterable[WorkUnit]) -> Iterator[WorkUnit]:
        for unit in units:
            self._parts[unit.split].given += 1
            yield unit

    def _check_rows(self, rows: Mapping[Split, int]) -> None:
        where = f"task {self.task.name}"
        if not any(rows.values()):
            names = ", ".join(file.name for file in self._sources.files[:3])
            left_out = self._bad.left_out
            raise DataError(
                f"{where}: no rows in {names}"
                + (f" ({left_out:,} are left out by where or transform)" if left_out else "")
                + "".join(f"\n{bad}" for bad in self._bad.first),
                hint=f"{self._bad.count:,} bad rows were skipped; the first are named." if self._bad.count else None,
            )
        for split in needed_splits(self.task):
            if not rows[split]:
                raise DataError(
                    f"{where}: its {split} split is empty (rows: {self._sources.splitter.rule})",
                    hint="Give more rows, another split.validation or split.test, or files by source.splits.",
                )


class _UnitCutter:
    """Cuts the examples of one split into work units, always at the same rows."""

    def __init__(self, split: Split, spec: PrepSpec, settings: PrepSettings) -> None:
        self._split, self._spec, self._settings = split, spec, settings
        self._buffer: list[Example] = []
        self._text = self._number = self.rows = 0
        self._occurrences: dict[str, int] = {}

    def add(self, example: Example) -> Iterator[WorkUnit]:
        """Takes the next example; yields the unit that is full with it, if one is."""
        if example.id is not None:
            example = replace(example, id=self._unique(example.id))
        self._buffer.append(example)
        self._text += len(example.input) + sum(map(len, example.targets))
        self.rows += 1
        if len(self._buffer) == task_sources.ROWS_OF_A_UNIT or self._text >= task_sources.TEXT_OF_A_UNIT:
            yield from self.rest()

    def rest(self) -> Iterator[WorkUnit]:
        """Yields the unit of the examples that are left, if there are any."""
        if self._buffer:
            examples, self._buffer, self._text = self._buffer, [], 0
            start, number = self.rows - len(examples), self._number
            self._number += 1
            settings = self._settings
            yield WorkUnit(self._spec, self._split, number, start, examples, settings.store, settings.verify)

    def _unique(self, identifier: str) -> str:
        """Returns the row's own id; repeated ids get a number (`q7`, `q7-2`, ...).

        Scores before and after training are paired by id. This keeps all ids of the split in
        memory.
        """
        number = self._occurrences.get(identifier, 0) + 1
        unique = identifier if number == 1 else f"{identifier}-{number}"
        while number > 1 and unique in self._occurrences:  # some row has exactly that as its own id
            number += 1
            unique = f"{identifier}-{number}"
        self._occurrences[identifier] = number
        self._occurrences.setdefault(unique, 1)
        return unique


class _SplitParts:
    """The parts of one split's work units, by number."""

    def __init__(self) -> None:
        self.given = 0
        self.done: dict[int, ShardParts] = {}

    @property
    def missing(self) -> int:
        """Units that were given and whose parts were not taken yet."""
        return self.given - len(self.done)

    def tally(self) -> Tally:
        """What was cut, in all units together."""
        tally = Tally()
        for parts in self.done.values():
            tally.merge(parts.tally)
        return tally

    def merge(self, store: Store, variants: int) -> PreparedSplit:
        """Returns the split that all units make together."""
        units = [self.done[number] for number in sorted(self.done)]
        statistics = SplitStatistics()
        for parts in units:
            statistics.merge(parts.statistics)
        split = PreparedSplit(
            examples=sum(parts.pairs[0].rows for parts in units),
            variants=variants,
            parts=tuple(tuple(parts.pairs[variant] for parts in units) for variant in range(variants)),
            keys=tuple(parts.keys for parts in units),
            statistics={},
        )
        return replace(split, statistics=statistics.summary(load_keys(split, store)))
