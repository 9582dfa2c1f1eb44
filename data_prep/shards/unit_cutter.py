"""Cuts the examples of one split into work units, always at the same rows."""

from collections.abc import Iterator

import numpy as np

from data_prep.config import Split
from data_prep.shards import task_sources
from data_prep.shards.blocks import Block, Segment
from data_prep.shards.settings import PrepSettings
from data_prep.shards.work_unit import PrepSpec, UnitPlan


class UnitCutter:
    """Takes the blocks of a split in reading order and yields the units that are full."""

    def __init__(self, split: Split, spec: PrepSpec, settings: PrepSettings) -> None:
        self._split, self._spec, self._settings = split, spec, settings
        self._segments: list[Segment] = []
        self._renamed: dict[int, str] = {}
        self._size = self._characters = self._number = 0  # of the unit that is being filled
        self._occurrences: dict[str, int] = {}
        self.rows = 0
        """Of all blocks so far."""

    def add(self, block: Block) -> Iterator[UnitPlan]:
        """Takes the next block; yields the units that are full with it."""
        total = np.cumsum(block.characters, dtype=np.int64)
        start, count = 0, len(total)
        while start < count:
            before = int(total[start - 1]) if start else 0
            missing = task_sources.TEXT_OF_A_UNIT - self._characters
            full = int(np.searchsorted(total, before + missing)) + 1  # after the row that fills it
            stop = min(start + task_sources.ROWS_OF_A_UNIT - self._size, full, count)
            self._take(block, start, stop, int(total[stop - 1]) - before)
            start = stop
            if self._size == task_sources.ROWS_OF_A_UNIT or self._characters >= task_sources.TEXT_OF_A_UNIT:
                yield from self.rest()

    def rest(self) -> Iterator[UnitPlan]:
        """Yields the unit of the examples that are left, if there are any."""
        if not self._segments:
            return
        settings = self._settings
        yield UnitPlan(
            self._spec,
            self._split,
            self._number,
            self.rows - self._size,
            self._size,
            self._segments,
            self._renamed,
            settings.store,
            settings.verify,
        )
        self._segments, self._renamed = [], {}
        self._size = self._characters = 0
        self._number += 1

    def _take(self, block: Block, start: int, stop: int, characters: int) -> None:
        for i, identifier in enumerate(block.ids[start:stop] if block.ids is not None else (), self._size):
            if (unique := self._unique(identifier)) != identifier:
                self._renamed[i] = unique
        self._segments.append(Segment(block.examples, start, stop))
        self._size += stop - start
        self._characters += characters
        self.rows += stop - start

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
