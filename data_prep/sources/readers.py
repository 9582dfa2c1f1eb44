"""Reads the rows of one file one after the other.

Memory does not grow with the file, and no row is larger than `compression.LONGEST_ROW`.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from data_prep.config import CsvOptions, Format
from data_prep.sources.compression import open_bytes, open_range
from data_prep.sources.conll_rows import conll_rows
from data_prep.sources.csv_records import CsvDialect
from data_prep.sources.csv_rows import csv_rows, header_of
from data_prep.sources.file_names import compression_of, format_of
from data_prep.sources.json_rows import json_rows
from data_prep.sources.jsonl_rows import jsonl_rows
from data_prep.sources.parquet_rows import count_parquet_rows, parquet_rows
from data_prep.sources.read_as import ReadAs, detect, open_text
from data_prep.sources.shapes import in_shape
from data_prep.sources.source_row import SourceRow, not_utf8
from data_prep.sources.spans import WHOLE, Span, spans_of_lines, spans_of_parquet
from raytrain_core.errors import DataError

_COUNT_BYTES = 1 << 20  # read at once to count lines


def read_rows(
    path: Path,
    format: Format,
    name: str,
    *,
    packed_as: str | None = None,
    read_as: ReadAs | None = None,
    span: Span = WHOLE,
) -> Iterator[SourceRow]:
    """Yields every row of a span of the file `path`; raises DataError if the file is broken.

    `name` is its name in messages; `packed_as` (by default `name`) has the extension that tells its
    compression. `read_as` is what `detect_format` returned, by default it is called here.
    """
    packed_as = packed_as or name
    with _as_data_error(name):
        how = read_as or detect(path, format, name, packed_as=packed_as)
        if how.format == "parquet":
            rows = parquet_rows(path, name, span)
        else:
            rows = _text_rows(path, how, name, packed_as, span)
        yield from rows if how.shape is None else in_shape(rows, how.shape)


def _text_rows(path: Path, how: ReadAs, name: str, packed_as: str, span: Span) -> Iterator[SourceRow]:
    if span.stop is not None:
        with open_range(path, span.start, span.stop) as file:
            if how.dialect is not None:
                yield from csv_rows(file, how.dialect, name, span)
            else:
                yield from jsonl_rows(file, span.first)
        return
    with open_text(path, how.encoding, compression_of(packed_as), name) as file:
        if how.dialect is not None:
            yield from csv_rows(file, how.dialect, name)
        elif how.format == "conll":
            yield from conll_rows(file)
        else:
            yield from json_rows(file, name) if how.format == "json" else jsonl_rows(file)


def detect_format(path: Path, format: Format, name: str, options: CsvOptions | None, *, packed_as: str) -> ReadAs:
    """Returns how a file is read; raises DataError as `read_as.detect` does, or if it is broken."""
    with _as_data_error(name):
        return detect(path, format, name, options, packed_as=packed_as)


def spans_of(path: Path, read_as: ReadAs, name: str, *, packed_as: str) -> list[Span]:
    """Returns the spans of a file, in order; a file that cannot be divided is one span."""
    with _as_data_error(name):
        if read_as.format == "parquet":
            return spans_of_parquet(path)
        if read_as.lines_are_rows:
            spans = spans_of_lines(path)
            return spans if read_as.dialect is None else _with_columns(spans, path, read_as.dialect, name)
        size = path.stat().st_size
    return [Span(rows=count_rows(path, read_as.format, name, packed_as=packed_as), bytes=size)]


def _with_columns(spans: list[Span], path: Path, dialect: CsvDialect, name: str) -> list[Span]:
    """The spans of a CSV file; those below its header know the names of its columns."""
    if dialect.header is not None:  # the job names them
        return spans
    with path.open("rb") as file:
        header = header_of(file, dialect, name)
    if header is None:
        return spans
    line, columns = header
    return [replace(span, columns=columns) if span.first >= line else span for span in spans]


def count_rows(path: Path, format: Format, name: str, *, packed_as: str | None = None) -> int:
    """Counts the rows: exactly for Parquet, else lines, which include blank ones and the header.

    `name` and `packed_as` are those of `read_rows`.
    """
    with _as_data_error(name):
        if format == "parquet" or format_of(packed_as or name) == "parquet":
            return count_parquet_rows(path)
        with open_bytes(path, compression_of(packed_as or name), name) as file:
            return sum(block.count(b"\n") for block in iter(partial(file.read, _COUNT_BYTES), b""))


@contextmanager
def _as_data_error(name: str) -> Iterator[None]:
    try:
        yield
    except _arrow_errors() as error:
        raise DataError(f"{name}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None
    except UnicodeDecodeError as error:  # names of columns in a damaged Parquet file
        raise DataError(f"{name}: cannot be read ({not_utf8(error)})") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror or error})") from None


def _arrow_errors() -> tuple[type[Exception], ...]:
    """The errors of pyarrow, if it was loaded: only Parquet, zstd and lz4 need it."""
    pyarrow = sys.modules.get("pyarrow")
    return () if pyarrow is None else (pyarrow.ArrowException,)
