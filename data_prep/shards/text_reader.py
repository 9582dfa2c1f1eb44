"""Prepared rows as text in their first wording, a part at a time."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.shards.manifest import PreparedSplit
from data_prep.shards.reader import PartCache, TextRow
from raytrain_core.storage import Store


@dataclass(frozen=True, slots=True)
class Texts:
    """The rows `start`, `start` + 1, ...

    of a split; `inputs` are raw, without an instruction around them.
    """

    start: int
    prompts: list[str]
    inputs: list[str]
    targets: list[str]
    """The first target of each row: the one that is trained on."""
    metas: list[dict[str, Any]]


def texts_of(split: PreparedSplit, store: Store, cache: PartCache) -> Iterator[Texts]:
    """All rows of a split in order; CorruptError, NotFoundError."""
    for start, table in _tables(split, store, cache, ["input", "targets", "meta"]):
        metas = [json.loads(meta) for meta in table["meta"].to_pylist()]
        targets = [found[0] for found in table["targets"].to_pylist()]
        yield Texts(start, table["input"].to_pylist(), [meta["input"] for meta in metas], targets, metas)


def rows_at(split: PreparedSplit, indices: Iterable[int], store: Store, cache: PartCache) -> dict[int, TextRow]:
    """The rows with these numbers."""
    wanted = np.unique(np.fromiter(indices, np.int64))
    found: dict[int, TextRow] = {}
    if not len(wanted):
        return found
    for start, table in _tables(split, store, cache, ["id", "template", "input", "targets", "meta"], wanted):
        inside = wanted[(wanted >= start) & (wanted < start + table.num_rows)]
        for index, row in zip(inside.tolist(), table.take(inside - start).to_pylist(), strict=True):
            meta = json.loads(row["meta"])
            found[index] = TextRow(index, row["id"], row["template"], row["input"], row["targets"], meta)
    return found


def _tables(
    split: PreparedSplit, store: Store, cache: PartCache, columns: list[str], wanted: NDArray[np.int64] | None = None
) -> Iterator[tuple[int, Any]]:
    """Number of the first row and Arrow table of each text part; with `wanted` only parts with one of these rows."""
    import pyarrow.parquet as pq

    start = 0
    for pair in split.parts[0]:
        if wanted is None or ((wanted >= start) & (wanted < start + pair.rows)).any():
            yield start, pq.read_table(cache.fetch(store, pair.text.key, pair.text.sha256), columns=columns)
        start += pair.rows
