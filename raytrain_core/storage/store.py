"""The interface of every store: protocol, records and errors."""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from raytrain_core.errors import StorageError

CHUNK = 1 << 20  # bytes read at a time when a file is hashed or copied


class NotFoundError(StorageError):
    """The key does not exist."""


class AlreadyExistsError(StorageError):
    """The key exists, but `if_absent` was requested."""


class CorruptError(StorageError):
    """The bytes read (or stored) are not the bytes that were written."""


@dataclass(frozen=True, slots=True)
class Stat:
    """Metadata of a stored object; `etag` changes whenever its bytes do.

    `modified` is the time of its last write in seconds since 1970 by the store's clock: use it for
    ages, never for an order.
    """

    key: str
    bytes: int
    etag: str
    modified: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Stored:
    """A verified upload; `sha256` is 64 hex digits."""

    key: str
    bytes: int
    sha256: str


@runtime_checkable
class Store(Protocol):
    """Bytes under keys, which are relative and `/`-separated (`raytrain_core.storage.uri`).

    A write that returns has stored exactly those bytes, and readers see either the old object or
    the complete new one. All errors are `StorageError` or a subclass, with one sentence for the
    user. A store pickles without connections and credentials: it reopens in the other process.
    """

    @property
    def uri(self) -> str:
        """The normalised URI of the store, without credentials."""
        ...

    def get(self, key: str) -> bytes:
        """Returns the bytes of a small object; raises NotFoundError."""
        ...

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Stores `data` under `key`, replacing an older object.

        With `if_absent`, raises AlreadyExistsError instead; of several writers, one wins.
        """
        ...

    def upload(self, key: str, path: Path, *, if_absent: bool = False) -> Stored:
        """Stores the file `path` like `put`, streamed."""
        ...

    def download(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        """Writes the object to `path` by a temporary file.

        Raises NotFoundError, or CorruptError if size or sha256 differ.
        """
        ...

    def stat(self, key: str) -> Stat | None:
        """Returns size and etag; None if the key does not exist."""
        ...

    def list(self, prefix: str) -> Iterator[Stat]:
        """Yields objects whose key starts with `prefix`, sorted by key.

        End it in `/` for a folder.
        """
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Deletes these; a missing key is not an error."""
        ...


@runtime_checkable
class BucketStore(Store, Protocol):
    """A store in a bucket of a cloud, or of a server that speaks its protocol."""

    endpoint: str | None
    region: str | None

    @property
    def limits(self) -> Collection[str]:
        """What the store turned out not to support, so far, a sentence each."""
        ...

    def impatient(self) -> "BucketStore":
        """Returns the same store, which gives up after a few seconds."""
        ...


def sha256_of(data: bytes) -> str:
    """Returns the hex sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Returns the hex sha256 of a file, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
