"""Keyed hashes: every choice that looks random is a pure function of content, so it is the same on every machine."""

import hashlib
from typing import overload

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1


def content_key(kind: str, *parts: str | int) -> int:
    """64 bits of a hash of `parts`; `kind` keeps uses of the same content apart."""
    digest = hashlib.blake2b(digest_size=8, person=kind.encode()[:16])
    for part in parts:
        data = str(part).encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return int.from_bytes(digest.digest(), "little")


@overload
def mix(value: int) -> int: ...
@overload
def mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]: ...
def mix(value: int | NDArray[np.uint64]) -> int | NDArray[np.uint64]:
    """splitmix64 (Steele, Lea, Flood 2014): a bijection of 64-bit numbers that scatters neighbours."""
    if isinstance(value, int):
        value = (value + 0x9E3779B97F4A7C15) & _MASK
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
        return value ^ (value >> 31)
    shifts = np.uint64(30), np.uint64(27), np.uint64(31)
    mixed = value + np.uint64(0x9E3779B97F4A7C15)  # unsigned arrays wrap around
    mixed = (mixed ^ (mixed >> shifts[0])) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> shifts[1])) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> shifts[2])


def unit(key: int) -> float:
    """A key as a number in [0, 1)."""
    return (key >> 11) / (1 << 53)


def order(key: int, n: int) -> list[int]:
    """A permutation of 0 .. n-1 that depends on `key` alone."""
    return sorted(range(n), key=lambda i: mix(key ^ mix(i)))


def sample(n: int, limit: int | None, key: int) -> NDArray[np.int64]:
    """`limit` of the numbers 0 ..

    n-1, ascending, the same ones each time; a smaller limit takes some of a larger's.
    """
    if limit is None or limit >= n:
        return np.arange(n, dtype=np.int64)
    keys = mix(np.arange(n, dtype=np.uint64) ^ np.uint64(mix(key)))
    return np.sort(np.argsort(keys, kind="stable")[:limit]).astype(np.int64)
