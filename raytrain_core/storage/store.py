"""What a store promises, whatever it is made of: the protocol, its records and its errors."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from raytrain_core.errors import StorageError

CHUNK = 1 << 20  # bytes read at a time when a file is hashed or copied


class NotFoundError(StorageError):
    """There is nothing under that key."""


class AlreadyExistsError(StorageError):
    """`if_absent` was asked for and there is something under that key."""


class CorruptError(StorageError):
    """The bytes that came back (or arrived) are not the bytes that were put."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What is known of a stored object without reading it; `etag` changes whenever its bytes do.

    `modified` is when it was put, in seconds since 1970 by the store's clock: for ages, never for
    an order.
    """

    key: str
    bytes: int
    etag: str
    modified: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Stored:
    """What an upload left in the store, verified; `sha256` is 64 hex digits."""

    key: str
    bytes: int
    sha256: str


@runtime_checkable
class Store(Protocol):
    """Bytes under keys. Keys are relative, `/`-separated and validated (`raytrain_core.storage.uri.check_key`).

    A write that returned has stored exactly those bytes, and readers see either the old object or
    the whole new one. Everything raises `StorageError` or a subclass with one sentence for a
    person. A store pickles: it reopens in the other process and carries neither connections nor
    credentials there.
    """

    @property
    def uri(self) -> str:
        """Where the store is, normalised, without credentials."""
        ...

    def get(self, key: str) -> bytes:
        """The bytes under `key`, for small things; NotFoundError."""
        ...

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Store `data`, replacing what is there; with `if_absent` AlreadyExistsError instead, one winner among many."""
        ...

    def upload(self, key: str, path: Path, *, if_absent: bool = False) -> Stored:
        """Store the file `path`, streamed; as `put` otherwise."""
        ...

    def download(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        """Write the object to `path` (temp file and rename); NotFoundError, CorruptError if size or sha256 differ."""
        ...

    def stat(self, key: str) -> Stat | None:
        """Size and etag, or None if there is nothing."""
        ...

    def list(self, prefix: str) -> Iterator[Stat]:
        """Everything whose key starts with `prefix` (a plain string: end it in `/` for a folder), sorted by key."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove these; what is not there is no error."""
        ...


def sha256_of(data: bytes) -> str:
    """Hex sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hex sha256 of a file, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
