"""Opens source files, decompressing them, and refuses decompression bombs."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from data_prep.sources.file_names import Compression
from raytrain_core.errors import DataError

LONGEST_ROW = 16 << 20  # bytes
UNCHECKED_BYTES = 64 << 20  # bytes that a file may decompress to before its ratio is checked
LARGEST_RATIO = 200  # text compresses 3 to 20 times, a very repetitive log up to 100 times

_BUFFER = 1 << 17
_NAMES: dict[Compression, str] = {"gz": "gzip", "zst": "zst", "bz2": "bzip2", "xz": "xz", "lz4": "lz4"}
_XZ_MEMORY = 128 << 20  # bytes for a decoder; xz -9 takes 65 MiB, and a file may ask for 4 GiB


@contextmanager
def open_range(path: Path, start: int, stop: int) -> Iterator[IO[bytes]]:
    """Yields the bytes of an uncompressed file from `start` to `stop`."""
    with path.open("rb") as raw:
        raw.seek(start)
        yield io.BufferedReader(_Range(raw, stop), _BUFFER)


@contextmanager
def open_bytes(path: Path, compression: Compression | None, name: str) -> Iterator[IO[bytes]]:
    """Yields the file's bytes, decompressed while read.

    Raises DataError for a damaged file or a bomb.
    """
    with path.open("rb") as raw:
        if compression is None:
            yield raw
            return
        try:
            yield io.BufferedReader(_Unpacked(raw, compression, name), _BUFFER)
        except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
            raise DataError(f"{name}: damaged {_NAMES[compression]} file ({error})") from None


def lines(file: IO[bytes], before: int = 0) -> Iterator[tuple[int, bytes | None]]:
    """Yields every line with its number, that of the first is 1 + `before`.

    Lines end with LF, CR LF or, as on old Macs, CR. None for a line longer than LONGEST_ROW, never
    in memory.
    """
    number, parts, size = before, list[bytes](), 0
    while chunk := file.readline(_BUFFER):
        if not parts and chunk.endswith(b"\n") and chunk.find(b"\r", 0, -2) < 0:  # nearly every line
            number += 1
            yield number, chunk
            continue
        size += len(chunk)
        parts = [*parts, chunk] if size <= LONGEST_ROW else [parts[-1][-1:] if parts else b"", chunk]
        if b"\r" not in chunk and not chunk.endswith(b"\n") and not parts[0].endswith(b"\r"):
            continue
        *whole, rest = b"".join(parts).splitlines(keepends=True)
        if rest.endswith(b"\n"):
            whole, rest = [*whole, rest], b""
        for line in whole:
            number += 1
            yield number, None if max(size, len(line)) > LONGEST_ROW else line
            size = 0
        parts, size = [rest] if rest else [], max(size, len(rest))
    if parts:
        yield number + 1, None if size > LONGEST_ROW else b"".join(parts)


def check_ratio(packed: int, unpacked: int, name: str) -> None:
    """Raises DataError if the compression ratio is higher than that of any real text."""
    if unpacked > UNCHECKED_BYTES and unpacked > LARGEST_RATIO * packed:
        raise DataError(
            f"{name}: its first {packed:,} bytes decompress to more than {unpacked:,}",
            hint=f"A ratio above {LARGEST_RATIO} is taken for an attack; if it is not, decompress the file first.",
        )


class _Range(io.RawIOBase):
    """The bytes of a file from its position up to `stop`."""

    def __init__(self, raw: IO[bytes], stop: int) -> None:
        self._raw, self._left = raw, stop - raw.tell()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._raw.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)


class _Unpacked(io.RawIOBase):
    """The contents of a compressed file as a stream."""

    def __init__(self, raw: IO[bytes], compression: Compression, name: str) -> None:
        self._raw, self._name, self._compression = raw, name, compression
        self._stream: Any = _stream(raw, compression)
        self._unpacked = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except OSError as error:
            if self._compression == "gz" or error.errno is not None:
                raise
            raise DataError(f"{self._name}: damaged {_NAMES[self._compression]} file ({error})") from None
        self._unpacked += len(data)
        check_ratio(self._raw.tell(), self._unpacked, self._name)
        buffer[: len(data)] = data
        return len(data)


def _stream(raw: IO[bytes], compression: Compression) -> Any:
    if compression == "gz":
        return gzip.GzipFile(fileobj=raw)
    if compression == "bz2":
        return _Members(raw, bz2.BZ2Decompressor)
    if compression == "xz":
        return _Members(raw, partial(lzma.LZMADecompressor, memlimit=_XZ_MEMORY))
    import pyarrow as pa

    return pa.CompressedInputStream(raw, "zstd" if compression == "zst" else "lz4")


class _Members:
    """Decompresses all members of a bzip2 or xz file, one after the other.

    `bz2.BZ2File` and `lzma.LZMAFile` leave out whatever follows the first damaged beginning of a
    member, without a word, and the latter cannot bound its memory.
    """

    def __init__(self, raw: IO[bytes], decoder: Callable[[], Any]) -> None:
        self._raw, self._new, self._decoder = raw, decoder, decoder()

    def read(self, size: int) -> bytes:
        """Returns at most `size` bytes, none at the end of the file."""
        while True:
            if self._decoder.eof:
                packed = self._after_member()
                if not packed:
                    return b""
                self._decoder = self._new()
            else:
                packed = self._raw.read(_BUFFER) if self._decoder.needs_input else b""
                if not packed and self._decoder.needs_input:
                    raise EOFError("it ends too early")
            if data := self._decoder.decompress(packed, size):
                return bytes(data)

    def _after_member(self) -> bytes:
        """The beginning of the next member; none at the end of the file."""
        packed: bytes = self._decoder.unused_data
        while not (packed := packed.lstrip(b"\0")):  # padding
            if not (packed := self._raw.read(_BUFFER)):
                break
        return packed
