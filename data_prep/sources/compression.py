"""The bytes of a source file, unpacked where its name says so, and refused if they unpack to far too much."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from raytrain_core.errors import DataError

Compression = Literal["gz", "zst"]

LONGEST_ROW = 16 << 20  # bytes
UNPACKED_FREELY = 64 << 20  # bytes that a packed file may become before its ratio is looked at
LARGEST_RATIO = 200  # text packs 3 to 20 times, a log that says the same all day up to 100 times

_BUFFER = 1 << 17
_SUFFIXES: dict[str, Compression] = {".gz": "gz", ".zst": "zst"}


def compression_of(name: str) -> Compression | None:
    """How a file of that name is packed."""
    return _SUFFIXES.get(Path(name.lower()).suffix)


@contextmanager
def open_bytes(path: Path, compression: Compression | None, name: str) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked while they are read; DataError for a damaged file or one that is a bomb."""
    with path.open("rb") as raw:
        if compression is None:
            yield raw
            return
        try:
            yield io.BufferedReader(_Unpacked(raw, compression, name), _BUFFER)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{name}: damaged gzip file ({error})") from None


def lines(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Every line with its number from 1; None instead of a line longer than LONGEST_ROW, which is never held."""
    number = 0
    while line := file.readline(LONGEST_ROW + 1):
        number += 1
        if len(line) <= LONGEST_ROW:
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(_BUFFER)
        yield number, None


def check_ratio(packed: int, unpacked: int, name: str) -> None:
    """DataError if so few bytes became so many as no text does."""
    if unpacked > UNPACKED_FREELY and unpacked > LARGEST_RATIO * packed:
        raise DataError(
            f"{name}: its first {packed:,} bytes unpack to more than {unpacked:,}",
            hint=f"More than {LARGEST_RATIO} times is taken for an attack; if it is none, unpack the file first.",
        )


class _Unpacked(io.RawIOBase):
    """What is in a packed file."""

    def __init__(self, raw: IO[bytes], compression: Compression, name: str) -> None:
        self._raw, self._name, self._zst = raw, name, compression == "zst"
        self._stream: Any
        if self._zst:
            import pyarrow as pa

            self._stream = pa.CompressedInputStream(raw, "zstd")
        else:
            self._stream = gzip.GzipFile(fileobj=raw)
        self._unpacked = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except OSError as error:
            if not self._zst or error.errno is not None:
                raise
            raise DataError(f"{self._name}: damaged zst file ({error})") from None
        self._unpacked += len(data)
        check_ratio(self._raw.tell(), self._unpacked, self._name)
        buffer[: len(data)] = data
        return len(data)
