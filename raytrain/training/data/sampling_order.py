"""The sampling order: which sample comes at which place, a pure function of place and seed.

Which task comes at which place is `task_order`'s matter, what comes of the task is decided here.
Each task repeats passes over its examples. A pass is a permutation by a keyed bijection (a Feistel
network with cycle walking), so any place is found without replaying the past, and nothing is stored
per example. All randomness is integer arithmetic of our own: no release of a library can change the
order.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raytrain.training.data.task_order import task_order
from raytrain_core.hashing import splitmix64_finalize

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

    In every period (`period` places in a row) task i has its quota, and in every prefix it has its
    share within a few places: less than 1 if the period is at most `task_order.LARGEST_PERIOD`,
    else less than 4. quotas / period are the rates exactly if these are fractions whose
    denominators are below 2^24 (as in examples-proportional mixtures of up to 16 million examples),
    else within a thousandth of each rate.
    """

    def __init__(self, streams: Sequence[TaskStream], seed: int) -> None:
        self.streams = tuple(streams)
        self.seed = seed
        _check(self.streams)
        self.tasks = task_order([s.rate for s in self.streams])
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
        task, seen = self.tasks.at(places)
        count = self._examples[task]
        repeat, index = np.divmod(seen, count)
        key = splitmix64_finalize(self._order_key[task] + repeat.astype(np.uint64) * _C1)
        example = permuted(index.astype(np.uint64), count.astype(np.uint64), self._bits[task], key).astype(np.int64)
        variants = self._variants[task]
        first = splitmix64_finalize(self._variant_key[task] + example.astype(np.uint64)) % variants.astype(np.uint64)
        out["task"] = task
        out["example"] = example
        out["variant"] = (first.astype(np.int64) + repeat) % variants


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
