"""Reads the rows of a Parquet file, and gives every value a form that tasks and `where` understand.

Parquet has types that JSON has not. Each has one stated form (`docs/explanation/data.md`): 0.1
stored in 32 bits is 0.1, not 0.10000000149011612.
"""

import datetime
import decimal
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from data_prep.sources.compression import LONGEST_ROW, check_ratio
from data_prep.sources.source_row import SourceRow, not_utf8, too_long
from data_prep.sources.spans import WHOLE, Span, batches_of
from raytrain_core.errors import DataError

_BATCH = 64  # rows in memory at once: few, because repeated values take almost no space in the file

_Convert = Callable[[Any], Any]


def parquet_rows(path: Path, name: str, span: Span = WHOLE) -> Iterator[SourceRow]:
    """Yields every row of a span; `number` counts rows from 1.

    Raises DataError for two columns of one name, a file that would take too much memory, or one
    that holds fewer rows than it states.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        _require_names(file.schema_arrow, name)
        _check_size(file.metadata, path.stat().st_size, name)
        converters = {field.name: convert for field in file.schema_arrow if (convert := _converter(field.type))}
        number, batches = batches_of(file, span, _BATCH)
        for batch in batches:
            large = batch.nbytes > LONGEST_ROW
            for i, row in enumerate(_values(batch, number, name)):
                number += 1
                # get_total_buffer_size would count the complete batch for each row
                if large and batch.slice(i, 1).nbytes > LONGEST_ROW:
                    yield SourceRow(number, None, too_long())
                    continue
                for column, convert in converters.items():
                    if row[column] is not None:
                        row[column] = convert(row[column])
                yield SourceRow(number, row)
        stop = file.metadata.num_rows if span.stop is None else span.stop
        if number != stop:  # pyarrow leaves out a row group whose columns a damaged footer does not describe
            raise DataError(
                f"{name}: its footer states rows {span.start + 1:,} to {stop:,}, "
                f"but {number - span.start:,} can be read",
                hint="The file is damaged. Write it again.",
            )


def count_parquet_rows(path: Path) -> int:
    """Returns the number of rows that the file states."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


def _values(batch: Any, before: int, name: str) -> list[dict[str, Any]]:
    where = f"{name}: row {before + 1} to {before + batch.num_rows}"
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: {not_utf8(error)}") from None
    except (ValueError, OverflowError) as error:  # a time that Python's cannot hold
        raise DataError(f"{where}: {error}") from None
    return rows


def _require_names(fields: Any, name: str, inside: str = "") -> None:
    """Raises DataError if two columns, or two fields of a struct, have one name."""
    import pyarrow as pa

    names = Counter(field.name for field in fields)
    if double := sorted(one for one, times in names.items() if times > 1):
        raise DataError(
            f"{name}: two columns{f' of {inside}' if inside else ''} are named {', '.join(map(repr, double))}",
            hint="A join leaves such columns. Rename or drop one of them and write the file again.",
        )
    for field in fields:
        if pa.types.is_struct(field.type):
            _require_names(list(field.type), name, f"{inside}.{field.name}".lstrip("."))


def _converter(kind: Any) -> _Convert | None:
    """Returns what turns values of an Arrow type, None apart, into their form; None if nothing."""
    import pyarrow as pa

    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _converter(kind.storage_type) if kind.extension_name != "arrow.uuid" else str
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _converter(kind.value_type)
    return _nested_converter(kind) if types.is_nested(kind) else _plain_converter(kind)


def _plain_converter(kind: Any) -> _Convert | None:
    from pyarrow import types

    if types.is_float16(kind) or types.is_float32(kind):
        return _shortest(kind.to_pandas_dtype())
    if types.is_decimal(kind):
        return _plain_decimal
    if types.is_temporal(kind) and not types.is_duration(kind):
        return _plain_time
    return _text_of_bytes if "binary" in str(kind) else None


def _nested_converter(kind: Any) -> _Convert | None:
    from pyarrow import types

    if types.is_map(kind):
        return _map_converter(kind)
    if types.is_struct(kind):
        inner = {field.name: convert for field in kind if (convert := _converter(field.type))}
        return (lambda row: row | {k: f(row[k]) for k, f in inner.items() if row[k] is not None}) if inner else None
    convert = _converter(kind.value_type) if hasattr(kind, "value_type") else None
    return None if convert is None else lambda items: [None if x is None else convert(x) for x in items]


def _map_converter(kind: Any) -> _Convert:
    """Maps become mappings, unless a key occurs twice: then they stay pairs."""
    convert = _converter(kind.item_type) or (lambda value: value)

    def mapping(pairs: list[tuple[Any, Any]]) -> Any:
        changed = [(key, None if value is None else convert(value)) for key, value in pairs]
        found = {str(key): value for key, value in changed}
        return found if len(found) == len(changed) else [list(pair) for pair in changed]

    return mapping


def _shortest(dtype: Any) -> _Convert:
    """The shortest decimal number that is stored as this float of fewer bits."""
    return lambda value: float(str(dtype(value)))


def _plain_decimal(value: decimal.Decimal) -> str:
    """All digits that the column has, without an exponent."""
    return format(value, "f")


def _plain_time(value: datetime.date | datetime.time) -> str:
    """ISO 8601, with a blank between day and time."""
    return str(value)


def _text_of_bytes(value: bytes | uuid.UUID) -> Any:
    """The text that bytes hold, as many programs store it; other bytes stay bytes."""
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        return value


def _check_size(metadata: Any, packed: int, name: str) -> None:
    """Raises DataError if the file's `packed` bytes hold more than text compresses to.

    Judged by row groups: pyarrow ends the process when it is asked for a column chunk whose
    metadata is missing in a damaged footer.
    """
    check_ratio(
        packed, sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)), name
    )
