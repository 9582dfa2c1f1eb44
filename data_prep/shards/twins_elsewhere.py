"""Held-out rows that have a near-twin among the training rows of another task of the set.

As in `shards.near_twins`, which compares the tasks with themselves. Depends on all tasks of a set,
so it belongs to the set's manifest. The held-out rows of all tasks together are bounded: with many
tasks fewer rows of each are compared, those that are scored first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.config import Split
from data_prep.shards.held_rows import HELD_ROWS, HELD_TEXT, HeldRows
from data_prep.shards.leakage import Keys, occur_in
from data_prep.shards.manifest import PreparedTask, TwinsElsewhere
from data_prep.shards.near_twins import compare_all
from data_prep.shards.parts import load_keys
from data_prep.shards.twin_job import Numbers
from data_prep.shards.workers import Workers
from data_prep.text.ngram_overlap import HeldOut
from raytrain_core.storage import Store

_ALL_TEXT = 2 * HELD_TEXT  # characters of all held-out rows together: as many as of the two splits of one task


@dataclass(frozen=True, slots=True)
class _Held:
    """A held-out split of a task; its texts have the numbers from `first` on in the index."""

    task: str
    split: Split
    rows: HeldRows
    keys: Keys
    first: int

    def near(self, numbers: Numbers) -> Numbers:
        """Returns its rows among the numbers of the index."""
        own = numbers[(numbers >= self.first) & (numbers < self.first + len(self.rows.texts))]
        found: Numbers = self.rows.chosen[own - self.first]
        return found


def find_twins_elsewhere(
    tasks: Sequence[PreparedTask],
    store: Store,
    workers: Workers,
    *,
    on_wait: Callable[[], None] = lambda: None,
) -> dict[str, dict[Split, TwinsElsewhere]]:
    """Returns by task and split what held-out rows repeat of the training rows of other tasks.

    Splits for which there are none to compare with are left out. `on_wait` is called now and then.
    Raises CorruptError or StorageError if a part cannot be read.
    """
    trained = [task for task in tasks if "train" in task.splits]
    compared = [task for task in tasks if any(other.name != task.name for other in trained)]
    held = _read(compared, store)
    if not held:
        return {}
    index = HeldOut(batch for one in held for batch in one.rows.batches())
    ids: list[dict[str, tuple[str, ...]]] = [{} for _ in held]
    for task in trained:
        near = compare_all(index, task.splits["train"].parts[0], store, workers, on_wait)
        keys = np.sort(load_keys(task.splits["train"], store))
        for one, found in zip(held, ids, strict=True):
            rows = np.union1d(np.flatnonzero(occur_in(one.keys, keys)), one.near(near))
            if one.task != task.name and len(rows):
                found[task.name] = tuple(one.rows.ids[row] for row in rows.tolist())
    marks: dict[str, dict[Split, TwinsElsewhere]] = {}
    for one, found in zip(held, ids, strict=True):
        marks.setdefault(one.task, {})[one.split] = TwinsElsewhere(found, len(one.rows.texts))
    return marks


def _read(tasks: Sequence[PreparedTask], store: Store) -> list[_Held]:
    splits = [(task, split) for task in tasks for split in task.splits if split != "train"]
    held, first = list[_Held](), 0
    for task, split in splits:
        prepared = task.splits[split]
        rows = HeldRows.read(task.name, split, prepared, store, most=HELD_ROWS, text=_ALL_TEXT // len(splits))
        held.append(_Held(task.name, split, rows, load_keys(prepared, store), first))
        first += len(rows.texts)
    return held
