"""Reads the rows of JSON Lines, one object a line."""

import json
from collections.abc import Iterator
from typing import IO, Any

from data_prep.sources.compression import lines
from data_prep.sources.source_row import SourceRow, not_utf8, too_long

_BOM = "\ufeff"


def jsonl_rows(file: IO[bytes], before: int = 0) -> Iterator[SourceRow]:
    """Yields every row; blank lines are none. `before` lines of the file are not in `file`.

    A byte order mark is removed wherever a line begins with one: files put together have several.
    """
    for number, line in lines(file, before):
        if line is None:
            yield SourceRow(number, None, too_long())
            continue
        try:
            text = line.decode().removeprefix(_BOM).strip()
        except UnicodeDecodeError as error:
            yield SourceRow(number, None, not_utf8(error))
            continue
        if not text:
            continue
        yield json_row(number, text)


def json_row(number: int, text: str) -> SourceRow:
    """Returns the row that one JSON value is, or why it is none."""
    try:
        value = _DECODER.decode(text)
    except DuplicateKeyError as error:
        return SourceRow(number, None, str(error))
    except ValueError as error:
        return SourceRow(number, None, f"not JSON: {error}")
    except RecursionError:
        return SourceRow(number, None, "not JSON: nested too deeply")
    if isinstance(value, dict):
        return SourceRow(number, value)
    return SourceRow(number, None, f"a JSON {type(value).__name__} instead of an object")


class DuplicateKeyError(ValueError):
    """An object of a row has a key twice; which value is meant cannot be known."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns the object with these keys; raises DuplicateKeyError if one occurs twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise DuplicateKeyError(f"the key {double!r} occurs twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=unique_keys)  # one for all rows: making one takes as long as a short row
