"""A file with rows, on this machine or in a bucket: how it is read, its spans, its rows."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Protocol, Self

from data_prep.config import CsvOptions, Format, Split
from data_prep.sources.read_as import ReadAs
from data_prep.sources.readers import count_rows, detect_format, read_rows, spans_of
from data_prep.sources.source_row import SourceRow
from data_prep.sources.spans import BYTES, WHOLE, Span
from raytrain_core.errors import DataError
from raytrain_core.storage import Stat, Store
from raytrain_core.storage.store import sha256_of_file

_SETTLED_SECONDS = 2.0  # FAT, the coarsest file system, stores even seconds


class SourceFile(Protocol):
    """A file with rows, or a split of a data set on the hub."""

    @property
    def name(self) -> str:
        """Its name in messages and manifests."""

    @property
    def split(self) -> Split | None:
        """The split that its name or the job gives it; None if neither does."""

    @property
    def fingerprint(self) -> str | None:
        """Changes with the contents, as far as that can be seen without reading.

        None if it cannot.
        """

    @property
    def read_as(self) -> ReadAs:
        """How it is read; what is known without reading it before `detected`."""

    def detected(self, scratch: Path) -> Self:
        """Returns the file with how it is read, for which it may be read."""

    def with_read_as(self, read_as: ReadAs) -> Self:
        """Returns the file with how it is read, as it was detected before."""

    def sha256(self, scratch: Path) -> str:
        """Returns the hex sha256 of the contents, which are read.

        `scratch` is a folder for downloads.
        """

    def spans(self, scratch: Path) -> list[Span]:
        """Returns the spans that can be read each on its own, in order."""

    def rows(self, scratch: Path, span: Span = WHOLE) -> Iterator[SourceRow]:
        """Yields every row of a span."""

    def count(self, scratch: Path) -> int | None:
        """Returns about how many rows there are; None if only reading them would tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _RowsFile:
    """What files have in common, wherever they are."""

    name: str
    format: Format
    split: Split | None = None
    options: CsvOptions | None = None
    known: ReadAs | None = None

    @property
    def packed_as(self) -> str:
        """The name whose extension tells the compression."""
        raise NotImplementedError

    def local(self, scratch: Path) -> Path:
        """Returns where the contents are on this machine, downloaded to `scratch` if need be."""
        raise NotImplementedError

    @property
    def read_as(self) -> ReadAs:
        """How it is read; its format alone before `detected`."""
        return self.known or ReadAs(self.format)

    def detected(self, scratch: Path) -> Self:
        """Returns the file with how it is read; it is read for that."""
        if self.known is not None:
            return self
        path = self.local(scratch)
        return self.with_read_as(detect_format(path, self.format, self.name, self.options, packed_as=self.packed_as))

    def with_read_as(self, read_as: ReadAs) -> Self:
        """Returns the file with how it is read."""
        return replace(self, known=read_as)

    def sha256(self, scratch: Path) -> str:
        """Returns the hex sha256 of the contents."""
        path = self.local(scratch)
        try:
            return sha256_of_file(path)
        except OSError as error:
            raise DataError(f"{self.name}: cannot be read ({error.strerror or error})") from None

    def spans(self, scratch: Path) -> list[Span]:
        """Divides the file, which may be read for that."""
        read_as = self.detected(scratch).read_as
        return spans_of(self.local(scratch), read_as, self.name, packed_as=self.packed_as)

    def rows(self, scratch: Path, span: Span = WHOLE) -> Iterator[SourceRow]:
        """Yields every row of a span."""
        how, path = self.detected(scratch).read_as, self.local(scratch)
        return read_rows(path, self.format, self.name, packed_as=self.packed_as, read_as=how, span=span)

    def count(self, scratch: Path) -> int | None:
        """Returns the number of lines, or of Parquet rows."""
        return count_rows(self.local(scratch), self.format, self.name, packed_as=self.packed_as)


@dataclass(frozen=True, slots=True)
class LocalFile(_RowsFile):
    """A file on this machine."""

    path: Path

    @property
    def packed_as(self) -> str:
        """Its own name."""
        return self.path.name

    @property
    def fingerprint(self) -> str | None:
        """Path, size, time and inode.

        None for a file so new that a further change might not show in its time.
        """
        stat = self.path.stat()
        if time.time() - stat.st_mtime < _SETTLED_SECONDS:
            return None
        return f"file:{self.path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"

    def local(self, scratch: Path) -> Path:
        """Returns its path."""
        return self.path


@dataclass(frozen=True, slots=True)
class StoredFile(_RowsFile):
    """An object in a bucket, downloaded when it is first read."""

    store: Store
    stat: Stat

    @property
    def packed_as(self) -> str:
        """Its key."""
        return self.stat.key

    @property
    def fingerprint(self) -> str:
        """URI, size and etag."""
        return f"{self.store.uri}:{self.stat.key}:{self.stat.bytes}:{self.stat.etag}"

    def spans(self, scratch: Path) -> list[Span]:
        """Divides the downloaded object; a small one is a span that whoever reads it downloads."""
        if self.stat.bytes <= BYTES:
            return [Span(bytes=self.stat.bytes)]
        return _RowsFile.spans(self, scratch)

    def open(self, scratch: Path) -> IO[bytes]:
        """Opens the downloaded object."""
        return self.local(scratch).open("rb")

    def local(self, scratch: Path) -> Path:
        """Returns the downloaded object; raises DataError if it was changed after it was listed."""
        path = scratch / hashlib.sha256(self.fingerprint.encode()).hexdigest()
        if not path.exists():
            self.store.download(self.stat.key, path)
            if self.store.stat(self.stat.key) != self.stat:  # other contents than the fingerprint stands for
                path.unlink(missing_ok=True)
                raise DataError(
                    f"{self.name}: was changed after it was listed",
                    hint="Run the same command again once nobody writes to it.",
                )
        return path
