"""Reads the token parts of prepared splits: memory-mapped, and verified before they are used."""

import bisect
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.config import Split
from data_prep.shards.manifest import PartPair, PreparedSplit, ShardSet
from data_prep.shards.parts import PartCache, fetch_part
from data_prep.text.tokenizer import Ids
from raytrain_core.storage import CorruptError, Store

Lengths = NDArray[np.int32]


def open_split(shard_set: ShardSet, task: str, split: Split, store: Store, cache: PartCache) -> "SplitReader":
    """Fetches and verifies the tokens of a split.

    Raises CorruptError, NotFoundError or DataError.
    """
    prepared = shard_set.split(task, split)
    files = [[fetch_part(pair.tokens, store, cache) for pair in pairs] for pairs in prepared.parts]
    return SplitReader(prepared, files)


class SplitReader:
    """The token parts of one split, memory-mapped: reading an example is a slice."""

    def __init__(self, split: PreparedSplit, files: Sequence[Sequence[Path]]) -> None:
        """`files[variant]` are the token files of a variant, in the order of the split's parts."""
        self.examples, self.variants = split.examples, split.variants
        self._starts = list(accumulate((pair.rows for pair in split.parts[0]), initial=0))[:-1]
        self._parts = [
            [_TokenPart(path, pair) for path, pair in zip(paths, pairs, strict=True)]
            for paths, pairs in zip(files, split.parts, strict=True)
        ]

    @cached_property
    def source_lengths(self) -> list[Lengths]:
        """Source tokens with EOS: for each variant int32, shape (examples,)."""
        return [_concatenate([np.diff(part.source_offsets) for part in parts]) for parts in self._parts]

    @cached_property
    def target_lengths(self) -> list[Lengths]:
        """Target tokens with EOS: for each variant int32, shape (examples,)."""
        return [_concatenate([np.diff(part.target_offsets) for part in parts]) for parts in self._parts]

    def tokens(self, example: int, variant: int) -> tuple[Ids, Ids]:
        """Returns source and target ids with EOS, as read-only views of the mapped file."""
        part, row = self._locate(example, variant)
        return part.row(row)

    def template(self, example: int, variant: int) -> int:
        """Returns the number of the template that this variant of an example uses."""
        part, row = self._locate(example, variant)
        return int(part.templates[row])

    def _locate(self, example: int, variant: int) -> "tuple[_TokenPart, int]":
        if not (0 <= example < self.examples and 0 <= variant < self.variants):
            raise IndexError(f"example {example}, variant {variant} of {self.examples} x {self.variants}")
        number = bisect.bisect_right(self._starts, example) - 1
        return self._parts[variant][number], example - self._starts[number]


class _TokenPart:
    """One memory-mapped Arrow file of a single record batch."""

    def __init__(self, path: Path, pair: PartPair) -> None:
        import pyarrow as pa

        try:
            batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
            source, target, templates = (batch.column(name) for name in ("source", "target", "template"))
        except (pa.ArrowException, KeyError, OSError) as error:
            raise CorruptError(f"{path}: not a token part ({error})") from None
        if any(column.type.value_type not in (pa.uint16(), pa.uint32()) for column in (source, target)):
            raise CorruptError(f"{path}: its ids are {source.type.value_type} and {target.type.value_type}")
        if batch.num_rows != pair.rows:
            raise CorruptError(f"{path}: {batch.num_rows:,} rows, but its manifest says {pair.rows:,}")
        self.source_offsets, self._source = source.offsets.to_numpy(), source.values.to_numpy()
        self.target_offsets, self._target = target.offsets.to_numpy(), target.values.to_numpy()
        self.templates = templates.to_numpy()

    def row(self, i: int) -> tuple[Ids, Ids]:
        source = self._source[self.source_offsets[i] : self.source_offsets[i + 1]]
        return source, self._target[self.target_offsets[i] : self.target_offsets[i + 1]]


def _concatenate(arrays: Sequence[NDArray[np.int32]]) -> Lengths:
    return np.concatenate(arrays).astype(np.int32, copy=False) if arrays else np.empty(0, np.int32)
