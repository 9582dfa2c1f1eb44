"""Reads the rows of a CSV or TSV file whose dialect is known."""

from collections.abc import Iterator, Sequence
from typing import IO

from data_prep.sources.csv_records import CsvDialect, RecordError, records
from data_prep.sources.source_row import SourceRow
from raytrain_core.errors import DataError


def csv_rows(
    file: IO[bytes], dialect: CsvDialect, name: str, *, first: int = 0, header: Sequence[str] | None = None
) -> Iterator[SourceRow]:
    """Yields every row; `number` is the line where it begins.

    `file` may begin after the first `first` lines of the real one; `header` then has what
    `csv_header` returned. A row that repeats the header is bad: files were put together. Raises
    DataError where quotation marks do not fit.
    """
    names = list(header) if header is not None else None
    try:
        for record in records(file, dialect, first):
            if names is None:
                names = _checked(dialect.header or record.fields, name, record.line)
                if dialect.header is None:
                    continue
            yield _row(record.line, record.fields, names, repeats=dialect.header is None)
    except RecordError as error:
        raise DataError(f"{name}:{error.line}: {error}", hint=error.hint) from None


def csv_header(file: IO[bytes], dialect: CsvDialect, name: str) -> list[str]:
    """Returns the names of the columns; raises DataError as `csv_rows` does."""
    if dialect.header is not None:
        return _checked(dialect.header, name, 1)
    try:
        record = next(records(file, dialect), None)
    except RecordError as error:
        raise DataError(f"{name}:{error.line}: {error}", hint=error.hint) from None
    return _checked(record.fields, name, record.line) if record is not None else []


def _row(number: int, fields: list[str], names: list[str], *, repeats: bool) -> SourceRow:
    if any(not field.isascii() and _damaged(field) for field in fields):
        return SourceRow(number, None, _not_utf8(fields))
    if len(fields) > len(names) and not any(fields[len(names) :]):
        fields = fields[: len(names)]  # trailing delimiters
    if len(fields) != len(names):
        return SourceRow(number, None, f"{len(fields)} fields, but the header names {len(names)}")
    if repeats and [field.strip() for field in fields] == names:
        return SourceRow(number, None, "repeats the header; were several files put together?")
    values = dict(zip(names, fields, strict=True))
    if len(values) < len(names):  # several columns without a name
        lost = [place for place, (key, field) in enumerate(zip(names, fields, strict=True), 1) if not key and field]
        if lost:
            return SourceRow(number, None, f"field {lost[0]} holds text, but its column has no name")
        del values[""]
    return SourceRow(number, values)


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
