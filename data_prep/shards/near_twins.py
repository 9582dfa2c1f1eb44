"""Held-out rows that have a near-twin among the training rows of their task.

Equal inputs are found by the keys of all rows, others by the 8-grams that they share with one
training row (`data_prep.text.ngram_overlap`). Held-out rows are kept in memory as far as
`shards.held_rows` bounds them; the parts of the training rows are compared with them by the
workers. The outcome is a set of rows, so it does not depend on who compared what.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass

import numpy as np

from data_prep.config import Split
from data_prep.shards.held_rows import HELD_ROWS, HELD_TEXT, HeldRows
from data_prep.shards.leakage import occur_in
from data_prep.shards.manifest import NearTwins, PartPair, PreparedSplit
from data_prep.shards.parts import load_keys
from data_prep.shards.twin_job import Numbers, TwinJob
from data_prep.shards.workers import Workers
from data_prep.text.ngram_overlap import HeldOut
from raytrain_core.storage import Store

_PARTS = 16  # training parts of a job at most: an index goes to a worker with every job

_TICK = 0.2  # seconds between two calls of `on_wait`


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of a held-out split with a near-twin, by number, ascending."""

    rows: Numbers
    ids: Sequence[str]
    """Of all rows of the split."""
    compared: int
    """Rows of the split that were compared by 8-grams."""

    def marks(self) -> NearTwins:
        """Returns what the manifest stores."""
        return NearTwins(tuple(self.ids[row] for row in self.rows.tolist()), self.compared)


def find_near_twins(
    task: str,
    splits: Mapping[Split, PreparedSplit],
    store: Store,
    workers: Workers,
    *,
    most: int | None = HELD_ROWS,
    on_wait: Callable[[], None] = lambda: None,
) -> dict[Split, Found]:
    """Returns what each held-out split repeats of the training rows.

    Empty without training rows or without held-out rows. Of a split, `most` rows are compared by
    8-grams, None for all, as far as `HELD_TEXT` allows. `on_wait` is called now and then while the
    workers compare. Raises CorruptError or StorageError if a part cannot be read.
    """
    held = {
        split: HeldRows.read(task, split, prepared, store, most=most, text=HELD_TEXT)
        for split, prepared in splits.items()
        if split != "train"
    }
    if "train" not in splits or not held:
        return {}
    index = HeldOut(batch for one in held.values() for batch in one.batches())
    near = compare_all(index, splits["train"].parts[0], store, workers, on_wait)
    trained, first = np.sort(load_keys(splits["train"], store)), 0
    found: dict[Split, Found] = {}
    for split, one in held.items():
        own = near[(near >= first) & (near < first + len(one.texts))] - first
        exact = np.flatnonzero(occur_in(load_keys(splits[split], store), trained))
        found[split] = Found(np.union1d(exact, one.chosen[own]), one.ids, len(one.texts))
        first += len(one.texts)
    return found


def compare_all(
    index: HeldOut, parts: Sequence[PartPair], store: Store, workers: Workers, on_wait: Callable[[], None]
) -> Numbers:
    """Lets the workers compare the parts; returns the numbers of the held-out texts that overlap.

    At most one job more than there are workers is under way.
    """
    found, pending = [np.empty(0, np.int64)], set[Future[Numbers]]()

    def collect(most: int) -> None:
        nonlocal pending
        while len(pending) > most:
            done, pending = wait(pending, timeout=_TICK, return_when=FIRST_COMPLETED)
            found.extend(future.result() for future in done)
            workers.tick()
            on_wait()

    for pairs in _shared_out(parts, workers.count):
        pending.add(workers.compare(TwinJob(index, pairs, store)))
        collect(workers.count)
    collect(0)
    return np.unique(np.concatenate(found))


def _shared_out(parts: Sequence[PartPair], workers: int) -> Iterator[tuple[PartPair, ...]]:
    """Divides the parts so that each worker has several jobs, if there are so many parts."""
    size = min(_PARTS, max(1, len(parts) // (4 * max(1, workers))))
    for first in range(0, len(parts), size):
        yield tuple(parts[first : first + size])
