"""Finds rows that share much of their text, by runs of eight words (8-grams).

Exact keys find equal rows; 8-grams find rows that were lightly edited, cut, or embedded in another.
Held-out rows (validation and test) are kept in memory as hashes; training rows are streamed. The
measure is the share of a held-out row's distinct 8-grams found in one single training row, so a
phrase that many rows begin with does not add up over all of them.
"""

import itertools
import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from raytrain_core.hashing import splitmix64

WORDS = 8
"""Words of a run; shorter texts have no runs."""
LEAST = 6
"""A held-out text with fewer runs (up to 12 words) is too short to judge, such as a line of
code."""
COMMON = 64
"""A run that more held-out rows contain is boilerplate of the source and is ignored."""
OVERLAP = 0.5
"""A held-out text overlaps with a text that has at least this share of its runs."""

_WORD = re.compile(r"\w+")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_UNKNOWN = 0  # the number of words that no held-out text contains

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]
Shares = NDArray[np.float64]


class HeldOut:
    """An index of texts that training rows should not contain, numbered in the order given."""

    def __init__(self, texts: Iterable[Sequence[str]], *, least: int = LEAST) -> None:
        """Reads the texts in batches.

        Keeps every distinct word and 16 bytes for each distinct run of a text.

        Texts with fewer runs than `least` are never found.
        """
        self._words: dict[str, int] = {}
        runs: list[Hashes] = [np.empty(0, np.uint64)]
        owners: list[Numbers] = [np.empty(0, np.int64)]
        count = 0
        for batch in texts:
            words = [_WORD.findall(text.lower()) for text in batch]
            for word in itertools.chain.from_iterable(words):
                self._words.setdefault(word, len(self._words) + 1)
            found, owner = _distinct(*self._runs(words))
            runs.append(found)
            owners.append(owner + count)
            count += len(batch)
        all_runs, all_owners = np.concatenate(runs), np.concatenate(owners)
        order = np.argsort(all_runs, kind="stable")
        distinct, begin, times = np.unique(all_runs[order], return_index=True, return_counts=True)
        informative = times <= COMMON
        self._known: Hashes = distinct[informative]
        # Nearly all runs of training rows are unknown: a look into a table spares most searches.
        self._mask = np.uint64((1 << min(26, max(10, (len(self._known) * 4).bit_length()))) - 1)
        self._maybe = np.zeros(int(self._mask) + 1, np.bool_)
        self._maybe[self._known & self._mask] = True
        self._owners: Numbers = all_owners[order]
        self._begin: Numbers = begin[informative]
        self._times: Numbers = times[informative]
        kept = self._owners[_spans(self._begin, self._times)]
        self._sizes: Numbers = np.bincount(kept, minlength=count)
        self._least = least

    def shared(self, texts: Sequence[str]) -> tuple[Numbers, Numbers, Shares]:
        """Returns every pair of a text and a held-out text that share runs.

        Three arrays: the position of the text, the number of the held-out text, and the share of
        the latter's runs, 0..1.
        """
        runs, rows = self._runs([_WORD.findall(text.lower()) for text in texts])
        likely = self._maybe[runs & self._mask]
        runs, rows = runs[likely], rows[likely]
        if not len(runs):
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
        at = np.minimum(np.searchsorted(self._known, runs), len(self._known) - 1)
        hit = self._known[at] == runs
        places, rows = _distinct(at[hit].astype(np.uint64), rows[hit])
        at = places.astype(np.int64)
        times = self._times[at]
        owners = self._owners[_spans(self._begin[at], times)]
        pairs, common = np.unique(np.repeat(rows, times) * len(self._sizes) + owners, return_counts=True)
        row, held = np.divmod(pairs, len(self._sizes))
        long = self._sizes[held] >= self._least
        return row[long], held[long], common[long] / self._sizes[held[long]]

    def _runs(self, words: Sequence[Sequence[str]]) -> tuple[Hashes, Numbers]:
        """Returns hashes of all runs of known words, and the text of each."""
        flat = itertools.chain.from_iterable(words)
        ids = np.fromiter(map(self._words.get, flat, itertools.repeat(_UNKNOWN)), np.uint64)
        count = len(ids) - WORDS + 1
        if count < 1:
            return np.empty(0, np.uint64), np.empty(0, np.int64)
        owner = np.repeat(np.arange(len(words)), [len(text) for text in words])
        unknown = np.concatenate([[0], np.cumsum(ids == _UNKNOWN)])
        complete = (owner[:count] == owner[WORDS - 1 :]) & (unknown[WORDS:] == unknown[:count])
        scattered, runs = splitmix64(ids), np.zeros(count, np.uint64)
        for place in range(WORDS):
            runs = runs * _FACTOR + scattered[place : place + count]
        return splitmix64(runs[complete]), owner[:count][complete]


def _distinct(runs: Hashes, rows: Numbers) -> tuple[Hashes, Numbers]:
    """Removes repeated runs of a row; orders by row."""
    order = np.lexsort((runs, rows))
    runs, rows = runs[order], rows[order]
    new = np.ones(len(runs), bool)
    new[1:] = (runs[1:] != runs[:-1]) | (rows[1:] != rows[:-1])
    return runs[new], rows[new]


def _spans(begin: Numbers, length: Numbers) -> Numbers:
    """Returns all positions of some spans, each given by its first position and its length."""
    offset: Numbers = np.repeat(begin - np.cumsum(length) + length, length) + np.arange(int(length.sum()))
    return offset
