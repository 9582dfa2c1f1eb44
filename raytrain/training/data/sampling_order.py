"""The sampling order: which sample comes at which place, a pure function of place and seed.

The order of tasks is one block of `SamplingOrder.period` places, repeated forever. In it a task has
an integer quota, and its j-th place lies in the window that keeps its count within 1 of its share:
after floor(j * period / quota) places, before ceil((j + 1) * period / quota). Scheduling by
earliest deadline first fills the block and meets every window, because windows of this form are
feasible whenever the shares sum to 1 (Liu and Layland 1973; Tijdeman 1980, "The chairman assignment
problem"; Baruah et al. 1996, "Proportionate progress").

Each task repeats passes over its examples. A pass is a permutation by a keyed bijection (a Feistel
network with cycle walking), so any place is found without replaying the past, and nothing is stored
per example. All randomness is integer arithmetic of our own: no release of a library can change the
order.
"""

import hashlib
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from raytrain_core.hashing import splitmix64_finalize

LARGEST_PERIOD = 1 << 20
"""Longest block of the task order.

Rates that need a longer one are rounded to multiples of 1 / LARGEST_PERIOD.
"""
SAMPLE = np.dtype([("task", np.int16), ("example", np.int64), ("variant", np.int16)])
"""One place of the order: number of the task stream, of the example in it, and of its variant."""

_CHUNK = 1 << 17  # places computed at once: their arrays stay in the processor's cache
_ROUNDS = 8
_C1, _C2, _C3 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class TaskStream:
    """One trained task: number of examples, variants of each, and its rate, 0..1 of the mixture.

    The name keys the order of its examples, which does not depend on the other tasks.
    """

    name: str
    examples: int
    variants: int
    rate: float


class SamplingOrder:
    """Endless order of examples over all tasks; the module's docstring explains it.

    In every prefix of n places each task's count differs by less than 1 from n * quota / period.
    quota / period is the stream's rate exactly if the rates are fractions with a common denominator
    of at most `LARGEST_PERIOD` (as in examples-proportional mixtures of up to a million examples),
    else within 1 / `LARGEST_PERIOD` of it.
    """

    def __init__(self, streams: Sequence[TaskStream], seed: int) -> None:
        self.streams = tuple(streams)
        self.seed = seed
        _check(self.streams)
        self.quotas = quotas([s.rate for s in self.streams])
        self.period = int(self.quotas.sum())
        self._task, self._rank = _pattern(self.quotas)
        self._examples = np.array([s.examples for s in self.streams], np.int64)
        self._variants = np.array([s.variants for s in self.streams], np.int64)
        self._bits = np.array([max(4, (s.examples - 1).bit_length()) for s in self.streams], np.uint64)
        self._order_key = np.array([_key(seed, s.name, "order") for s in self.streams], np.uint64)
        self._variant_key = np.array([_key(seed, s.name, "wording") for s in self.streams], np.uint64)

    def examples(self, start: int, stop: int) -> npt.NDArray[np.void]:
        """Returns the samples at places start .. stop-1 as an array of `SAMPLE`.

        Places count from 0; there is no last one.
        """
        if not 0 <= start <= stop:
            raise ValueError(f"places {start} .. {stop} of the sampling order")
        out = np.empty(stop - start, SAMPLE)
        for a in range(start, stop, _CHUNK):
            b = min(a + _CHUNK, stop)
            self._fill(np.arange(a, b, dtype=np.int64), out[a - start : b - start])
        return out

    def _fill(self, places: npt.NDArray[np.int64], out: npt.NDArray[np.void]) -> None:
        block, slot = np.divmod(places, self.period)
        task = self._task[slot]
        seen = block * self.quotas[task] + self._rank[slot]
        count = self._examples[task]
        repeat, index = np.divmod(seen, count)
        key = splitmix64_finalize(self._order_key[task] + repeat.astype(np.uint64) * _C1)
        example = permuted(index.astype(np.uint64), count.astype(np.uint64), self._bits[task], key).astype(np.int64)
        variants = self._variants[task]
        first = splitmix64_finalize(self._variant_key[task] + example.astype(np.uint64)) % variants.astype(np.uint64)
        out["task"] = task
        out["example"] = example
        out["variant"] = (first.astype(np.int64) + repeat) % variants


