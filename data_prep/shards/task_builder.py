"""Prepares one task: cuts work units, collects their parts, and stores the task's manifest."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from data_prep.config import SPLITS, Split
from data_prep.shards.held_rows import HELD_ROWS
from data_prep.shards.leakage import leakage
from data_prep.shards.manifest import NearTwins, PreparedSplit, PreparedTask
from data_prep.shards.near_twins import Found, find_near_twins
from data_prep.shards.parts import load_keys
from data_prep.shards.progress import ProgressMeter
from data_prep.shards.row_limit import Keepers, RowLimit
from data_prep.shards.settings import PrepSettings
from data_prep.shards.split_statistics import SplitStatistics
from data_prep.shards.task_sources import TaskSources
from data_prep.shards.unit_cutter import UnitCutter
from data_prep.shards.work_unit import PrepSpec, ShardParts, UnitPlan, units_prefix
from data_prep.shards.workers import Workers
from data_prep.tally import Event, Tally
from data_prep.tasks.bad_rows import BadRows
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
        self._held_out: list[UnitPlan] = []
        """The units of held-out rows, if rows may be dropped from them."""
        self._dropped = Tally()

    @property
    def complete(self) -> bool:
        """Whether all units were given and their parts were taken."""
        return self._all_given and all(parts.missing == 0 for parts in self._parts.values())

    def count(self) -> int | None:
        """About how many examples there will be; None if only reading them all would tell."""
        return self._sources.count()

    def units(self, meter: ProgressMeter, workers: Workers) -> Iterator[UnitPlan]:
        """Lets the workers read the rows and yields every work unit.

        Raises DataError for rows that end the preparation.
        """
        meter.start_task(self.task.name)
        self._sources.read_profile(meter, workers)
        keepers = self._keepers(meter, workers)
        cutters = self._cutters(self._shots(keepers, meter, workers))
        for _, chunk in self._sources.read("examples", self._bad, meter, workers, keepers):
            if not self._bad.fatal:
                for split, block in chunk.blocks.items():
                    yield from self._count(cutters[split].add(block))
        self._bad.check()
        self._check_rows({split: cutter.rows for split, cutter in cutters.items()})
        meter.expect(self.task.name, sum(cutter.rows for cutter in cutters.values()))
        for cutter in cutters.values():
            yield from self._count(cutter.rest())
        self._all_given = True

    def take(self, split: Split, number: int, parts: ShardParts) -> None:
        """Accepts the parts of unit `number` of a split."""
        self._parts[split].done[number] = parts

    def finish(self, meter: ProgressMeter, workers: Workers) -> PreparedTask:
        """Marks or drops near-twins and stores the manifest of the complete task.

        Deletes the records of its units and its downloads. Raises DataError if dropping leaves
        nothing of a split.
        """
        store = self._settings.store
        splits = self._splits()
        drop = self.task.near_twins == "drop"
        most = None if drop else HELD_ROWS
        found = find_near_twins(self.task.name, splits, store, workers, most=most, on_wait=meter.report)
        if drop:
            self._drop(found, workers)
            splits = self._splits()
        for split, one in found.items():
            splits[split] = replace(splits[split], near_twins=NearTwins((), one.compared) if drop else one.marks())
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

    def _keepers(self, meter: ProgressMeter, workers: Workers) -> Keepers | None:
        """Reads the sources once more beforehand if the task has a limit."""
        if self.task.limit is None:
            return None
        bad, limit = BadRows(self.task), RowLimit(self.task.limit)
        for span, chunk in self._sources.read("keys", bad, meter, workers):
            limit.add(span, chunk.keys)
        bad.check()
        meter.expect(self.task.name, limit.rows)
        return limit.keepers()

    def _shots(self, keepers: Keepers | None, meter: ProgressMeter, workers: Workers) -> Shots | None:
        """Reads the sources once more beforehand if the task shows few-shot examples."""
        few_shot = self.task.few_shot
        if few_shot is None:
            return None
        pool, bad = ShotPool(self._settings.seed), BadRows(self.task)
        for _, chunk in self._sources.read("shots", bad, meter, workers, keepers):
            for shot in chunk.shots:
                pool.add(shot.input, shot.target)
        bad.check()
        return Shots(pool.shots(), few_shot.share, few_shot.examples, self._settings.seed)

    def _splits(self) -> dict[Split, PreparedSplit]:
        spec, store = self._spec(), self._settings.store
        found = {split: parts for split, parts in self._parts.items() if parts.done}
        return {split: parts.merge(store, spec.variants_of(split)) for split, parts in found.items()}

    def _drop(self, found: Mapping[Split, Found], workers: Workers) -> None:
        """Writes the units again that hold rows with a near-twin, without these rows."""
        for split, one in found.items():
            if len(one.rows) == len(one.ids):
                raise DataError(
                    f"task {self.task.name}: every {split} row has a near-twin in training, so none is left",
                    hint="Hold out other rows, or set nearTwins: keep.",
                )
            if unknown := len(one.ids) - one.compared:
                where = self._sources.files[0].name
                self._dropped.add("near-twins-unknown", where, note=f"{split} rows", count=unknown)
        for unit in self._held_out if found else []:  # a probe has no training rows
            rows = found[unit.split].rows - unit.start
            places = frozenset(rows[(rows >= 0) & (rows < unit.rows)].tolist())
            if not places:
                continue
            for place, example in enumerate(unit.load().examples):
                if place in places:
                    self._dropped.add_row(*example.place, [Event("near-twin", f"{unit.split} row")], read=False)
            parts = self._parts[unit.split].done
            if len(places) == unit.rows:
                del parts[unit.number]
            else:
                kept = workers.submit(replace(unit, left_out=places), lambda examples: None)
                parts[unit.number] = kept.result()

    def _tally(self) -> Tally:
        """What happened to all rows, from the files to the model's input."""
        tally = self._sources.profile.tally(self._sources.files[0].name)
        units = (parts.tally() for parts in self._parts.values())
        for part in [self._sources.tally(), self._bad.tally, self._dropped, *units]:
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

    def _cutters(self, shots: Shots | None) -> dict[Split, UnitCutter]:
        spec = self._spec(shots)
        return {split: UnitCutter(split, spec, self._settings) for split in SPLITS}

    def _count(self, units: Iterable[UnitPlan]) -> Iterator[UnitPlan]:
        for unit in units:
            self._parts[unit.split].given += 1
            if self.task.near_twins == "drop" and unit.split != "train":
                self._held_out.append(unit)
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
