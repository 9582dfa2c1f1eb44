"""Finds the dialect of a CSV or TSV file by reading all of it, and says how sure it is of what.

A dialect is chosen because the whole file agrees with it. CSV quotes by RFC 4180 unless only a
backslash as escape makes sense of the file; TSV does not quote unless the file shows that it does.
What cannot be decided is refused, and can be set in the job.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import IO

from data_prep.config import CsvOptions
from data_prep.sources.compression import lines
from data_prep.sources.csv_records import CsvDialect, Record, RecordError, records
from raytrain_core.errors import DataError

Open = Callable[[], AbstractContextManager[IO[bytes]]]
"""Opens the file's bytes, decompressed and in UTF-8."""

_DELIMITERS = {"csv": (",", ";", "\t", "|"), "tsv": ("\t", ",", ";", "|")}
_NAMES = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "vertical bars"}
_DOUBLED = re.compile(rb'""[^",;|\s]|[^",;|\s]""')
_DELIMITER_LINE = re.compile(rb"(?:\xef\xbb\xbf)?sep=(.)\r?\n?", re.IGNORECASE)


@dataclass(slots=True)
class Trial:
    """How well a dialect fits: what its records are like."""

    dialect: CsvDialect
    rows: int = 0
    fitting: int = 0
    """Rows with as many fields as the header, empty ones at the end apart."""
    error: bool = False
    header_lines: int = 1
    longer: int = 0
    """Rows on several lines; `first_longer` is where the first begins."""
    first_longer: Record | None = None
    torn: int = 0
    """Records on several lines, each of which has the delimiters of a row."""
    mixed: int = 0
    """Records on several lines with a delimiter inside of a field."""
    proofs: int = 0
    """Rows of one line with a field that could not be written without quotation marks."""
    trailing: int = 0
    """Rows with empty fields beyond the header."""
    quoted_after_blanks: int = 0

    @property
    def perfect(self) -> bool:
        """Whether all rows have the fields of the header."""
        return not self.error and self.fitting == self.rows

    @property
    def lines_are_rows(self) -> bool:
        """Whether no record goes over several lines."""
        return not self.error and not self.longer and self.header_lines == 1

    @property
    def weight(self) -> tuple[bool, int]:
        """The larger, the better it fits."""
        return not self.error, self.fitting


@dataclass(frozen=True, slots=True)
class Detected:
    """A dialect, whether each line is a row, and what to tell the user."""

    dialect: CsvDialect
    lines_are_rows: bool
    told: tuple[str, ...]


@dataclass(slots=True)
class _Marks:
    """What raw lines show of quotation marks: a single pass without any dialect."""

    any: bool = False
    backslash: bool = False
    """Whether some quotation mark follows a backslash."""
    after_blank: bool = False
    doubled: bool = False
    """Whether some mark is doubled inside of text."""
    pairs: bool = False
    """Whether there are backslashes; all in pairs, unless one is `alone`."""
    alone: bool = False


def detect_csv(opened: Open, kind: str, options: CsvOptions | None, name: str) -> Detected:
    """Returns the dialect of a file of `kind` csv or tsv; what `options` set is not questioned.

    Raises DataError if two readings are possible that give other rows.
    """
    given = options or CsvOptions()
    marks, delimiter_line = _marks(opened)
    delimiters: tuple[str, ...] = _DELIMITERS[kind]
    if given.delimiter is not None or delimiter_line is not None:
        delimiters = (given.delimiter or str(delimiter_line),)
    header = tuple(given.header) if given.header is not None else None
    base = CsvDialect(delimiters[0], header=header, delimiter_line=delimiter_line is not None)
    trials: list[Trial] = []
    for delimiter in delimiters:
        trial = _best_quoting(opened, replace(base, delimiter=delimiter), kind, given, marks)
        if trial is None:  # the header has no such delimiter
            continue
        trials.append(trial)
    best = max(trials, key=lambda trial: trial.weight, default=None)
    if kind == "csv" and (header is None or len(header) > 1):  # one column has nothing to divide
        _refuse_two_delimiters(trials, name)
        if best is not None and marks.backslash and not marks.doubled and given.quote is None and given.escape is None:
            _refuse_two_quotings(opened, best, name)
    if best is None:  # one column
        best = _try(opened, _with_quoting(base, kind, given), several=False)
    assert best is not None
    if not marks.doubled:
        _refuse_torn(best, given, name)
    rivals = [one.dialect.delimiter for one in trials if one.perfect and one.rows and one is not best]
    told = [*_told(best, kind, given, marks), *_told_rivals(best, rivals)]
    return Detected(best.dialect, best.lines_are_rows, tuple(told))


