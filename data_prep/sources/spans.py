"""Divides a file into spans that can be read each on its own, in any process.

Where a file is divided depends on its contents alone, never on who reads it: so any number of
readers gives the same rows in the same order.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BYTES = 4 << 20
"""A span has about as many."""
_ROWS = 20_000  # rows of a span of Parquet: repeated values take almost no space in the file
_SPANS_OF_A_GROUP = 16  # each decodes the rows before it in its row group too: the work grows with their square
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Span:
    """Part of a file: bytes that begin and end at lines, or rows of Parquet."""

    start: int = 0
    stop: int | None = None
    """None for the end of the file."""
    first: int = 0
    """Lines (rows in Parquet) of the file before it."""
    rows: int | None = None
    """Lines in it, with blank ones and the header; None if they were not counted."""
    bytes: int | None = None
    """About how much there is to read; None if only the process that prepares can read it."""
    columns: tuple[str, ...] | None = None
    """Names of a CSV file's columns, for a span below the line that has them."""


WHOLE = Span()


def spans_of_lines(path: Path) -> list[Span]:
    """Returns the spans of a file in which every line is a row; the file is read once."""
    spans: list[Span] = []
    start = first = lines = position = 0
    last = b""  # byte of the block before
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            at = block.rfind(b"\n") + 1 if position + len(block) - start >= BYTES else 0
            before, after = _ends(block[:at], last), _ends(block[at:], block[at - 1 : at] if at else last)
            lines += before
            if at:
                spans.append(Span(start, position + at, first, lines, position + at - start))
                start, first, lines = position + at, first + lines, 0
            lines += after
            position, last = position + len(block), block[-1:]
    if position > start:
        spans.append(Span(start, position, first, lines + 1, position - start))
    return spans


def _ends(block: bytes, last: bytes) -> int:
    """Counts the ends of lines: LF, CR LF or CR."""
    count = block.count(b"\n")
    if b"\r" in block:
        count += block.count(b"\r") - block.count(b"\r\n")
    return count - (last == b"\r" and block.startswith(b"\n"))


def spans_of_parquet(path: Path) -> list[Span]:
    """Returns the spans of a Parquet file; none crosses the end of a row group."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(path)
    spans: list[Span] = []
    first = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        most = max(1, min(_ROWS, BYTES * group.num_rows // max(group.total_byte_size, 1)))
        most = max(most, -(-group.num_rows // _SPANS_OF_A_GROUP))
        for start in range(first, first + group.num_rows, most):
            stop = min(start + most, first + group.num_rows)
            size = group.total_byte_size * (stop - start) // group.num_rows
            spans.append(Span(start, stop, start, stop - start, size))
        first += group.num_rows
    return spans


def batches_of(file: Any, span: Span, most: int) -> tuple[int, Iterator[Any]]:
    """Returns the number of rows before a span of a ParquetFile, and its rows.

    They come in record batches of at most `most`. The rows of the row group that are before the
    span are decoded too, but never become Python objects.
    """
    if span.stop is None:
        return 0, file.iter_batches(batch_size=most)
    first = number = 0
    while first + file.metadata.row_group(number).num_rows <= span.start:
        first += file.metadata.row_group(number).num_rows
        number += 1
    return span.start, _between(
        file.iter_batches(batch_size=most, row_groups=[number]), span.start - first, span.stop - first
    )


def _between(batches: Iterable[Any], start: int, stop: int) -> Iterator[Any]:
    """Yields the rows from `start` to `stop`."""
    position = 0
    for batch in batches:
        following = position + batch.num_rows
        if following > start:
            part = batch.slice(max(0, start - position), min(stop, following) - max(start, position))
            if part.num_rows:
                yield part
        position = following
        if position >= stop:
            return