def quotas(rates: Sequence[float]) -> npt.NDArray[np.int64]:
    """Returns the places of each task in a block: the smallest integers in the rates' proportion.

    Rates whose common denominator exceeds `LARGEST_PERIOD` are rounded to multiples of its inverse
    by largest remainder; every task gets at least one place.
    """
    exact = [Fraction(r).limit_denominator(LARGEST_PERIOD) for r in rates]
    if all(abs(float(e) - r) <= 1e-12 * r for e, r in zip(exact, rates, strict=True)) and sum(exact) == 1:
        period = math.lcm(*(e.denominator for e in exact))
        if period <= LARGEST_PERIOD:
            return np.array([int(e * period) for e in exact], np.int64)
    share = np.array(rates, np.float64) / math.fsum(rates) * LARGEST_PERIOD
    out = np.maximum(np.floor(share).astype(np.int64), 1)
    missing = LARGEST_PERIOD - int(out.sum())
    out[np.argsort(out - share, kind="stable")[: max(missing, 0)]] += 1
    for _ in range(-missing):  # tasks were rounded up to one place: the largest gives
        out[out.argmax()] -= 1
    smallest: npt.NDArray[np.int64] = out // np.gcd.reduce(out)
    return smallest


def _pattern(quota: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int32]]:
    """Returns the task of every place of a block, and the number of its places before that one."""
    period, tasks = int(quota.sum()), len(quota)
    task = np.repeat(np.arange(tasks, dtype=np.int64), quota)
    rank = np.arange(period, dtype=np.int64) - np.repeat(np.cumsum(quota) - quota, quota)
    release = rank * period // quota[task]
    deadline = -(-(rank + 1) * period // quota[task])
    by_release = np.argsort(release, kind="stable")
    urgency = (deadline * tasks + task)[by_release].tolist()  # ties go to the task that was named first
    due = np.searchsorted(release[by_release], np.arange(period), side="right").tolist()
    order, waiting, released = [0] * period, list[int](), 0
    for place, upto in enumerate(due):
        for item in urgency[released:upto]:
            heapq.heappush(waiting, item)
        released = upto
        order[place] = heapq.heappop(waiting)
    by_place = np.array(order, np.int64) % tasks
    # the r-th place of a task, in the order of places, has rank r
    ranks = np.empty(period, np.int32)
    ranks[np.argsort(by_place, kind="stable")] = rank
    return by_place.astype(np.int16), ranks


def permuted(index: Words, count: Words, bits: Words, key: Words) -> Words:
    """Maps every index < count by the permutation of 0 .. count-1 that its key selects.

    Arrays of one shape. `bits` (at least 2) must hold count - 1. A Feistel network permutes the
    words of that many bits; images outside the range are mapped again until they are inside (cycle
    walking), which keeps the map a bijection.
    """
    out = _feistel(index, bits, key)
    outside = np.flatnonzero(out >= count)
    while outside.size:
        out[outside] = _feistel(out[outside], bits[outside], key[outside])
        outside = outside[out[outside] >= count[outside]]
    return out


def _feistel(words: Words, bits: Words, key: Words) -> Words:
    one = np.uint64(1)
    low_bits = bits >> one
    low_mask = (one << low_bits) - one
    high_mask = (one << (bits - low_bits)) - one
    low, high = words & low_mask, words >> low_bits
    for number in range(0, _ROUNDS, 2):
        high ^= _round(low, key, number) & high_mask
        low ^= _round(high, key, number + 1) & low_mask
    image: Words = (high << low_bits) | low
    return image


def _round(half: Words, key: Words, number: int) -> Words:
    word: Words = half + key
    word += np.uint64((number * int(_C1)) & (2**64 - 1))
    word *= _C2
    word ^= word >> np.uint64(32)
    word *= _C3
    word >>= np.uint64(33)  # the upper bits of a product depend on all bits of its factors
    return word


def _key(seed: int, name: str, use: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{use}\0{name}".encode()).digest()[:8], "little")


def _check(streams: Sequence[TaskStream]) -> None:
    if not 1 <= len(streams) < 1 << 15:
        raise ValueError(f"a sampling order has 1 to 32,767 streams, not {len(streams)}")
    if len({s.name for s in streams}) != len(streams):
        raise ValueError("two streams have the same name")
    for s in streams:
        if s.examples < 1 or not 1 <= s.variants < 1 << 15:
            raise ValueError(f"stream {s.name}: {s.examples} examples in {s.variants} variants")
        if not 0 < s.rate <= 1:
            raise ValueError(f"stream {s.name}: rate {s.rate} is not in (0, 1]")
    total = math.fsum(s.rate for s in streams)
    if abs(total - 1) > 1e-6:
        raise ValueError(f"the rates sum to {total}, not 1")
