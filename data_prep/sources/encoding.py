"""The encoding of a text file: told by its first bytes, or by the job, and never guessed."""

import codecs
import io
from typing import IO, Any

from raytrain_core.errors import DataError

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_TEXT = (
    (b"PAR1", "a Parquet file"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook of before 2007"),
    (b"\x1f\x8b", "compressed by gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (b"BZh", "compressed by bzip2"),
    (b"\xfd7zXZ\x00", "compressed by xz"),
    (b"ARROW1\x00\x00", "an Arrow file"),
    (b"SQLite format 3\x00", "an SQLite data base"),
    (b"%PDF-", "a PDF"),
)
_CHUNK = 1 << 16


def encoding_of(head: bytes, name: str) -> str:
    """Returns the encoding that the first bytes of a file show, `utf-8` unless they show another.

    Without a byte order mark, UTF-16 shows by its zeros (RFC 4627). Raises DataError for a file
    that is no text.
    """
    for mark, what in _NOT_TEXT:
        if head.startswith(mark):
            raise DataError(f"{name}: is {what}, not what its name says", hint="Rename or unpack it, or export text.")
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    zeros = "".join("0" if byte == 0 else "x" for byte in head[:4])
    return {"x0x0": "utf-16-le", "0x0x": "utf-16-be"}.get(zeros, "utf-8")


def as_utf8(file: IO[bytes], encoding: str, name: str) -> IO[bytes]:
    """Returns the file in UTF-8; reading raises DataError where it is not in its encoding."""
    return file if encoding == "utf-8" else io.BufferedReader(_Recoded(file, encoding, name), _CHUNK)


class _Recoded(io.RawIOBase):
    """A file in another encoding as UTF-8."""

    def __init__(self, file: IO[bytes], encoding: str, name: str) -> None:
        self._file, self._encoding, self._name = file, encoding, name
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ready = b""
        self._lines, self._ended = 1, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self._ended:
            chunk = self._file.read(_CHUNK)
            self._ended = not chunk
            try:
                text = self._decoder.decode(chunk, final=self._ended)
            except UnicodeError as error:
                reason = getattr(error, "reason", str(error))
                raise DataError(
                    f"{self._name}: is not {self._encoding} after line {self._lines} ({reason})",
                    hint="Name its encoding in source.csv.encoding.",
                ) from None
            self._lines += text.count("\n")
            self._ready = text.encode("utf-8", "surrogatepass")
        data, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)
