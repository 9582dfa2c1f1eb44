"""Keyed hashes: every pseudo-random choice is a pure function of content.

So it is the same on every machine. Whole arrays of keys need numpy, single ones nothing: the client
has no numpy.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def content_key(kind: str, *parts: str | int) -> int:
    """Returns a 64-bit hash of `parts`; `kind` separates different uses of the same content."""
    data = bytearray()
    for part in parts:
        encoded = str(part).encode()
        data += len(encoded).to_bytes(8, "little")
        data += encoded
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=kind.encode()[:16]).digest(), "little")


def digest_of(data: Any) -> str:
    """Returns the hex sha256 of plain data; the order of mapping keys does not matter."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@overload
def splitmix64(value: int) -> int: ...
@overload
def splitmix64(value: NDArray[np.uint64]) -> NDArray[np.uint64]: ...
def splitmix64(value: int | NDArray[np.uint64]) -> int | NDArray[np.uint64]:
    """Returns the generator's output for state `value`.

    One step of the state, then `splitmix64_finalize`.

    A bijection of 64-bit numbers that scatters neighbours (Steele, Lea, Flood 2014).
    """
    if isinstance(value, int):
        value = (value + _GAMMA) & _MASK
        value = ((value ^ (value >> 30)) * _MULTIPLIERS[0]) & _MASK
        value = ((value ^ (value >> 27)) * _MULTIPLIERS[1]) & _MASK
        return value ^ (value >> 31)
    import numpy as np

    return splitmix64_finalize(value + np.uint64(_GAMMA))  # unsigned arrays wrap around


def splitmix64_finalize(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The mixing function of splitmix64 alone, without the step of its state; 0 maps to 0.

    `splitmix64(x)` is `splitmix64_finalize(x + 0x9E3779B97F4A7C15)`. `words` is left unchanged.
    """
    import numpy as np

    words = (words ^ (words >> np.uint64(30))) * np.uint64(_MULTIPLIERS[0])
    words ^= words >> np.uint64(27)
    words *= np.uint64(_MULTIPLIERS[1])
    words ^= words >> np.uint64(31)
    return words


def unit(key: int) -> float:
    """Maps a key to a number in [0, 1)."""
    return (key >> 11) / (1 << 53)


def orders(keys: NDArray[np.uint64], n: int) -> list[list[int]]:
    """Returns for each key a permutation of 0 ... n-1 that depends on it alone."""
    import numpy as np

    places = splitmix64(keys[:, None] ^ splitmix64(np.arange(n, dtype=np.uint64)))
    found: list[list[int]] = np.argsort(places, axis=1, kind="stable").tolist()
    return found


def sample(n: int, limit: int | None, key: int) -> NDArray[np.int64]:
    """Samples `limit` of the numbers 0 ... n-1, ascending.

    The sample depends on `key` alone, and a smaller sample is part of every larger one.
    """
    import numpy as np

    if limit is None or limit >= n:
        return np.arange(n, dtype=np.int64)
    return np.sort(np.argsort(sample_keys(n, key), kind="stable")[:limit]).astype(np.int64)


def sample_keys(n: int, key: int) -> NDArray[np.uint64]:
    """Returns the keys of the numbers 0 ... n-1 by which `sample` chooses, smallest first."""
    import numpy as np

    return splitmix64(np.arange(n, dtype=np.uint64) ^ np.uint64(splitmix64(key)))
