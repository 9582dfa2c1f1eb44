"""Reads the rows of one file one after the other: JSONL, CSV, TSV (also .gz, .zst) and Parquet.

Memory does not grow with the file, and no row is larger than `compression.LONGEST_ROW`.
"""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from data_prep.config import Format
from data_prep.sources.compression import LONGEST_ROW, lines, open_bytes
from data_prep.sources.file_names import compression_of
from data_prep.sources.jsonl_rows import jsonl_rows
from data_prep.sources.parquet_rows import count_parquet_rows, parquet_rows
from data_prep.sources.source_row import SourceRow, too_long
from raytrain_core.errors import DataError

_COUNT_BYTES = 1 << 20  # read at once to count lines
_LONGEST_FIELD = 1 << 27  # characters in a CSV field; the library's own limit is 131,072


def read_rows(path: Path, format: Format, name: str, *, packed_as: str | None = None) -> Iterator[SourceRow]:
    """Yields every row of the file `path`; raises DataError if the file itself is broken.

    `name` is its name in messages; `packed_as` (by default `name`) has the extension that tells its
    compression.
    """
    with _as_data_error(name):
        if format == "parquet":
            yield from parquet_rows(path, name)
            return
        with open_bytes(path, compression_of(packed_as or name), name) as file:
            yield from jsonl_rows(file, name) if format == "jsonl" else _delimited(file, name, format)


def count_rows(path: Path, format: Format, name: str, *, packed_as: str | None = None) -> int:
    """Counts the rows: exactly for Parquet, else lines, which include blank ones and the header.

    `name` and `packed_as` are those of `read_rows`.
    """
    with _as_data_error(name):
        if format == "parquet":
            return count_parquet_rows(path)
        with open_bytes(path, compression_of(packed_as or name), name) as file:
            return sum(block.count(b"\n") for block in iter(partial(file.read, _COUNT_BYTES), b""))


@contextmanager
def _as_data_error(name: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as error:
        raise DataError(f"{name}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror or error})") from None


def _delimited(file: IO[bytes], name: str, format: Format) -> Iterator[SourceRow]:
    csv.field_size_limit(_LONGEST_FIELD)
    record = _Record(file, name)
    reader = csv.reader(record, delimiter="\t" if format == "tsv" else ",", strict=True)
    header: list[str] | None = None
    while True:
        record.begin()
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{name}:{reader.line_num}: not {format.upper()}: {error}") from None
        if fields is None:
            return
        number = record.first
        if not fields:
            continue
        if header is None:
            header = _header(fields, name)
        elif any("\udc80" <= c <= "\udcff" for field in fields if not field.isascii() for c in field):
            yield SourceRow(number, None, "not UTF-8")
        elif len(fields) != len(header):
            yield SourceRow(number, None, f"{len(fields)} fields, but the header names {len(header)}")
        else:
            yield SourceRow(number, dict(zip(header, fields, strict=True)))


class _Record:
    """Lines of a file as text, for the CSV reader.

    Bytes that are not UTF-8 become surrogates, so that reading continues and the row can be named.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._lines, self._name = lines(file), name
        self._number = self._bytes = 0
        self.first = 1

    def begin(self) -> None:
        """Starts the next record, which begins in line `first`."""
        self.first, self._bytes = self._number + 1, 0

    def __iter__(self) -> "_Record":
        return self

    def __next__(self) -> str:
        self._number, line = next(self._lines)
        self._bytes += LONGEST_ROW + 1 if line is None else len(line)
        if line is None or self._bytes > LONGEST_ROW:
            hint = "Is a quotation mark never closed?" if self._number > self.first else None
            raise DataError(f"{self._name}:{self.first}: {too_long()}", hint=hint)
        return line.decode("utf-8-sig" if self._number == 1 else "utf-8", "surrogateescape")


def _header(fields: list[str], name: str) -> list[str]:
    header = [field.strip() for field in fields]
    if double := sorted({h for h in header if header.count(h) > 1}):
        raise DataError(f"{name}:1: two columns are named {', '.join(map(repr, double))}")
    return header
