"""Reads the rows of one JSON document: an array of objects, or an object that holds one.

`{"data": [...]}`, as SQuAD has it, is read at its only list of objects. Pretty-printed or not, the
document is decoded one row after the other and never held as a whole.
"""

import codecs
import json
import re
from collections import deque
from collections.abc import Iterator
from typing import IO

from data_prep.sources.compression import LONGEST_ROW
from data_prep.sources.jsonl_rows import DuplicateKeyError, unique_keys
from data_prep.sources.source_row import SourceRow, too_long
from raytrain_core.errors import DataError

_CHUNK = 1 << 16
_BLANKS = re.compile(r"[ \t\r\n]*")
_HOLDS_LIST = re.compile(
    r'\{\s*(?:"[^"]*"\s*:\s*(?:"[^"]*"|[\w.+-]+)\s*,\s*)*"(?:data|rows|examples|train|items|records)"\s*:\s*\[\s*\{'
)
_LITERAL = re.compile(r"[-+.\w]")  # what a number or a word that is cut off may go on with


def is_json_document(head: bytes, *, complete: bool, named_json: bool) -> bool:
    """Whether a file that begins with `head` is one JSON document and not JSON Lines.

    `complete` if that is all of it, `named_json` if its name ends in .json. An array on a line of
    its own may be a (bad) row of JSON Lines, if more lines follow; so may an object.
    """
    text = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    line, _, rest = text.partition("\n")
    whole_line = complete or bool(rest)
    if _parses(line):
        return (
            not rest.strip()
            and complete
            and (text.startswith("[") or (named_json and _HOLDS_LIST.match(text) is not None))
        )
    if text.startswith("["):
        return True
    if not text.startswith("{") or not named_json:
        return False
    if whole_line:  # pretty-printed
        return not line.rstrip().endswith("}") and line.rstrip().endswith(("{", "[", ","))
    return _HOLDS_LIST.match(text) is not None


def _parses(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def json_rows(file: IO[bytes], name: str) -> Iterator[SourceRow]:
    """Yields every row; `number` is the line where it begins.

    Raises DataError where the document is no JSON, since nothing after that can be read.
    """
    text = _Text(file, name)
    opening = text.next_character()
    if opening == "[":
        yield from _array(text)
    elif opening == "{":
        yield from _lists_of(text)
    elif opening:
        raise text.error("is neither an array nor an object")
    if text.next_character(take=False):
        raise text.error("text follows the end of the document")


def _array(text: "_Text") -> Iterator[SourceRow]:
    """Yields the elements of an array whose bracket was read."""
    if text.next_character(take=False) == "]":
        text.next_character()
        return
    while True:
        yield text.row()
        if (end := text.next_character()) == "]":
            return
        if end != ",":
            raise text.error("expected , or ] after a row")


def _lists_of(text: "_Text") -> Iterator[SourceRow]:
    """Yields the rows of the only list of objects in an object whose brace was read."""
    found: str | None = None
    if text.next_character(take=False) == "}":
        text.next_character()
        return
    while True:
        key = text.value()
        if not isinstance(key, str) or text.next_character() != ":":
            raise text.error("expected a key and a colon")
        if text.next_character(take=False) == "[":
            text.next_character()
            if text.next_character(take=False) == "{":
                if found is not None:
                    raise text.error(f"holds two lists of objects, {found!r} and {key!r}; which one has the rows?")
                found = key
                yield from _array(text)
            else:
                deque(_array(text), maxlen=0)  # values that are no rows
        else:
            text.value()
        if (end := text.next_character()) == "}":
            break
        if end != ",":
            raise text.error("expected , or } after a value")
    if found is None:
        raise text.error("holds no list of objects; write an array of them, or one object a line")


class _Text:
    """The text of a document around the present position."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self._name = file, name
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._decoder = json.JSONDecoder(object_pairs_hook=unique_keys)
        self._text, self._position, self._line, self._ended = "", 0, 1, False
        self._more()
        self._text = self._text.removeprefix("\ufeff")

    def error(self, what: str) -> DataError:
        """Returns the error for the present line."""
        return DataError(
            f"{self._name}:{self._line}: not JSON: {what}", hint="A row a line (JSON Lines) is read in any case."
        )

    def next_character(self, *, take: bool = True) -> str:
        """Returns the next character that is not blank, `""` at the end."""
        while True:
            self._skip(_BLANKS.match(self._text, self._position).end())  # type: ignore[union-attr]
            if self._position < len(self._text) or not self._more():
                break
        found = self._text[self._position : self._position + 1]
        if take:
            self._skip(self._position + len(found))
        return found

    def row(self) -> SourceRow:
        """Returns the next value as a row."""
        self.next_character(take=False)
        line = self._line
        try:
            value = self.value()
        except DuplicateKeyError as error:
            return SourceRow(line, None, str(error))
        if isinstance(value, dict):
            return SourceRow(line, value)
        return SourceRow(line, None, f"a JSON {type(value).__name__} instead of an object")

    def value(self) -> object:
        """Decodes the next value."""
        self.next_character(take=False)
        size = 0
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._position)
            except DuplicateKeyError:
                self._skip_duplicate()
                raise
            except (ValueError, RecursionError) as error:
                if isinstance(error, RecursionError) or not self._more(size):
                    reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
                    raise self.error(reason) from None
                size = len(self._text) - self._position
                continue
            if end == len(self._text) and _LITERAL.match(self._text[end - 1]) and self._more(size):
                continue
            self._skip(end)
            return value

    def _skip_duplicate(self) -> None:
        """Goes to the end of a value in which a key occurs twice."""
        plain = json.JSONDecoder()
        while True:
            try:
                _, end = plain.raw_decode(self._text, self._position)
            except RecursionError:
                raise self.error("nested too deeply") from None
            except ValueError:
                if not self._more():
                    raise self.error("unfinished") from None
                continue
            self._skip(end)
            return

    def _skip(self, end: int) -> None:
        self._line += self._text.count("\n", self._position, end)
        self._position = end

    def _more(self, size: int = 0) -> bool:
        """Reads on, at least as much as is there already; False at the end of the file."""
        if self._ended:
            return False
        if len(self._text) - self._position > LONGEST_ROW:
            raise DataError(f"{self._name}:{self._line}: {too_long()}")
        data = self._file.read(max(_CHUNK, size))
        self._ended = not data
        try:
            added = self._utf8.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            raise self.error(f"not UTF-8 (byte 0x{error.object[error.start]:02x})") from None
        self._text, self._position = self._text[self._position :] + added, 0
        return bool(added) or not self._ended
