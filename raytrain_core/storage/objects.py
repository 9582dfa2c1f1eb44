"""A store in a bucket of GCS or a container of Azure that verifies every write and read.

What the two protocols share is here; `gcs` and `azure` make the requests. As in S3:

- The object's sha256 and a token of the writing call are stored as its metadata.
- Bodies carry a checksum that the server compares (`Bucket.write`); a damaged body is sent twice
  more.
- Objects up to 1 MiB are read back and compared; larger ones too, unless the server tells a
  checksum of what it stored (GCS does, Azure does not).
- Downloads come in parallel ranges of one version, and check size and sha256.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar
from uuid import uuid4

from raytrain_core.errors import StorageError
from raytrain_core.storage.keys import check_key, check_prefix
from raytrain_core.storage.local import part_file
from raytrain_core.storage.object_errors import Kind, ObjectError, Place, explain
from raytrain_core.storage.store import (
    AlreadyExistsError,
    CorruptError,
    NotFoundError,
    Stat,
    Stored,
    sha256_of,
    sha256_of_file,
)

PART = 16 << 20  # bytes; larger objects are read in ranges of this size
READ_BACK = 1 << 20  # bytes; smaller objects are read back whatever the server says
_THREADS = 4
_TRIES = 3  # of a body that arrives damaged or cut

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Head:
    """What a server tells of an object; `checksum` is what it computed itself, if it does."""

    bytes: int
    etag: str
    modified: float
    metadata: Mapping[str, str]
    checksum: str | None = None


class Bucket(Protocol):
    """The requests to one bucket. Keys are whole; errors are `ObjectError`. Thread-safe."""

    place: Place

    def write(self, key: str, content: bytes | Path, metadata: Mapping[str, str], *, if_absent: bool) -> None:
        """Stores an object in one visible step; `Kind.REFUSED` if it exists and must not."""

    def head(self, key: str) -> Head | None:
        """Returns what is known of an object; None if there is none."""

    def read(self, key: str, start: int, end: int, etag: str) -> bytes:
        """Returns bytes [start, end) of the version `etag`; `Kind.REFUSED` if it is gone."""

    def list(self, prefix: str) -> Iterable[tuple[str, Head]]:
        """Yields every object whose key starts with `prefix`, through all pages."""

    def delete(self, key: str) -> None:
        """Deletes an object; `Kind.ABSENT` if there is none."""

    def checksum(self, content: bytes | Path) -> str | None:
        """Returns the checksum that `Head.checksum` must equal; None if the server tells none."""


class ObjectStore:
    """The objects of a bucket below `prefix`; connects at first use, thread-safe.

    `make` opens the bucket: a function of a module, so that the store pickles without credentials.
    `patience` are the seconds for which a failing request is tried again.
    """

    region = None

    def __init__(
        self, uri: str, prefix: str, endpoint: str | None, make: Callable[[str, str | None, float], Bucket],
        patience: float = 90.0,
    ) -> None:  # fmt: skip
        self.uri, self.prefix, self.endpoint, self.patience = uri, prefix, endpoint, patience
        self._make = make
        self._opened: Bucket | None = None

    def __reduce__(self) -> tuple[object, ...]:  # names only: the other process finds its own credentials
        return ObjectStore, (self.uri, self.prefix, self.endpoint, self._make, self.patience)

    def __repr__(self) -> str:
        return f"ObjectStore({self.uri!r}, endpoint={self.endpoint!r})"

    @property
    def limits(self) -> frozenset[str]:
        """What the store does not support: nothing is done in another way here."""
        return frozenset()

    def impatient(self) -> "ObjectStore":
        """The same store, which gives up after a few seconds."""
        return ObjectStore(self.uri, self.prefix, self.endpoint, self._make, patience=5.0)

    def get(self, key: str) -> bytes:
        """Returns the object's bytes, verified against the sha256 in its metadata if it has one."""
        full = self._full(check_key(key))
        return self._again(full, lambda: self._read_whole(full))

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Stores by one request (conditional with `if_absent`), and verifies."""
        self._write(self._full(check_key(key)), data, len(data), sha256_of(data), if_absent)

    def upload(self, key: str, path: Path, *, if_absent: bool = False) -> Stored:
        """Stores a file, in blocks if it is large."""
        full = self._full(check_key(key))
        try:
            size, sha256 = path.stat().st_size, sha256_of_file(path)
            content = path if size > PART else path.read_bytes()
            self._write(full, content, size, sha256, if_absent)
        except OSError as error:
            raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error
        return Stored(key, size, sha256)

    def download(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        """Downloads in parallel ranges of one version; damaged bytes are asked for twice more."""
        full = self._full(check_key(key))
        head = self._head(full)
        if head is None:
            raise NotFoundError(f"{self._named(full)}: no such object")
        kept = head.metadata.get("sha256")
        if sha256 is not None and kept is not None and kept != sha256:
            raise CorruptError(f"{self._named(full)}: its sha256 is {kept}, expected {sha256}")
        with part_file(path, head.bytes) as part:
            self._again(full, lambda: self._download(full, part, sha256))

    def stat(self, key: str) -> Stat | None:
        """Returns size and etag; None if the key does not exist."""
        head = self._head(self._full(check_key(key)))
        return None if head is None else Stat(key, head.bytes, head.etag, head.modified)

    def list(self, prefix: str) -> Iterator[Stat]:
        """Yields all pages, sorted; skips folder markers."""
        check_prefix(prefix)
        root = f"{self.prefix}/" if self.prefix else ""
        found = self._run("list", root + prefix, lambda bucket: list(bucket.list(root + prefix)))
        stats = [
            Stat(key[len(root) :], head.bytes, head.etag, head.modified) for key, head in found if not key.endswith("/")
        ]
        yield from sorted(stats, key=lambda stat: stat.key)

    def delete(self, keys: Iterable[str]) -> None:
        """Deletes several at a time."""
        full = [self._full(check_key(key)) for key in keys]
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="delete") as pool:
            list(pool.map(self._delete, full))

    def _delete(self, full: str) -> None:
        with suppress(NotFoundError):
            self._run("delete", full, lambda bucket: bucket.delete(full))

    def _write(self, full: str, content: bytes | Path, size: int, sha256: str, if_absent: bool) -> None:
        writer = uuid4().hex
        if if_absent and size > PART and self._head(full) is not None:  # saves the upload; the request decides
            raise AlreadyExistsError(f"{self._named(full)}: exists already")
        metadata = {"sha256": sha256, "writer": writer}
        try:
            self._again(
                full,
                lambda: self._run(
                    "write", full, lambda bucket: bucket.write(full, content, metadata, if_absent=if_absent)
                ),
            )
        except _RefusedError:
            # the answer to an earlier attempt that succeeded may have been lost
            head = self._head(full)
            if head is None or head.metadata.get("writer") != writer:
                raise AlreadyExistsError(f"{self._named(full)}: exists already") from None
        self._verify(full, content, size, sha256, writer)

    def _verify(self, full: str, content: bytes | Path, size: int, sha256: str, writer: str) -> None:
        """Verifies what is stored; removes the object and raises CorruptError if it is another."""
        head = self._head(full)
        if head is None:
            raise CorruptError(f"{self._named(full)}: reported as stored, but it is not there")
        if head.metadata.get("writer") != writer:  # replaced since: its writer answers for it
            return
        wrong = None
        if head.bytes != size:
            wrong = f"{head.bytes:,} bytes are stored instead of {size:,}"
        elif size > READ_BACK and head.checksum is not None:
            if head.checksum != (ours := self._bucket().checksum(content)):
                wrong = f"the store computed {head.checksum} instead of {ours}"
        else:
            found = self._stored_sha256(full, writer)
            wrong = f"it reads back with sha256 {found} instead of {sha256}" if found not in (None, sha256) else None
        if wrong is not None:
            with suppress(StorageError):  # a damaged object is worse than none
                self._delete(full)
            raise CorruptError(f"{self._named(full)}: {wrong}")

    def _stored_sha256(self, full: str, writer: str) -> str | None:
        """Reads what this call wrote; None if another writer replaced it meanwhile."""

        def read() -> str | None:
            head = self._head(full)
            if head is None or head.metadata.get("writer") != writer:
                return None
            digest = hashlib.sha256()
            for data in self._ranges(full, head):
                digest.update(data)
            return digest.hexdigest()

        return self._again(full, read)

    def _read_whole(self, full: str) -> bytes:
        head = self._head(full)
        if head is None:
            raise NotFoundError(f"{self._named(full)}: no such object")
        data = b"".join(self._ranges(full, head))
        _check(data_sha256=sha256_of(data), size=len(data), head=head, expected=None)
        return data

    def _download(self, full: str, part: Path, sha256: str | None) -> None:
        head = self._head(full)
        if head is None:
            raise NotFoundError(f"{self._named(full)}: no such object")
        digest, size = hashlib.sha256(), 0
        with part.open("wb") as file:
            for data in self._ranges(full, head):
                file.write(data)
                digest.update(data)
                size += len(data)
        _check(data_sha256=digest.hexdigest(), size=size, head=head, expected=sha256)

    def _ranges(self, full: str, head: Head) -> Iterator[bytes]:
        """Yields the bytes of one version in order; at most four ranges are in memory."""
        starts = range(0, head.bytes, PART)

        def read(start: int) -> bytes:
            end = min(start + PART, head.bytes)
            return self._run("read", full, lambda bucket: bucket.read(full, start, end, head.etag))

        if len(starts) <= 1:
            yield from map(read, starts)
            return
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="download") as pool:
            for first in range(0, len(starts), _THREADS):
                yield from pool.map(read, starts[first : first + _THREADS])

    def _again(self, full: str, call: Callable[[], T]) -> T:
        """Makes a call again whose body came damaged or cut, or of another version."""
        for remaining in reversed(range(_TRIES)):
            try:
                return call()
            except _DamagedError as error:
                if not remaining:
                    raise CorruptError(
                        f"{self._named(full)}: damaged: {error.message} ({_TRIES} tries)",
                        hint="The network may be damaging data, or the file changed while it was uploaded.",
                    ) from None
            except _CutError as error:
                if not remaining:
                    raise StorageError(
                        f"{self._named(full)}: the connection broke {_TRIES} times ({error.message})",
                        hint="Check the network; run the same command again.",
                    ) from None
                time.sleep(0.1 * 2 ** (_TRIES - remaining))
        raise AssertionError("unreachable")

    def _head(self, full: str) -> Head | None:
        return self._run("read", full, lambda bucket: bucket.head(full))

    def _run(self, verb: str, full: str, call: Callable[[Bucket], T]) -> T:
        bucket = self._bucket()
        try:
            return call(bucket)
        except ObjectError as error:
            if error.kind is Kind.REFUSED and verb == "write":
                raise _RefusedError(error.text) from error
            if error.kind in (Kind.REFUSED, Kind.DAMAGED):  # replaced between two ranges, or a checksum differs
                raise _DamagedError(error.text) from error
            if error.kind is Kind.CUT:
                raise _CutError(error.text) from error
            raise explain(error, verb, full, bucket.place) from error

    def _bucket(self) -> Bucket:
        if self._opened is None:  # two threads may both open it: one of the two is kept
            self._opened = self._make(self.uri, self.endpoint, self.patience)
        return self._opened

    def _named(self, full: str) -> str:
        """The URI of an object, for messages."""
        return f"{self.uri.removesuffix(self.prefix).rstrip('/')}/{full}"

    def _full(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key


class _RefusedError(StorageError):
    """The object exists, but must not."""


class _DamagedError(StorageError):
    """A body does not match its size or checksum, or is of another version."""


class _CutError(StorageError):
    """The connection broke within a body."""


def _check(*, data_sha256: str, size: int, head: Head, expected: str | None) -> None:
    if size != head.bytes:
        raise _DamagedError(f"received {size:,} bytes instead of {head.bytes:,}")
    wanted = expected or head.metadata.get("sha256")
    if wanted is not None and data_sha256 != wanted:
        raise _DamagedError(f"received sha256 {data_sha256}, expected {wanted}")
