"""The held-out rows that are compared with training rows: a bounded sample of a split."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from data_prep.config import Split
from data_prep.shards.manifest import PreparedSplit
from data_prep.shards.twin_job import Numbers, ids_and_inputs
from raytrain_core.hashing import content_key, sample_keys
from raytrain_core.storage import Store

HELD_ROWS = 5000
"""Rows of a split compared by 8-grams: the keyed sample that scoring draws from too."""
HELD_TEXT = 8 << 20
"""Characters of a split compared by 8-grams; an index of twice as many takes about 310 MiB."""

_BATCH = 100


@dataclass(frozen=True, slots=True)
class HeldRows:
    """A held-out split: all ids, and numbers (ascending) and inputs of the rows to compare."""

    ids: Sequence[str]
    chosen: Numbers
    texts: Sequence[str]

    @classmethod
    def read(
        cls, task: str, split: Split, prepared: PreparedSplit, store: Store, *, most: int | None, text: int
    ) -> Self:
        """Chooses rows in the order of scoring's sample, so that those scored come first.

        At most `most` rows (None for all) and about `text` characters, but at least one row. Raises
        CorruptError or StorageError if a part cannot be read.
        """
        order = sample_keys(prepared.examples, content_key("sample", task, split))
        rows = _Chosen(text)
        last = None if most is None or most >= len(order) else np.partition(order, most - 1)[most - 1]
        ids: list[str] = []
        for pair in prepared.parts[0]:
            for identifiers, inputs in ids_and_inputs(pair, store):
                for number, one in enumerate(inputs, len(ids)):
                    if last is None or order[number] <= last:
                        rows.add(int(order[number]), number, one)
                ids += identifiers
        numbers, texts = rows.by_number()
        return cls(ids, np.array(numbers, np.int64), texts)

    def batches(self) -> Iterator[Sequence[str]]:
        """Yields the texts of some rows at a time: their words take several times the memory."""
        for first in range(0, len(self.texts), _BATCH):
            yield self.texts[first : first + _BATCH]


class _Chosen:
    """Rows with the smallest keys whose texts have about `most` characters together."""

    def __init__(self, most: int) -> None:
        self._most, self._characters = most, 0
        self._rows: list[tuple[int, int, str]] = []  # a heap with the largest key first: (-key, number, text)

    def add(self, key: int, number: int, text: str) -> None:
        heapq.heappush(self._rows, (-key, number, text))
        self._characters += len(text)
        while self._characters > self._most and len(self._rows) > 1:
            self._characters -= len(heapq.heappop(self._rows)[2])

    def by_number(self) -> tuple[list[int], list[str]]:
        ordered = sorted(self._rows, key=lambda row: row[1])
        return [number for _, number, _ in ordered], [text for _, _, text in ordered]
