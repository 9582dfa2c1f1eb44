"""Chunks: the unit of work of evaluation actors, and what comes back for them. Plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raytrain.evaluation.examples import Example
from raytrain.generation.requests import Generation, ModelRef, Request

CHUNK_BATCHES = 2
"""Batches per chunk: enough to refill free slots, few enough to share between actors."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Requests that an actor serves in one call; `indices` are the places of their examples."""

    indices: tuple[int, ...]
    requests: tuple[Request, ...]


@dataclass(slots=True, eq=False)
class ChunkGroup:
    """The chunks of one task at one stage: they are of use only if all of them are served."""

    model: ModelRef
    batch_size: int
    label: str
    """Names the group in messages."""
    fields: Mapping[str, Any]
    """Names the group in the fields of events."""
    started: float | None = None
    """When its first chunk was given to an actor (`time.monotonic`)."""


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """A chunk was served: one generation per request, in the same order."""

    group: ChunkGroup
    chunk: Chunk
    generations: Sequence[Generation]


@dataclass(frozen=True, slots=True)
class GroupFailed:
    """A group was given up; none of its other chunks will be reported."""

    group: ChunkGroup
    reason: str


def split_into_chunks(examples: Sequence[Example], size: int) -> list[list[int]]:
    """Splits indices into `examples`, longest prompts first, into chunks of `size`.

    The result depends on the examples alone. Since a generation can depend, in the last bit of a
    float, on the batch that it was made in, this makes scores the same for any number of actors and
    after any restart.
    """
    order = sorted(range(len(examples)), key=lambda i: (-len(examples[i].input), examples[i].id, i))
    return [order[start : start + size] for start in range(0, len(order), size)]
