"""Compares parts of training rows with held-out rows, in any process."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_prep.shards.manifest import PartPair
from data_prep.shards.parts import require_contents
from data_prep.text.ngram_overlap import OVERLAP, HeldOut
from raytrain_core.storage import Store

Numbers = NDArray[np.int64]

_BATCH = 500  # rows whose words are in memory at the same time


@dataclass(frozen=True, slots=True)
class TwinJob:
    """Training rows to compare with the held-out rows of an index; pickles."""

    index: HeldOut
    pairs: tuple[PartPair, ...]
    store: Store


def compare(job: TwinJob) -> Numbers:
    """Returns the numbers of the held-out texts that overlap with one of the rows, ascending.

    Raises CorruptError or NotFoundError if a part is damaged or missing.
    """
    found = [np.empty(0, np.int64)]
    for pair in job.pairs:
        for _, texts in ids_and_inputs(pair, job.store):
            _, held, shares = job.index.shared(texts)
            found.append(np.unique(held[shares >= OVERLAP]))
    return np.unique(np.concatenate(found))


def ids_and_inputs(pair: PartPair, store: Store) -> Iterator[tuple[list[str], list[str]]]:
    """Yields ids and raw inputs of the rows of a part, in batches."""
    data = require_contents(pair.text, store.get(pair.text.key), store)
    for batch in pq.ParquetFile(pa.BufferReader(data)).iter_batches(_BATCH, columns=["id", "meta"]):
        yield batch["id"].to_pylist(), [json.loads(meta)["input"] for meta in batch["meta"].to_pylist()]
