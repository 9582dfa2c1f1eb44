"""Reads the text parts of prepared splits.

Prompts and targets of the first variant, one part at a time.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.config import Split
from data_prep.shards.manifest import PreparedSplit, ShardSet
from data_prep.shards.parts import PartCache, fetch_part
from raytrain_core.hashing import content_key, sample
from raytrain_core.storage import Store

_ROW_COLUMNS = ("id", "template", "input", "targets", "meta")


@dataclass(frozen=True, slots=True)
class TextRow:
    """A row of a text part.

    `index` is the example's number in its split, `input` the rendered prompt.
    """

    index: int
    id: str
    template: int
    input: str
    targets: list[str]
    meta: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Consecutive rows of a split, the first with number `start`."""

    start: int
    prompts: list[str]
    inputs: list[str]
    """Raw inputs, without an instruction."""
    targets: list[str]
    """The first target of each row: the one to train on."""
    metas: list[dict[str, Any]]


def read_rows(  # noqa: PLR0917 - the same order of arguments as open_split
    shard_set: ShardSet, task: str, split: Split, store: Store, cache: PartCache, limit: int | None = None
) -> list[TextRow]:
    """Returns the rows of a split in order.

    With `limit`, a keyed sample that is always the same.
    """
    prepared = shard_set.split(task, split)
    chosen = sample(prepared.examples, limit, content_key("sample", task, split))
    return list(_rows(prepared, chosen, store, cache))


def rows_at(split: PreparedSplit, indices: Iterable[int], store: Store, cache: PartCache) -> dict[int, TextRow]:
    """Returns the rows with these numbers."""
    chosen = np.unique(np.fromiter(indices, np.int64))
    return {row.index: row for row in _rows(split, chosen, store, cache)}


def iter_text(split: PreparedSplit, store: Store, cache: PartCache) -> Iterator[TextBatch]:
    """Yields all rows of a split in order; raises CorruptError if a part is missing or damaged."""
    for start, table in _tables(split, store, cache, ["input", "targets", "meta"]):
        metas = [json.loads(meta) for meta in table["meta"].to_pylist()]
        targets = [row_targets[0] for row_targets in table["targets"].to_pylist()]
        yield TextBatch(start, table["input"].to_pylist(), [meta["input"] for meta in metas], targets, metas)


def _rows(split: PreparedSplit, chosen: NDArray[np.int64], store: Store, cache: PartCache) -> Iterator[TextRow]:
    """Yields the rows with the ascending numbers `chosen`."""
    for start, table in _tables(split, store, cache, _ROW_COLUMNS, chosen):
        inside = chosen[(chosen >= start) & (chosen < start + table.num_rows)]
        for index, row in zip(inside.tolist(), table.take(inside - start).to_pylist(), strict=True):
            meta = json.loads(row["meta"])
            yield TextRow(index, row["id"], row["template"], row["input"], row["targets"], meta)


def _tables(
    split: PreparedSplit,
    store: Store,
    cache: PartCache,
    columns: Sequence[str],
    chosen: NDArray[np.int64] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Yields first row number and Arrow table of each text part.

    With `chosen`, only of parts that hold such rows.
    """
    import pyarrow.parquet as pq

    start = 0
    for pair in split.parts[0]:
        if chosen is None or ((chosen >= start) & (chosen < start + pair.rows)).any():
            yield start, pq.read_table(fetch_part(pair.text, store, cache), columns=list(columns))
        start += pair.rows
