"""A row as a file has it."""

from dataclasses import dataclass
from typing import Any

from data_prep.sources.compression import LONGEST_ROW
from data_prep.tally import Event


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row, or the reason why it is bad; `number` is its line (its row in Parquet), from 1."""

    number: int
    values: dict[str, Any] | None
    reason: str = ""
    events: tuple[Event, ...] = ()
    """What the reader changed, for the tally."""


def too_long() -> str:
    """Returns the reason why such a row is bad."""
    return f"a row of more than {LONGEST_ROW >> 20} MiB"


def not_utf8(error: UnicodeDecodeError) -> str:
    """Returns the reason why such a row is bad."""
    return f"not UTF-8 (byte 0x{error.object[error.start]:02x} at {error.start})"
