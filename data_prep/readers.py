"""Rows of one file, one after the other: JSONL, CSV, TSV (also .gz) and Parquet. Memory does not grow with the file."""

import csv
import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from data_prep.errors import DataError

Format = Literal["jsonl", "csv", "tsv", "parquet"]

_EXTENSIONS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_BATCH = 1024
_LONGEST_FIELD = 1 << 27  # characters in a CSV field; the library's own limit is 131,072


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row, or why there is none; `number` is its line (its row in Parquet), from 1."""

    number: int
    values: dict[str, Any] | None
    reason: str = ""


def format_of(name: str) -> Format | None:
    """The format that a file name tells, None if it tells none."""
    stem = name.lower().removesuffix(".gz")
    found = _EXTENSIONS.get(Path(stem).suffix)
    return None if found == "parquet" and name.lower().endswith(".gz") else found


def known_extensions() -> str:
    """For messages."""
    return ".jsonl, .csv, .tsv (each also .gz) and .parquet"


def read_rows(path: Path, format: Format, name: str, *, compressed: bool | None = None) -> Iterator[SourceRow]:
    """Every row of the file `path`; `name` is how messages call it. DataError where the file as a whole is broken."""
    packed = name.lower().endswith(".gz") if compressed is None else compressed
    with _sentences(name):
        if format == "parquet":
            yield from _parquet(path, name)
            return
        with path.open("rb") as raw:
            file: IO[bytes] = gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[assignment]
            yield from _jsonl(file, name) if format == "jsonl" else _delimited(file, name, format)


def count_rows(path: Path, format: Format) -> int | None:
    """How many rows there are, where that is known without reading them."""
    if format != "parquet":
        return None
    import pyarrow.parquet as pq

    with _sentences(str(path)):
        return int(pq.read_metadata(path).num_rows)


@contextmanager
def _sentences(name: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{name}: damaged gzip file ({error})") from None
    except pa.ArrowException as error:
        raise DataError(f"{name}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror or error})") from None


def _jsonl(file: IO[bytes], name: str) -> Iterator[SourceRow]:
    for number, line in enumerate(file, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            yield SourceRow(number, None, _not_utf8(error))
            continue
        if not text:
            continue
        if number == 1 and text.startswith("["):
            raise DataError(
                f"{name}:1: begins a JSON array instead of JSON Lines",
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
    # Bytes that are no UTF-8 become surrogates here, so that their row can be named and the reading goes on.
    lines = (
        line.decode("utf-8-sig" if number == 0 else "utf-8", "surrogateescape") for number, line in enumerate(file)
    )
    reader = csv.reader(lines, delimiter="\t" if format == "tsv" else ",", strict=True)
    start = 1
    header: list[str] | None = None
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{name}:{reader.line_num}: not {format.upper()}: {error}") from None
        if fields is None:
            return
        number, start = start, reader.line_num + 1
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


def _header(fields: list[str], name: str) -> list[str]:
    header = [field.strip() for field in fields]
    if double := sorted({h for h in header if header.count(h) > 1}):
        raise DataError(f"{name}:1: two columns are named {', '.join(map(repr, double))}")
    return header


def _parquet(path: Path, name: str) -> Iterator[SourceRow]:
    import pyarrow.parquet as pq

    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_BATCH):
            try:
                values = batch.to_pylist()
            except UnicodeDecodeError as error:
                raise DataError(f"{name}: row {number + 1} to {number + batch.num_rows}: {_not_utf8(error)}") from None
            for row in values:
                number += 1
                yield SourceRow(number, row)


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"not UTF-8 (byte 0x{error.object[error.start]:02x} at {error.start})"
