"""Reads the rows of a CSV or TSV file whose dialect is known."""

import math
from collections.abc import Iterator, Sequence
from typing import IO, Any

from data_prep.sources.csv_records import CsvDialect, Record, RecordError, records
from data_prep.sources.source_row import SourceRow
from data_prep.sources.spans import WHOLE, Span
from raytrain_core.errors import DataError

MISSING = frozenset(("NaN", "nan", "<NA>", "\\N"))
"""Fields that pandas, numpy, MySQL and Hive write for a missing value, and that are no words."""


def csv_rows(file: IO[bytes], dialect: CsvDialect, name: str, span: Span = WHOLE) -> Iterator[SourceRow]:
    """Yields every row of a span, which is all of `file`; `number` is the line where it begins.

    A row that repeats the header is bad: files were put together. Raises DataError where quotation
    marks do not fit.
    """
    names = None if span.columns is None else list(span.columns)
    folded = None if names is None or dialect.header is not None else _folded(names)
    try:
        for record in records(file, dialect, span.first):
            if names is None:
                names = _checked(dialect.header or record.fields, name, record.line)
                if dialect.header is None:
                    folded = _folded(names)
                    continue
            if folded is not None and record.fields[0].strip().casefold() in folded:
                _require_order(record, names, folded, name)
            yield _row(record.line, record.fields, names, folded)
    except RecordError as error:
        raise _not_csv(error, name) from None


def header_of(file: IO[bytes], dialect: CsvDialect, name: str) -> tuple[int, tuple[str, ...]] | None:
    """Returns the line of a file's header and the names of its columns; None for an empty file."""
    try:
        record = next(records(file, dialect), None)
    except RecordError as error:
        raise _not_csv(error, name) from None
    return None if record is None else (record.line, tuple(_checked(record.fields, name, record.line)))


def _not_csv(error: RecordError, name: str) -> DataError:
    return DataError(f"{name}:{error.line}: {error}", hint=error.hint)


def _row(number: int, fields: list[str], names: list[str], header: list[str] | None) -> SourceRow:
    if any(not field.isascii() and _damaged(field) for field in fields):
        return SourceRow(number, None, _not_utf8(fields))
    if len(fields) > len(names) and not any(fields[len(names) :]):
        fields = fields[: len(names)]  # trailing delimiters
    if len(fields) != len(names):
        return SourceRow(number, None, f"{len(fields)} fields, but the header names {len(names)}")
    if header is not None and fields[0].strip().casefold() in header and _folded(fields) == header:
        return SourceRow(number, None, "repeats the header; were several files put together?")
    values: dict[str, Any] = dict(zip(names, fields, strict=True))
    if not MISSING.isdisjoint(fields):
        values = {key: math.nan if field in MISSING else field for key, field in values.items()}
    if len(values) < len(names):  # several columns without a name
        lost = [place for place, (key, field) in enumerate(zip(names, fields, strict=True), 1) if not key and field]
        if lost:
            return SourceRow(number, None, f"field {lost[0]} holds text, but its column has no name")
        del values[""]
    return SourceRow(number, values)


def _folded(fields: Sequence[str]) -> list[str]:
    return sorted(field.strip().casefold() for field in fields)


def _require_order(record: Record, names: list[str], folded: list[str], name: str) -> None:
    """Raises DataError for a header in another order: the rows below it would be read wrong."""
    found = [field.strip().casefold() for field in record.fields]
    if sorted(found) == folded and found != [one.casefold() for one in names]:
        raise DataError(
            f"{name}:{record.line}: repeats the header in another order ({', '.join(record.fields)})",
            hint="Files with columns in different orders were put together. Name the files one by one instead.",
        )


def _checked(fields: Sequence[str], name: str, line: int) -> list[str]:
    if any(_damaged(field) for field in fields):
        raise DataError(f"{name}:{line}: the header is {_not_utf8(fields)}")
    header = [field.strip() for field in fields]
    if double := sorted({one for one in header if one and header.count(one) > 1}):
        raise DataError(f"{name}:{line}: two columns are named {', '.join(map(repr, double))}")
    return header


def _damaged(field: str) -> bool:
    return any("\udc80" <= c <= "\udcff" for c in field)


def _not_utf8(fields: Sequence[str]) -> str:
    """Why the row is bad, and what it would be in the commonest other encoding."""
    field = next(field for field in fields if _damaged(field))
    data = field.encode("utf-8", "surrogateescape")
    shown = data.decode("cp1252", "replace")
    shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
    return f"not UTF-8; as Windows text it would be {shown!r} (then set source.csv.encoding: cp1252)"
