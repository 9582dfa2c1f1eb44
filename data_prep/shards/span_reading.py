"""Reads a span of a source file into examples, in any process.

What comes out depends on the span alone. The process that prepares takes the outcomes of all spans
in the order of the files and so knows what no single span does: how many rows came before, which
rows a limit keeps, and which ids occurred already.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.config import Split, Task
from data_prep.shards.blocks import Block
from data_prep.shards.row_limit import Keeper, content_keys
from data_prep.sources.files import LocalFile, SourceFile
from data_prep.sources.spans import Span
from data_prep.tally import Event
from data_prep.tasks.bad_rows import BadRows
from data_prep.tasks.examples import Example, row_transform
from data_prep.tasks.profile import Observations, Profile, observe
from data_prep.tasks.splits import Splitter
from data_prep.tasks.task_rows import TaskRow, read_task_rows
from data_prep.text.few_shot import Shot, ShotPool
from raytrain_core.errors import UserError
from raytrain_core.storage.scratch import scratch

CHUNK_ROWS = 5_000
CHUNK_CHARACTERS = 4 << 20
"""With the rows, bounds the memory that examples take before they are spooled or cut into units."""

Wanted = Literal["profile", "keys", "shots", "examples"]


@dataclass(frozen=True, slots=True)
class SpanJob:
    """A span to read, and everything that determines what comes out; pickles."""

    task: Task
    file: SourceFile
    span: Span
    splitter: Splitter
    profile: Profile
    scratch: Path
    """The folder for downloads, where it exists."""
    wanted: Wanted = "examples"
    """What the columns hold for the `profile`, `keys` for a limit, few `shots` to choose from, or
    the examples themselves."""
    keeper: Keeper | None = None
    seed: int = 0
    seen: tuple[int, int] | None = None
    """Size and time (ns) of a local file, by which another machine knows whether it has it."""

    def is_here(self) -> bool:
        """Whether this machine can read it: it has the same file, or can download all of it."""
        if isinstance(self.file, LocalFile):
            return self.seen is not None and self.seen == seen(self.file)
        return self.span.stop is None or self.scratch.is_dir()


def seen(file: SourceFile) -> tuple[int, int] | None:
    """Returns size and time of a file of this machine; None for others, and where it is missing."""
    try:
        stat = file.path.stat() if isinstance(file, LocalFile) else None
    except OSError:
        return None
    return None if stat is None else (stat.st_size, stat.st_mtime_ns)


@dataclass(slots=True)
class Chunk:
    """Some consecutive rows of a span: what was wanted of them, and what happened to them."""

    bad: BadRows
    rows: int = 0
    blocks: dict[Split, Block] = field(default_factory=dict)
    keys: dict[Split, NDArray[np.uint64]] = field(default_factory=dict)
    shots: tuple[Shot, ...] = ()
    observed: Observations | None = None
    error: UserError | None = None
    """Why the rest of the span cannot be read."""


def read_span(job: SpanJob) -> Iterator[Chunk]:
    """Yields the rows of a span in chunks, the last one perhaps with an error."""
    if job.scratch.is_dir():
        yield from _chunks(job, job.scratch)
        return
    with scratch("reading") as folder:
        yield from _chunks(job, folder)


def _chunks(job: SpanJob, folder: Path) -> Iterator[Chunk]:
    if job.wanted == "profile":
        yield _observed(job, folder)
        return
    collector = _Collector(job)
    try:
        for row in read_task_rows(job.task, [job.file], folder, job.profile, job.span):
            collector.add(row)
            if collector.full:
                yield collector.chunk()
                collector = _Collector(job, collector.seen)
    except UserError as error:
        yield collector.chunk(error)
    else:
        yield collector.chunk()


def _observed(job: SpanJob, folder: Path) -> Chunk:
    chunk = Chunk(BadRows(job.task))
    try:
        chunk.observed = observe(job.task, job.file.rows(folder, job.span), row_transform(job.task))
    except UserError as error:
        chunk.error = error
    return chunk


class _Collector:
    """Collects the rows of a chunk."""

    def __init__(self, job: SpanJob, seen: Mapping[Split, int] | None = None) -> None:
        self._job, self._bad = job, BadRows(job.task)
        self._examples: dict[Split, list[Example]] = {}
        self._rows = self._characters = 0
        self.seen: dict[Split, int] = dict(seen or {})
        """Examples of each split in the span so far."""

    @property
    def full(self) -> bool:
        return self._rows >= CHUNK_ROWS or self._characters >= CHUNK_CHARACTERS

    def add(self, row: TaskRow) -> None:
        """Takes the next row."""
        self._rows += 1
        example = row.example
        if example is None:
            self._bad.add(row)
            return
        split = self._job.splitter.split(row.file.split, example.meta["input"])
        keeper = self._job.keeper
        if keeper is not None:
            ordinal = self.seen.get(split, 0)
            self.seen[split] = ordinal + 1
            if not keeper.keeps(split, example, ordinal):
                self._bad.tally.add_row(*example.place, [Event("limit")])
                return
        self._bad.tally.add_row(*example.place, example.events)
        self._examples.setdefault(split, []).append(example)
        self._characters += len(example.input) + len(example.targets[0])

    def chunk(self, error: UserError | None = None) -> Chunk:
        """Returns what was wanted of the rows."""
        chunk = Chunk(self._bad, self._rows, error=error)
        match self._job.wanted:
            case "keys":
                chunk.keys = {split: content_keys(examples) for split, examples in self._examples.items()}
            case "shots":
                pool = ShotPool(self._job.seed)
                for example in self._examples.get("train", []):
                    pool.add(example.input, example.targets[0])
                chunk.shots = pool.shots()
            case "examples":
                chunk.blocks = {split: Block.of(examples) for split, examples in self._examples.items()}
        return chunk
