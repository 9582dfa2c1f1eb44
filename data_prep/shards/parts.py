"""Parts of a shard set in the store: content-addressed objects, written, checked and fetched."""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from data_prep.shards.leakage import Keys
from data_prep.shards.manifest import PartRef, PreparedSplit
from raytrain_core.storage import AlreadyExistsError, CorruptError, NotFoundError, Store
from raytrain_core.storage.store import sha256_of, sha256_of_file

_THREADS = 8
_REPAIR_HINT = "Delete that object and run the same command again: it is prepared again."


class PartCache(Protocol):
    """The part of `raytrain_core.storage.cache.Cache` that readers use."""

    def fetch(self, store: Store, key: str, sha256: str) -> Path:
        """Returns a local file with exactly these contents."""


@dataclass(frozen=True, slots=True)
class PartWriter:
    """Stores files under their sha256; `overwrite` also replaces those that are there already."""

    store: Store
    scratch: Path
    overwrite: bool = False

    def put(self, extension: str, write: Callable[[Path], None]) -> PartRef:
        """Lets `write` make a file and stores it as shards/parts/<sha256>.<extension>."""
        path = self.scratch / f"part.{extension}"
        try:
            write(path)
            sha256, size = sha256_of_file(path), path.stat().st_size
            key = f"shards/parts/{sha256}.{extension}"
            try:
                self.store.upload(key, path, if_absent=not self.overwrite)
            except AlreadyExistsError:
                stat = self.store.stat(key)
                if stat is None or stat.bytes != size:
                    self.store.upload(key, path)
            return PartRef(key, size, sha256)
        finally:
            path.unlink(missing_ok=True)


def fetch_part(part: PartRef, store: Store, cache: PartCache) -> Path:
    """Returns a local, verified copy; raises CorruptError if the part is missing or damaged."""
    try:
        return cache.fetch(store, part.key, part.sha256)
    except NotFoundError:
        raise CorruptError(
            f"{store.uri}/{part.key}: missing, but a manifest names it",
            hint="Run the same command again: missing parts are prepared again.",
        ) from None
    except CorruptError as error:
        raise CorruptError(error.message, hint=_REPAIR_HINT) from None


def require_contents(part: PartRef, data: bytes, store: Store) -> bytes:
    """Returns `data`; raises CorruptError if it is not the contents of the part."""
    if sha256_of(data) != part.sha256:
        raise CorruptError(f"{store.uri}/{part.key}: its contents do not match its name", hint=_REPAIR_HINT)
    return data


def load_keys(split: PreparedSplit, store: Store) -> Keys:
    """Returns the input hashes of a split; raises CorruptError if they are damaged."""
    arrays: list[Keys] = [np.empty(0, np.uint64)]
    for part in split.keys:
        data = require_contents(part, store.get(part.key), store)
        arrays.append(np.load(io.BytesIO(data), allow_pickle=False))
    return np.concatenate(arrays)


def are_stored(store: Store, parts: Sequence[PartRef], *, read: bool = False) -> bool:
    """Whether every part is in the store with its size or, with `read`, with its contents."""

    def is_stored(part: PartRef) -> bool:
        if read:
            try:
                return sha256_of(store.get(part.key)) == part.sha256
            except NotFoundError:
                return False
        stat = store.stat(part.key)
        return stat is not None and stat.bytes == part.bytes

    with ThreadPoolExecutor(_THREADS) as pool:
        return all(pool.map(is_stored, parts))
