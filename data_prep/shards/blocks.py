"""Examples on their way from the process that read them to the one that writes their shards."""

import pickle
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data_prep.tasks.examples import Example

_FIELDS = attrgetter(*(field.name for field in fields(Example)))


class Examples(Protocol):
    """Consecutive examples of a split, wherever they are kept."""

    def load(self) -> Sequence[Example]:
        """Returns them."""


@dataclass(frozen=True, slots=True)
class InMemory:
    """Examples that stay in the process that read them."""

    examples: list[Example]

    def load(self) -> Sequence[Example]:
        """Returns them."""
        return self.examples


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Spooled:
    """Examples in a temporary file, for another process of the same machine."""

    path: Path

    @classmethod
    def write(cls, examples: Sequence[Example]) -> "Spooled":
        """Writes them into the folder for temporary files."""
        with tempfile.NamedTemporaryFile(prefix="examples-", delete=False) as file:
            file.write(packed(examples))
        return cls(Path(file.name))

    def load(self) -> Sequence[Example]:
        """Reads them."""
        return unpacked(self.path.read_bytes())


def packed(examples: Sequence[Example]) -> bytes:
    """Returns examples as bytes: as tuples, which pickle several times as fast."""
    return pickle.dumps(list(map(_FIELDS, examples)), pickle.HIGHEST_PROTOCOL)


def unpacked(data: bytes) -> list[Example]:
    """Returns what `packed` was given."""
    return [Example(*row) for row in pickle.loads(data)]


@dataclass(slots=True)
class Block:
    """Consecutive examples of a split, and what has to be known of them to cut work units."""

    characters: NDArray[np.int32]
    """Of input and targets of each example."""
    ids: list[str] | None
    """The rows' own ids; None if the task has no column for them."""
    examples: Examples

    @classmethod
    def of(cls, examples: list[Example]) -> "Block":
        """Returns the block of examples in memory."""
        characters = [len(example.input) + sum(map(len, example.targets)) for example in examples]
        ids = [example.id for example in examples if example.id is not None]
        return cls(np.array(characters, np.int32), ids or None, InMemory(examples))


@dataclass(frozen=True, slots=True)
class Segment:
    """The examples from `start` to `stop` of a block."""

    examples: Examples
    start: int
    stop: int

    def load(self) -> Sequence[Example]:
        """Returns them."""
        return self.examples.load()[self.start : self.stop]
