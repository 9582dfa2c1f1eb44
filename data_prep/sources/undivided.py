"""Sources that give rows of named values: nothing to detect, nothing to divide."""

from pathlib import Path
from typing import Self

from data_prep.sources.read_as import ReadAs
from data_prep.sources.spans import WHOLE, Span


class Undivided:
    """A source that is read from its beginning, as whatever gives its rows knows how."""

    __slots__ = ()

    @property
    def read_as(self) -> ReadAs:
        """As rows of named values."""
        return ReadAs("jsonl")

    def with_read_as(self, read_as: ReadAs) -> Self:
        """Returns itself."""
        return self

    def detected(self, scratch: Path) -> Self:
        """Returns itself: whatever gives the rows knows their types."""
        return self

    def spans(self, scratch: Path) -> list[Span]:
        """Returns the only span."""
        return [WHOLE]
