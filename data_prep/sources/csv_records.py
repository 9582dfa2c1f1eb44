"""Divides text with delimiters into records, in any of the dialects that programs write.

The standard library's `csv` reads most dialects. It cannot read the one in which a backslash
escapes a quotation mark inside quotes and is plain text outside (Spark, Hive), so that has a parser
here. Lines end with LF, CR LF, or CR as on old Macs.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, NamedTuple

from data_prep.sources.compression import LONGEST_ROW, lines
from data_prep.sources.source_row import too_long

_BOM = "\ufeff"
_LONGEST_FIELD = 1 << 27  # characters in a CSV field; the library's own limit is 131,072


@dataclass(frozen=True, slots=True)
class CsvDialect:
    """How records are divided into fields."""

    delimiter: str
    quote: str | None = '"'
    escape: str | None = None
    """Escapes a quotation mark; None if it is doubled."""
    escape_outside: bool = False
    """Whether `escape` has its meaning outside of quotation marks too."""
    skip_blanks: bool = False
    """Whether blanks after a delimiter are no part of the field."""
    header: tuple[str, ...] | None = None
    """Names of the columns if the file does not begin with them."""
    delimiter_line: bool = False
    """Whether the first line is `sep=;`, which tells Excel the delimiter."""


class Record(NamedTuple):
    """Fields of a record, the line where it begins, and the number of its lines."""

    line: int
    lines: int
    fields: list[str]


class RecordError(ValueError):
    """The text does not follow the dialect."""

    def __init__(self, line: int, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.line, self.hint = line, hint


def records(file: IO[bytes], dialect: CsvDialect, before: int = 0) -> Iterator[Record]:
    """Yields every record that is not blank; `before` lines of the file are not in `file`.

    Bytes that are not UTF-8 become surrogates, so that reading continues and the row can be named.
    Raises RecordError with the line where the record begins.
    """
    text = _Lines(file, before)
    if dialect.delimiter_line and not before:
        next(text, None)
    return _by_escape(text, dialect) if dialect.escape else _by_library(text, dialect)


class _Lines:
    """Lines as text; knows where the present record begins."""

    def __init__(self, file: IO[bytes], before: int) -> None:
        self._lines = lines(file, before)
        self.number, self.first = before, before + 1
        self._bytes = 0

    def begin(self) -> None:
        """Starts the next record."""
        self.first, self._bytes = self.number + 1, 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        self._bytes += LONGEST_ROW + 1 if line is None else len(line)
        if line is None or self._bytes > LONGEST_ROW:
            hint = "Is a quotation mark never closed?" if self.number > self.first else None
            raise RecordError(self.first, too_long(), hint)
        text = line.decode("utf-8", "surrogateescape")
        # files put together have several byte order marks
        return text.removeprefix(_BOM) if self.number == self.first else text


def _by_library(text: _Lines, dialect: CsvDialect) -> Iterator[Record]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(
        text,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        skipinitialspace=dialect.skip_blanks,
        strict=True,
    )
    while True:
        text.begin()
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise _library_error(error, text, dialect) from None
        if fields is None:
            return
        if fields:
            yield Record(text.first, text.number - text.first + 1, fields)


def _library_error(error: csv.Error, text: _Lines, dialect: CsvDialect) -> RecordError:
    hint = f"If {dialect.quote} is plain text in this file, set source.csv.quote: none."
    if "end of data" in str(error):
        return RecordError(text.first, "not CSV: a quotation mark is never closed", hint)
    if text.number > text.first:
        message = (
            f"not CSV: a quotation mark opens here, and after the one that closes it in line {text.number} is text"
        )
        return RecordError(text.first, message, hint)
    if "after" in str(error):
        return RecordError(text.first, "not CSV: there is text after a closing quotation mark", hint)
    return RecordError(text.first, f"not CSV: {error}")


def _by_escape(text: _Lines, dialect: CsvDialect) -> Iterator[Record]:
    field, escaped = _patterns(dialect)
    quote = dialect.quote or '"'
    while True:
        text.begin()
        line = next(text, None)
        if line is None:
            return
        if not line.strip("\r\n"):
            continue
        fields: list[str] = []
        position = 0
        while True:
            found = field.match(line, position)
            if found is None:
                more = next(text, None) if not _closed(line, position, field, quote) else None
                if more is None:
                    raise RecordError(text.first, "not CSV: a quotation mark is never closed, or text follows it")
                line += more
                continue
            quoted, plain, end = found.groups()
            if quoted is not None:
                fields.append(escaped.sub(_unescaped, quoted))
            else:
                fields.append(escaped.sub(_unescaped, plain) if dialect.escape_outside else plain)
            position = found.end()
            if end != dialect.delimiter:
                break
        yield Record(text.first, text.number - text.first + 1, fields)


def _closed(line: str, position: int, field: re.Pattern[str], quote: str) -> bool:
    """Whether the field that does not match is closed all the same: then text follows."""
    opened = line.find(quote, position)
    return opened < 0 or field.match(f"{line[opened:]}{quote}\n") is None


def _patterns(dialect: CsvDialect) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Of a field with what ends it, and of what is escaped in it."""
    delimiter, escape = re.escape(dialect.delimiter), re.escape(dialect.escape or "\\")
    quote = re.escape(dialect.quote or '"')
    blanks = " *" if dialect.skip_blanks else ""
    plain = rf"(?:[^{delimiter}{escape}\r\n]|{escape}.)*+" if dialect.escape_outside else rf"[^{delimiter}\r\n]*+"
    quoted = rf"{quote}((?:[^{quote}{escape}]|{escape}.|{quote}{quote})*+){quote}"
    field = re.compile(rf"{blanks}(?:{quoted}|(?!{quote})({plain}))({delimiter}|\r?\n|\r|\Z)", re.DOTALL)
    also = f"|{escape}({delimiter})" if dialect.escape_outside else "|(?!)()"
    return field, re.compile(rf"{escape}([{quote}{escape}]){also}|{quote}({quote})")


def _unescaped(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group is not None)
