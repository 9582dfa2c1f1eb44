"""Reads the rows of CoNLL text: a token a line, its tag last, a blank line between sentences."""

import re
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

from data_prep.sources.compression import lines
from data_prep.sources.source_row import SourceRow, not_utf8, too_long

_DOCUMENT = "-DOCSTART-"
_NUMBER = re.compile(r"\d+([-.]\d+)?")  # of a token, of a word of several tokens, of an empty node


class _Line(NamedTuple):
    """A line of a sentence, or why it cannot be read."""

    number: int
    text: str
    reason: str = ""

    @property
    def fields(self) -> list[str]:
        """Divided by tabs, if the line has one, else by blanks."""
        return self.text.split("\t") if "\t" in self.text else self.text.split()


def conll_rows(file: IO[bytes]) -> Iterator[SourceRow]:
    """Yields a row with `tokens` and `tags` for each sentence; `number` is its first line.

    Columns are divided by tabs, if the line has one, else by blanks; the first is the token, the
    last the tag. The marker -DOCSTART- is no token, nor are comments (CoNLL-U): lines before a
    sentence that begin with `# ` and do not have its columns. Files whose first column numbers the
    tokens have bad rows only: which of the others is meant is not known.
    """
    width, numbered = (0, False), None
    for sentence in _sentences(file):
        body = [line for line in sentence if not line.text.startswith(_DOCUMENT)]
        width = next((_width(line) for line in body if line.text and not line.text.startswith("# ")), width)
        while body and body[0].text.startswith("# ") and _width(body[0]) != width:
            body.pop(0)
        if body:
            if numbered is None and len(body) > 1:
                numbered = width[0] > 2 and _is_numbered([line.fields[0] for line in body if line.text])
            yield _row(body, width[0], numbered=bool(numbered))


def _sentences(file: IO[bytes]) -> Iterator[list[_Line]]:
    sentence: list[_Line] = []
    for number, line in lines(file):
        try:
            text = None if line is None else line.decode().removeprefix("\ufeff").rstrip("\r\n")
        except UnicodeDecodeError as error:
            sentence.append(_Line(number, "", not_utf8(error)))
            continue
        if text is None:
            sentence.append(_Line(number, "", too_long()))
        elif text.strip():
            sentence.append(_Line(number, text))
        elif sentence:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _width(line: _Line) -> tuple[int, bool]:
    """The number of columns, and whether tabs divide them."""
    return len(line.fields), "\t" in line.text


def _is_numbered(first: Sequence[str]) -> bool:
    """Whether the first column counts the tokens, as in CoNLL-U and GermEval."""
    counted = [int(one) for one in first if one.isdecimal() and len(one) < 10]
    return counted == [*range(1, len(counted) + 1)] and all(map(_NUMBER.fullmatch, first)) and len(counted) > 1


def _row(sentence: Sequence[_Line], columns: int, *, numbered: bool) -> SourceRow:
    first = sentence[0].number
    for line in sentence:
        if line.reason:
            return SourceRow(first, None, line.reason)
        if (count := len(line.fields)) < 2 or count != columns:
            return SourceRow(first, None, f"line {line.number} has {count} columns instead of {max(columns, 2)}")
    if numbered:
        return SourceRow(first, None, "the first column numbers the tokens; write the tokens first and the tags last")
    tokens = [line.fields[0] for line in sentence]
    return SourceRow(first, {"tokens": tokens, "tags": [line.fields[-1].strip() for line in sentence]})
