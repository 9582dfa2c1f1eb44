"""Held-out rows that have a near-twin among the training rows of their task.

Equal inputs are found by the keys of all rows, others by the 8-grams that they share with one
training row (`data_prep.text.ngram_overlap`). Held-out rows are kept in memory, at most
`HELD_TEXT` of a split; the parts of the training rows are compared with them by the
workers. The outcome is a set of rows, so it does not depend on who compared what.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass

import numpy as np

from data_prep.config import Split
from data_prep.shards.leakage import occur_in
from data_prep.shards.manifest import NearTwins, PreparedSplit
from data_prep.shards.parts import load_keys
from data_prep.shards.twin_job import Numbers, TwinJob, ids_and_inputs
from data_prep.shards.workers import Workers
from data_prep.text.ngram_overlap import HeldOut
from raytrain_core.hashing import content_key, sample
from raytrain_core.storage import Store

HELD_ROWS = 5000
"""Rows of a split compared by 8-grams: the keyed sample that scoring draws from too."""
HELD_TEXT = 16 << 20
"""Characters of a split compared by 8-grams."""

_TICK = 0.2  # seconds between two calls of `on_wait`


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of a held-out split with a near-twin, by number, ascending."""

    rows: Numbers
    ids: list[str]
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
        split: _Held.read(task, split, prepared, store, most) for split, prepared in splits.items() if split != "train"
    }
    if "train" not in splits or not held:
        return {}
    index = HeldOut([one.texts for one in held.values()])
    jobs = (TwinJob(index, pair, store) for pair in splits["train"].parts[0])
    near = _compare_all(jobs, workers, on_wait)
    trained, first = np.sort(load_keys(splits["train"], store)), 0
    found: dict[Split, Found] = {}
    for split, one in held.items():
        own = near[(near >= first) & (near < first + len(one.texts))] - first
        exact = np.flatnonzero(occur_in(load_keys(splits[split], store), trained))
        found[split] = Found(np.union1d(exact, one.chosen[own]), one.ids, len(one.texts))
        first += len(one.texts)
    return found


@dataclass(frozen=True, slots=True)
class _Held:
    """A held-out split: all ids, and numbers and inputs of the rows to compare."""

    ids: list[str]
    chosen: Numbers
    texts: list[str]

    @classmethod
    def read(cls, task: str, split: Split, prepared: PreparedSplit, store: Store, most: int | None) -> "_Held":
        wanted = set(sample(prepared.examples, most, content_key("sample", task, split)).tolist())
        ids, chosen, texts, characters = list[str](), list[int](), list[str](), 0
        for pair in prepared.parts[0]:
            for identifiers, inputs in ids_and_inputs(pair, store):
                for number, text in enumerate(inputs, len(ids)):
                    if number in wanted and characters < HELD_TEXT:
                        chosen.append(number)
                        texts.append(text)
                        characters += len(text)
                ids += identifiers
        return cls(ids, np.array(chosen, np.int64), texts)


def _compare_all(jobs: Iterable[TwinJob], workers: Workers, on_wait: Callable[[], None]) -> Numbers:
    """Lets the workers do all jobs, one more at a time than there are workers."""
    found, pending = [np.empty(0, np.int64)], set[Future[Numbers]]()

    def collect(most: int) -> None:
        nonlocal pending
        while len(pending) > most:
            done, pending = wait(pending, timeout=_TICK, return_when=FIRST_COMPLETED)
            found.extend(future.result() for future in done)
            workers.tick()
            on_wait()

    for job in jobs:
        pending.add(workers.compare(job))
        collect(workers.count)
    collect(0)
    return np.unique(np.concatenate(found))
