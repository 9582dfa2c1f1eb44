"""Equal inputs, found by their hashes.

Duplicates in a split, leakage between splits and between tasks.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.config import Split

Keys = NDArray[np.uint64]
"""Hashes of the raw inputs of a split, in row order."""

# A split, and a held-out split that must not share inputs with it.
_LEAKS: tuple[tuple[Split, Split], ...] = (("train", "validation"), ("train", "test"), ("validation", "test"))


def distinct(keys: Keys) -> Keys:
    """Returns the keys without repetition, ascending.

    `np.unique` hashes, which takes many times as long for keys that are random already.
    """
    ordered = np.sort(keys)
    new = np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]
    found: Keys = ordered[new]
    return found


def occur_in(keys: Keys, seen: Keys) -> NDArray[np.bool_]:
    """Returns which keys are among `seen`, which is ascending."""
    if not len(seen):
        return np.zeros(len(keys), bool)
    found: NDArray[np.bool_] = seen[np.minimum(np.searchsorted(seen, keys), len(seen) - 1)] == keys
    return found


def duplicates(keys: Keys) -> int:
    """Returns the number of rows whose input an earlier row has."""
    return len(keys) - len(distinct(keys))


def leakage(keys: Mapping[Split, Keys]) -> dict[str, int]:
    """Counts held-out rows of a task whose input another split has too: {"test in train": 3}."""
    ordered = {split: np.sort(found) for split, found in keys.items()}
    return {
        f"{held} in {seen}": int(occur_in(keys[held], ordered[seen]).sum())
        for seen, held in _LEAKS
        if seen in keys and held in keys
    }


def leakage_across(keys: Mapping[tuple[str, Split], Keys]) -> list[dict[str, Any]]:
    """Counts validation and test rows of each task whose input another task trains on.

    Pairs of tasks without such rows are left out. All training inputs are sorted once, so that
    thousands of tasks can be compared with each other.
    """
    trained = {task: distinct(found) for (task, split), found in keys.items() if split == "train"}
    names = list(trained)
    owners = np.repeat(np.arange(len(names)), [len(found) for found in trained.values()])
    seen: Keys = np.concatenate([np.empty(0, np.uint64), *trained.values()])
    order = np.argsort(seen, kind="stable")
    seen, owners = seen[order], owners[order]
    leaks = []
    for (task, split), held in keys.items():
        if split == "train":
            continue
        first, last = (np.searchsorted(seen, held, side) for side in ("left", "right"))
        hits = last - first
        positions = np.repeat(first - np.cumsum(hits) + hits, hits) + np.arange(hits.sum())
        rows = np.bincount(owners[positions], minlength=len(names))
        leaks += [
            {"task": task, "split": split, "trained_in": names[i], "rows": int(rows[i]), "of": len(held)}
            for i in np.flatnonzero(rows)
            if names[i] != task
        ]
    return leaks