def _best_quoting(opened: Open, base: CsvDialect, kind: str, given: CsvOptions, marks: _Marks) -> Trial | None:
    """The trial of the way of quoting that fits best."""
    first = _try(opened, _with_quoting(base, kind, given))
    if first is not None and given.escape == "\\" and first.dialect.quote is not None:
        return _try(opened, replace(first.dialect, escape_outside=_escapes_outside(opened, first.dialect)))
    if first is None or given.quote is not None or given.escape is not None or not marks.any:
        return first
    if base.delimiter == "\t" and kind == "tsv":
        return _tab_quoting(opened, first)
    others = [] if first.perfect or base.delimiter != "\t" else [replace(first.dialect, quote=None)]
    if marks.after_blank and first.quoted_after_blanks >= 0:
        others.append(replace(first.dialect, skip_blanks=True))
    if marks.backslash and not first.perfect:
        others += [replace(first.dialect, escape="\\"), replace(first.dialect, escape="\\", escape_outside=True)]
    best = first
    for dialect in others:
        trial = _try(opened, dialect)
        if trial is None:
            continue
        better = trial.weight > best.weight
        if better or (dialect.skip_blanks and first.quoted_after_blanks > 0 and trial.weight >= best.weight):
            best = trial
    if best.dialect.escape:
        return _try(opened, replace(best.dialect, escape_outside=_escapes_outside(opened, best.dialect)))
    return best


def _with_quoting(base: CsvDialect, kind: str, given: CsvOptions) -> CsvDialect:
    """The dialect that is given, or that of the kind."""
    quote = given.quote or ("none" if kind == "tsv" and base.delimiter == "\t" and not given.escape else '"')
    escape = given.escape if given.escape != "none" else None
    outside = escape is not None and quote == "none"
    return replace(base, quote=None if quote == "none" else quote, escape=escape, escape_outside=outside)


def _tab_quoting(opened: Open, plain: Trial) -> Trial:
    """TSV quotes only if the file shows it.

    It does if every field that begins with a quotation mark is quoted as RFC 4180 says, no other
    field has one, and some field could not have been written otherwise; or if the rows are
    complete only with quoting.
    """
    quoted = _try(opened, replace(plain.dialect, quote='"'))
    if quoted is None or quoted.error:
        return plain
    if not plain.perfect:
        shown = quoted.weight > plain.weight or (quoted.perfect and not quoted.mixed)
        return quoted if shown else plain
    wrong = proofs = number = 0
    with opened() as file:
        for number, record in enumerate(records(file, plain.dialect)):
            marked = [field for field in record.fields if '"' in field]
            wrong += sum(not _is_quoted(field) for field in marked)
            proofs += sum('""' in field[1:-1] for field in marked)
            proofs += number == 0 and len(marked) == len(record.fields)  # every name of the header
    return quoted if proofs and not wrong else plain


def _is_quoted(field: str) -> bool:
    return len(field) > 1 and field[0] == field[-1] == '"' and '"' not in field[1:-1].replace('""', "")


def _escapes_outside(opened: Open, dialect: CsvDialect) -> bool:
    """Whether backslashes outside of quotation marks are always escaped, as pandas writes them."""
    found = False
    with opened() as file:
        for record in _until_error(records(file, replace(dialect, escape_outside=False))):
            for field in record.fields:
                if "\\" not in field or dialect.delimiter in field or "\n" in field or '"' in field:
                    continue
                found = True
                if re.search(r"(?<!\\)(?:\\\\)*\\(?!\\)", field):
                    return False
    return found


def _try(opened: Open, dialect: CsvDialect, *, several: bool = True) -> Trial | None:
    """Reads the whole file in a dialect; None if `several` and there is only one column."""
    trial = Trial(dialect)
    width = len(dialect.header) if dialect.header is not None else 0
    with opened() as file:
        try:
            for record in records(file, dialect):
                if not width:
                    width, trial.header_lines = len(record.fields), record.lines
                    if several and width < 2:
                        return None
                    continue
                _count(trial, record, width)
        except RecordError:
            trial.error = True
    return trial


def _count(trial: Trial, record: Record, width: int) -> None:
    fields = record.fields
    trial.rows += 1
    extra = any(fields[width:])
    trial.fitting += len(fields) >= width and not extra
    trial.trailing += len(fields) > width and not extra
    if record.lines > 1:
        trial.longer += 1
        trial.first_longer = trial.first_longer or record
        inside = sum(field.count(trial.dialect.delimiter) for field in fields)
        trial.mixed += inside > 0
        trial.torn += width > 1 and inside + len(fields) - 1 == record.lines * (width - 1)
    elif trial.dialect.quote:
        trial.proofs += any(trial.dialect.delimiter in field for field in fields)
    if trial.quoted_after_blanks >= 0:
        for field in fields:
            stripped = field.lstrip(" ")
            if stripped is not field and stripped != field and stripped.startswith('"'):
                closed = len(stripped) > 1 and stripped.endswith('"')
                trial.quoted_after_blanks = trial.quoted_after_blanks + 1 if closed else -1


