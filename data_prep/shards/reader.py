"""Reading prepared rows: token parts memory-mapped, text parts as rows; every file is verified before it is used."""

import bisect
import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from data_prep.config import Split
from data_prep.shards.manifest import PartPair, PartRef, PreparedSplit, ShardSet
from data_prep.shards.split_statistics import Keys
from data_prep.text.tokenizer import Tokenizer
from raytrain_core.errors import DataError
from raytrain_core.hashing import content_key, sample
from raytrain_core.storage import CorruptError, NotFoundError, Store
from raytrain_core.storage.scratch import scratch
from raytrain_core.storage.store import sha256_of

_CHECKERS = 8


_MAKE_ANEW = "Delete that object and run the same command again: it is made anew."


Ids = NDArray[np.uint16]


Lengths = NDArray[np.int32]


class PartCache(Protocol):
    """What is needed of `raytrain_core.storage.cache.Cache`."""

    def fetch(self, store: Store, key: str, sha256: str) -> Path:
        """A local file with exactly these contents."""


@dataclass(frozen=True, slots=True)
class TextRow:
    """A row of a text part; `index` is the example's number in its split."""

    index: int
    id: str
    template: int
    input: str
    targets: list[str]
    meta: dict[str, Any]


class SplitReader:
    """The token parts of one split, memory-mapped: a read is a slice."""

    def __init__(self, split: PreparedSplit, files: Sequence[Sequence[Path]]) -> None:
        self.examples, self.variants = split.examples, split.variants
        self._starts = _starts(split)
        self._parts = [
            [_TokenPart(path, pair) for path, pair in zip(paths, pairs, strict=True)]
            for paths, pairs in zip(files, split.parts, strict=True)
        ]

    @cached_property
    def source_lengths(self) -> list[Lengths]:
        """Source tokens with EOS of every example, by wording: int32, shape (examples,)."""
        return [_joined([np.diff(part.source_offsets) for part in parts]) for parts in self._parts]

    @cached_property
    def target_lengths(self) -> list[Lengths]:
        """Target tokens with EOS of every example, by wording: int32, shape (examples,)."""
        return [_joined([np.diff(part.target_offsets) for part in parts]) for parts in self._parts]

    def tokens(self, example: int, variant: int) -> tuple[Ids, Ids]:
        """Source and target ids, both ending in EOS; views of the mapped file, not to be written to."""
        part, row = self._place(example, variant)
        return part.row(row)

    def template(self, example: int, variant: int) -> int:
        """Which of the task's templates an example has in a wording."""
        part, row = self._place(example, variant)
        return int(part.templates[row])

    def _place(self, example: int, variant: int) -> "tuple[_TokenPart, int]":
        if not (0 <= example < self.examples and 0 <= variant < self.variants):
            raise IndexError(f"example {example}, wording {variant} of {self.examples} x {self.variants}")
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
        if batch.num_rows != pair.rows:
            raise CorruptError(f"{path}: {batch.num_rows:,} rows, but its manifest says {pair.rows:,}")
        self.source_offsets, self._source = source.offsets.to_numpy(), source.values.to_numpy()
        self.target_offsets, self._target = target.offsets.to_numpy(), target.values.to_numpy()
        self.templates = templates.to_numpy()

    def row(self, i: int) -> tuple[Ids, Ids]:
        source = self._source[self.source_offsets[i] : self.source_offsets[i + 1]]
        return source, self._target[self.target_offsets[i] : self.target_offsets[i + 1]]


def open_split(shard_set: ShardSet, task: str, split: Split, store: Store, cache: PartCache) -> SplitReader:
    """The tokens of a split, every file fetched and checked first; CorruptError, NotFoundError, DataError."""
    prepared = shard_set.split(task, split)
    files = [[_fetch(pair.tokens, store, cache) for pair in pairs] for pairs in prepared.parts]
    return SplitReader(prepared, files)


def read_rows(  # noqa: PLR0917 - the order that is settled between the rooms
    shard_set: ShardSet, task: str, split: Split, store: Store, cache: PartCache, limit: int | None = None
) -> list[TextRow]:
    """Rows of a split in their first wording, in order; with `limit` a keyed sample, the same rows each time."""
    import pyarrow.parquet as pq

    prepared = shard_set.split(task, split)
    wanted = sample(prepared.examples, limit, content_key("sample", task, split))
    rows: list[TextRow] = []
    for start, pair in zip(_starts(prepared), prepared.parts[0], strict=True):
        inside = wanted[(wanted >= start) & (wanted < start + pair.rows)]
        if not len(inside):
            continue
        columns = ["id", "template", "input", "targets", "meta"]
        table = pq.read_table(_fetch(pair.text, store, cache), columns=columns).take(inside - start)
        for index, row in zip(inside.tolist(), table.to_pylist(), strict=True):
            meta = json.loads(row["meta"])
            rows.append(TextRow(index, row["id"], row["template"], row["input"], row["targets"], meta))
    return rows


def load_tokenizer(shard_set: ShardSet, store: Store, folder: Path | None = None) -> Tokenizer:
    """The tokenizer of the set; its files stay in `folder` if one is given (a Hugging Face tokenizer folder then)."""
    if folder is None:
        with scratch("tokenizer") as temporary:
            return load_tokenizer(shard_set, store, temporary)
    for name, part in shard_set.tokenizer.files.items():
        store.download(part.key, folder / name, sha256=part.sha256)
    tokenizer = Tokenizer.from_folder(folder)
    if tokenizer.digest != shard_set.tokenizer.digest:
        raise DataError(
            f"the tokenizer of shard set {shard_set.digest[:12]} reads differently now than when it was stored",
            hint="Another version of the tokenizers library? Prepare again.",
        )
    return tokenizer


def load_keys(split: PreparedSplit, store: Store) -> Keys:
    """The input hashes of a split; CorruptError."""
    found: list[Keys] = [np.empty(0, np.uint64)]
    for part in split.keys:
        data = store.get(part.key)
        if sha256_of(data) != part.sha256:
            raise CorruptError(f"{store.uri}/{part.key}: its contents are not what its name says", hint=_MAKE_ANEW)
        found.append(np.load(io.BytesIO(data), allow_pickle=False))
    return np.concatenate(found)


def are_stored(store: Store, parts: Sequence[PartRef], *, read: bool = False) -> bool:
    """Whether every part is in the store: with its size, with `read` with its contents."""

    def there(part: PartRef) -> bool:
        if read:
            try:
                return sha256_of(store.get(part.key)) == part.sha256
            except NotFoundError:
                return False
        stat = store.stat(part.key)
        return stat is not None and stat.bytes == part.bytes

    with ThreadPoolExecutor(_CHECKERS) as pool:
        return all(pool.map(there, parts))


def _fetch(part: PartRef, store: Store, cache: PartCache) -> Path:
    try:
        return cache.fetch(store, part.key, part.sha256)
    except NotFoundError:
        raise CorruptError(
            f"{store.uri}/{part.key}: missing, but a manifest names it",
            hint="Run the same command again: what is missing is made anew.",
        ) from None
    except CorruptError as error:
        raise CorruptError(error.message, hint=_MAKE_ANEW) from None


def _starts(split: PreparedSplit) -> list[int]:
    """The number of the first example of each part, the same for every wording."""
    return list(accumulate((pair.rows for pair in split.parts[0]), initial=0))[:-1]


def _joined(arrays: Sequence[NDArray[np.int32]]) -> Lengths:
    return np.concatenate(arrays).astype(np.int32, copy=False) if arrays else np.empty(0, np.int32)
