"""Applies a task's `limit`: keeps a keyed sample of each split.

It is not the first rows, because files are often sorted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from data_prep.config import SPLITS, Split
from data_prep.tasks.examples import Example
from raytrain_core.hashing import content_key, splitmix64

Keys = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Keeper:
    """Says which examples of a span stay."""

    largest: Mapping[Split, int]
    """The largest key that stays, for the splits with more rows than the limit."""
    before: Mapping[Split, int]
    """Examples of each split before the span."""

    def keeps(self, split: Split, example: Example, ordinal: int) -> bool:
        """Whether an example stays that has `ordinal` others of its split before it in the span."""
        if split not in self.largest:
            return True
        ordinal += self.before.get(split, 0)
        return splitmix64(_content_key(example) ^ splitmix64(ordinal)) <= self.largest[split]


@dataclass(slots=True)
class RowLimit:
    """Which rows stay: those with the smallest keys of their split, 8 bytes each."""

    limit: int
    _keys: dict[Split, list[Keys]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    _counts: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    _before: list[dict[Split, int]] = field(default_factory=list)

    def add(self, span: int, keys: Mapping[Split, Keys]) -> None:
        """Takes the `content_keys` of more examples, in reading order.

        `span` is the number of the span that they are in.
        """
        if span == len(self._before):
            self._before.append(dict(self._counts))
        for split, found in keys.items():
            ordinals = np.arange(self._counts[split], self._counts[split] + len(found), dtype=np.uint64)
            self._keys[split].append(splitmix64(found ^ splitmix64(ordinals)))
            self._counts[split] += len(found)

    @property
    def rows(self) -> int:
        """How many stay in all splits together."""
        return sum(min(count, self.limit) for count in self._counts.values())

    def keepers(self) -> "Keepers":
        """Returns, once all keys were added, what says of every span which examples stay."""
        largest = {
            split: int(np.partition(np.concatenate(keys), self.limit - 1)[self.limit - 1])
            for split, keys in self._keys.items()
            if self._counts[split] > self.limit
        }
        return Keepers(largest, self._before)


@dataclass(frozen=True, slots=True)
class Keepers:
    """A `Keeper` for every span, in reading order."""

    largest: Mapping[Split, int]
    before: Sequence[Mapping[Split, int]]

    def of(self, span: int) -> Keeper:
        """Returns that of the span of this number."""
        return Keeper(self.largest, self.before[span])


def content_keys(examples: Sequence[Example]) -> Keys:
    """Returns the part of the examples' keys that depends on their contents."""
    return np.array([_content_key(example) for example in examples], np.uint64)


def _content_key(example: Example) -> int:
    return content_key("limit", example.meta["input"])