def _refuse_two_delimiters(trials: Sequence[Trial], name: str) -> None:
    """Raises DataError if every row fits two delimiters; nothing says which is meant."""
    perfect = [trial.dialect.delimiter for trial in trials if trial.perfect and trial.rows]
    if len(perfect) > 1:
        one, other = (_NAMES.get(delimiter, delimiter) for delimiter in perfect[:2])
        raise DataError(
            f"{name}: header and every row can be divided by {one} as well as by {other}",
            hint=f"Say which with source.csv.delimiter, e.g. delimiter: {_shown(perfect[0])}.",
        )


def _shown(delimiter: str) -> str:
    return "tab" if delimiter == "\t" else f"'{delimiter}'"


def _refuse_two_quotings(opened: Open, best: Trial, name: str) -> None:
    """Raises DataError if all rows are complete with backslashes as escapes too, but differ."""
    doubled, escaped = best.dialect, replace(best.dialect, escape="\\")
    if not best.perfect or doubled.escape is not None or doubled.quote is None:
        return
    trial = _try(opened, escaped)
    if trial is None or not trial.perfect:
        return
    with opened() as one, opened() as other:
        for first, second in zip_longest(records(one, doubled), records(other, escaped)):
            if first is None or second is None or first.fields != second.fields:
                raise DataError(
                    f"{name}:{(first or second).line}: every row is complete whether or not a backslash escapes the "
                    "quotation mark after it",
                    hint="Say which with source.csv.escape: none or '\\'.",
                )


def _refuse_torn(best: Trial, given: CsvOptions, name: str) -> None:
    """Raises DataError if quoted fields seem to swallow rows."""
    if given.quote is not None or best.first_longer is None or best.proofs or best.torn < best.longer:
        return
    line, count = best.first_longer.line, best.first_longer.lines
    raise DataError(
        f"{name}:{line}: a quotation mark opens here and closes {count - 1} lines below, but each of these lines has "
        "the fields of a row",
        hint="Set source.csv.quote: none if quotation marks are plain text in this file, or quote: '\"' if the text "
        "within them goes over several lines.",
    )


def _told(best: Trial, kind: str, given: CsvOptions, marks: _Marks) -> Iterator[str]:
    dialect = best.dialect
    if given.delimiter is None and dialect.delimiter != _DELIMITERS[kind][0]:
        yield f"fields are divided by {_NAMES.get(dialect.delimiter, dialect.delimiter)}"
    if given.quote is None and marks.any and (kind == "tsv" or dialect.quote is None):
        yield "quotation marks " + ("enclose fields" if dialect.quote else "are plain text, as usual in TSV")
    if given.escape is None and dialect.escape:
        yield "quotation marks are escaped by backslashes"
    if dialect.escape and dialect.escape_outside:
        yield "pairs of backslashes are read as one, outside of quotation marks too"
    if given.escape is None and not dialect.escape and marks.pairs and not marks.alone:
        yield "backslashes come in pairs only, and both of a pair are read"
    if given.escape is None and not dialect.escape and marks.backslash:
        yield "backslashes before quotation marks are plain text"
    if dialect.skip_blanks:
        yield "blanks before quotation marks are left out"
    if best.trailing:
        yield f"{best.trailing:,} rows end in more delimiters than the header"
    if best.first_longer is not None:
        yield f"{best.longer:,} rows go over several lines, the first in line {best.first_longer.line}"


def _told_rivals(best: Trial, rivals: Sequence[str]) -> Iterator[str]:
    """TSV is divided by tabs even if another delimiter fits every row; CSV is refused then."""
    if best.perfect and rivals:
        tabs, other = (_NAMES.get(one, one) for one in (best.dialect.delimiter, rivals[0]))
        yield f"fields are divided by {tabs}, though {other} would fit every row too (source.csv.delimiter says which)"


def _marks(opened: Open) -> tuple[_Marks, str | None]:
    """What the lines show of quotation marks; the delimiter that the first line names."""
    marks, delimiter = _Marks(), None
    with opened() as file:
        for number, line in lines(file):
            if line is None:
                continue
            if b"\\" in line:
                marks.pairs = True
                marks.alone = marks.alone or b"\\" in line.replace(b"\\\\", b"")
            if number == 1 and (found := _DELIMITER_LINE.fullmatch(line)):
                delimiter = found[1].decode("latin-1")
            if b'"' in line:
                marks.any = True
                marks.backslash = marks.backslash or b'\\"' in line
                marks.after_blank = marks.after_blank or b' "' in line
                marks.doubled = marks.doubled or _DOUBLED.search(line) is not None
    return marks, delimiter


def _until_error(found: Iterator[Record]) -> Iterator[Record]:
    try:
        yield from found
    except RecordError:
        return


__all__: Sequence[str] = ["Detected", "Open", "detect_csv"]
