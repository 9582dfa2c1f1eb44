"""Leaves the metadata of column chunks out of a Parquet file's footer, as a broken writer would.

The footer is Thrift in its compact protocol; field numbers are those of `parquet.thrift`.
"""

from collections.abc import Iterator
from typing import NamedTuple

_ROW_GROUPS = 4  # of FileMetaData
_COLUMNS = 1  # of RowGroup
_META_DATA = 3  # of ColumnChunk
_LIST, _STRUCT = 9, 12


class _Field(NamedTuple):
    number: int
    header: int
    start: int
    end: int


def without_chunk_metadata(data: bytes, columns: set[int], groups: set[int]) -> bytes:
    """Returns the Parquet file `data` without the metadata of these columns in these row groups.

    Files without page indexes only, where it is the last field of its struct.
    """
    size = int.from_bytes(data[-8:-4], "little")
    body, footer = data[: -8 - size], data[-8 - size : -8]
    for group in sorted(groups, reverse=True):
        for column in sorted(columns, reverse=True):
            start = _item(footer, _field(footer, 0, _ROW_GROUPS).start, group)
            chunk = _item(footer, _field(footer, start, _COLUMNS).start, column)
            found = _field(footer, chunk, _META_DATA)
            assert footer[found.end] == 0  # the struct ends
            footer = footer[: found.header] + footer[found.end :]
    return body + footer + len(footer).to_bytes(4, "little") + data[-4:]


def _field(data: bytes, start: int, number: int) -> _Field:
    return next(field for field in _fields(data, start) if field.number == number)


def _fields(data: bytes, at: int) -> Iterator[_Field]:
    number = 0
    while data[at]:
        header, delta, kind = at, data[at] >> 4, data[at] & 15
        assert delta  # long forms are not written for such small numbers
        number += delta
        start = at + 1
        at = _skip(data, start, kind)
        yield _Field(number, header, start, at)


def _item(data: bytes, at: int, index: int) -> int:
    """Where an item of a list of structs begins."""
    _, kind, at = _list(data, at)
    for _ in range(index):
        at = _skip(data, at, kind)
    return at


def _list(data: bytes, at: int) -> tuple[int, int, int]:
    count, kind = data[at] >> 4, data[at] & 15
    if count < 15:
        return count, kind, at + 1
    count, at = _number(data, at + 1)
    return count, kind, at


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at


def _skip(data: bytes, at: int, kind: int) -> int:
    """Where what follows a value begins."""
    if kind in (1, 2):  # true and false are in the header
        return at
    if kind == 3:
        return at + 1
    if kind in (4, 5, 6):
        return _number(data, at)[1]
    if kind == 8:
        size, at = _number(data, at)
        return at + size
    if kind == _LIST:
        count, item, at = _list(data, at)
        for _ in range(count):
            at = _skip(data, at, item)
        return at
    assert kind == _STRUCT, kind
    for field in _fields(data, at):
        at = field.end
    return at + 1
