"""Applies a task's `limit`: keeps a keyed sample of each split.

It is not the first rows, because files are often sorted.
"""

from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from data_prep.config import SPLITS, Split
from data_prep.tasks.examples import Example
from raytrain_core.hashing import content_key, splitmix64

Keep = Callable[[Split, Example], bool]


@dataclass(frozen=True, slots=True)
class RowLimit:
    """Which rows stay: those with the smallest keys of their split."""

    largest: Mapping[Split, int]
    """The largest key that stays, for the splits with more rows than the limit."""
    rows: int
    """How many stay in all splits together."""

    @classmethod
    def of(cls, examples: Iterable[tuple[Split, Example]], limit: int) -> Self:
        """Reads all examples once and keeps 8 bytes for each."""
        keys = {split: array("Q") for split in SPLITS}
        for split, example in examples:
            keys[split].append(_key(example, len(keys[split])))
        largest = {
            split: int(np.partition(np.frombuffer(values, np.uint64), limit - 1)[limit - 1])
            for split, values in keys.items()
            if len(values) > limit
        }
        return cls(largest, sum(min(len(values), limit) for values in keys.values()))

    def keeper(self) -> Keep:
        """Returns a function that says whether an example stays.

        Call it for all of them in reading order.
        """
        seen = dict.fromkeys(SPLITS, 0)

        def keep(split: Split, example: Example) -> bool:
            key = _key(example, seen[split])
            seen[split] += 1
            return split not in self.largest or key <= self.largest[split]

        return keep


def _key(example: Example, ordinal: int) -> int:
    return splitmix64(content_key("limit", example.meta["input"]) ^ splitmix64(ordinal))
