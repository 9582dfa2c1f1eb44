"""Reads the rows of CoNLL text: a token a line, its tag last, a blank line between sentences."""

from collections.abc import Iterator
from typing import IO

from data_prep.sources.compression import lines
from data_prep.sources.source_row import SourceRow, not_utf8, too_long

_DOCUMENT = "-DOCSTART-"


def conll_rows(file: IO[bytes]) -> Iterator[SourceRow]:
    """Yields a row with `tokens` and `tags` for each sentence; `number` is its first line.

    Columns are divided by tabs, if the line has one, else by blanks; the first is the token, the
    last the tag. Lines that begin with `# ` (CoNLL-U) and the marker -DOCSTART- are no tokens.
    """
    tokens, tags, first, columns, reason = list[str](), list[str](), 0, 0, ""
    for number, line in lines(file):
        try:
            text = None if line is None else line.decode().removeprefix("\ufeff").rstrip("\r\n")
        except UnicodeDecodeError as error:
            first, reason = first or number, reason or not_utf8(error)
            continue
        if text is None:
            first, reason = first or number, reason or too_long()
        elif not text.strip():
            if first:
                yield _sentence(first, tokens, tags, reason)
            tokens, tags, first, columns, reason = [], [], 0, 0, ""
        elif not (text.startswith(_DOCUMENT) or (text.startswith("# ") and not tokens)):
            fields = text.split("\t") if "\t" in text else text.split()
            first, columns = first or number, columns or len(fields)
            if len(fields) < 2 or len(fields) != columns:
                reason = reason or f"line {number} has {len(fields)} columns instead of {max(columns, 2)}"
            tokens.append(fields[0])
            tags.append(fields[-1].strip())
    if first:
        yield _sentence(first, tokens, tags, reason)


def _sentence(number: int, tokens: list[str], tags: list[str], reason: str) -> SourceRow:
    return SourceRow(number, None, reason) if reason else SourceRow(number, {"tokens": tokens, "tags": tags})
