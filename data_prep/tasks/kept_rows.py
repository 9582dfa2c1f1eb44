"""The rows of a source that a task keeps, as its examples are made of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from data_prep.config.row_conditions import Condition
from data_prep.sources.source_row import SourceRow
from data_prep.tasks.values import without_nan
from raytrain_core.errors import RowError

Row = Mapping[str, Any]
Transform = Callable[[Row], Row | None]


def kept_rows(rows: Iterable[SourceRow], transform: Transform, condition: Condition | None = None) -> Iterator[Row]:
    """Yields what `transform` makes of the rows, where the condition holds.

    Bad rows are left out: they are reported when the examples are made.
    """
    for source in rows:
        if source.values is None:
            continue
        try:
            present = without_nan(source.values)[0]
            row = transform(present)
            if row is None:
                continue
            if row is not present:
                row = without_nan(row)[0]
            if condition is None or condition.holds(row):
                yield row
        except RowError:
            continue
