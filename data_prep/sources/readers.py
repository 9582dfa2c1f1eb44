"""Reads the rows of one file one after the other: JSONL, CSV, TSV (also .gz, .zst) and Parquet.

Memory does not grow with the file, and no row is larger than `compression.LONGEST_ROW`.
"""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from data_prep.sources.compression import LONGEST_ROW, check_ratio, lines, open_bytes
from data_prep.sources.file_names import Format, compression_of
from data_prep.tally import Event
from raytrain_core.errors import DataError

_BATCH = 64  # Parquet rows in memory at once: few, because repeated values take almost no space in the file
_COUNT_BYTES = 1 << 20  # read at once to count lines
_LONGEST_FIELD = 1 << 27  # characters in a CSV field; the library's own limit is 131,072


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row, or the reason why it is bad; `number` is its line (its row in Parquet), from 1."""

    number: int
    values: dict[str, Any] | None
    reason: str = ""
    events: tuple[Event, ...] = ()
    """What the reader changed, for the tally."""


def read_rows(path: Path, format: Format, name: str, *, packed_as: str | None = None) -> Iterator[SourceRow]:
    """Yields every row of the file `path`; raises DataError if the file itself is broken.

    `name` is its name in messages; `packed_as` (by default `name`) has the extension that tells its
    compression.
    """
    with _as_data_error(name):
        if format == "parquet":
            yield from _parquet(path, name)
            return
        with open_bytes(path, compression_of(packed_as or name), name) as file:
            yield from _jsonl(file, name) if format == "jsonl" else _delimited(file, name, format)


def count_rows(path: Path, format: Format, name: str, *, packed_as: str | None = None) -> int:
    """Counts the rows: exactly for Parquet, else lines, which include blank ones and the header.

    `name` and `packed_as` are those of `read_rows`.
    """
    with _as_data_error(name):
        if format == "parquet":
            import pyarrow.parquet as pq

            return int(pq.read_metadata(path).num_rows)
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


def _jsonl(file: IO[bytes], name: str) -> Iterator[SourceRow]:
    for number, line in lines(file):
        if line is None:
            yield SourceRow(number, None, too_long())
            continue
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            yield SourceRow(number, None, _not_utf8(error))
            continue
        if not text:
            continue
        if number == 1 and text.startswith("["):
            raise DataError(
                f"{name}:1: is a JSON array instead of JSON Lines",
                hint="Write one object per line, e.g. jq -c '.[]' data.json > data.jsonl",
            )
        try:
            value = json.loads(text)
        except ValueError as error:
            yield SourceRow(number, None, f"not JSON: {error}")
        except RecursionError:
            yield SourceRow(number, None, "not JSON: nested too deeply")
        else:
            if isinstance(value, dict):
                yield SourceRow(number, value)
            else:
                yield SourceRow(number, None, f"a JSON {type(value).__name__} instead of an object")


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


def _parquet(path: Path, name: str) -> Iterator[SourceRow]:
    import pyarrow.parquet as pq

    number = 0
    with pq.ParquetFile(path) as file:
        _check_chunks(file.metadata, name)
        for batch in file.iter_batches(batch_size=_BATCH):
            large = batch.nbytes > LONGEST_ROW
            try:
                values = batch.to_pylist()
            except UnicodeDecodeError as error:
                raise DataError(f"{name}: row {number + 1} to {number + batch.num_rows}: {_not_utf8(error)}") from None
            for i, row in enumerate(values):
                number += 1
                # get_total_buffer_size would count the complete batch for each row
                if large and batch.slice(i, 1).nbytes > LONGEST_ROW:
                    yield SourceRow(number, None, too_long())
                else:
                    yield SourceRow(number, row)


def _check_chunks(metadata: Any, name: str) -> None:
    """Raises DataError if a column compresses better than text does.

    It would be decompressed at once.
    """
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            check_ratio(chunk.total_compressed_size, chunk.total_uncompressed_size, name)


def too_long() -> str:
    """Returns the reason why such a row is bad."""
    return f"a row of more than {LONGEST_ROW >> 20} MiB"


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"not UTF-8 (byte 0x{error.object[error.start]:02x} at {error.start})"
