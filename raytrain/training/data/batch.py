"""From placed examples to the flat arrays that one model step takes, and the rows of a worker, read ahead.

A flat row concatenates its examples without padding: linear layers see real tokens only, attention
stays inside the segments. Segments are ordered by (source length in steps of `LENGTH_STEP`, target
length), so that segments of similar length stand next to each other and attention can take them as
slices.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from raytrain.config.job import PackingShape
from raytrain.training.data.packing import ExampleLengths, PackedOrder, SampleRef

START = 0
"""T5's decoder start token, which is its padding token too."""
IGNORED = -100
"""Label of a padded position: no loss."""
LENGTH_STEP = 16
"""Segments whose source lengths fall into the same multiple of this stand together, ordered by target length."""

Ids = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]
TokenReader = Callable[[SampleRef], tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]]
"""A placed example's (source, target) ids, both ending in EOS; `token_reader` makes one of the tasks' splits."""


class Split(Protocol):
    """What is needed of `data_prep.shards.manifest.SplitReader`."""

    @property
    def examples(self) -> int:
        """Number of examples."""

    @property
    def variants(self) -> int:
        """Number of wordings of each example."""

    @property
    def source_lengths(self) -> Sequence[npt.NDArray[np.int32]]:
        """Source tokens by wording, each of shape (examples,)."""

    @property
    def target_lengths(self) -> Sequence[npt.NDArray[np.int32]]:
        """Target tokens by wording, each of shape (examples,)."""

    def tokens(self, example: int, variant: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
        """Source and target ids of one example in one wording."""


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """One row: n segments in S source and T target positions. Padding, if any, is at the end and belongs to no segment.

    `index` is the global row number k. `source`, `decoder_input`, `labels` are ids (`labels` is
    -100 on padding). `source_segment`, `target_segment` number the segments 1..n, 0 on padding.
    `source_lengths`, `target_lengths`, `source_offsets`, `target_offsets`, `task` have shape (n,):
    segment i is `source[source_offsets[i] : source_offsets[i] + source_lengths[i]]`, and so on;
    `task` indexes the plan's streams.
    """

    index: int
    source: Ids
    decoder_input: Ids
    labels: Ids
    source_segment: Ints
    target_segment: Ints
    source_lengths: Ints
    target_lengths: Ints
    source_offsets: Ints
    target_offsets: Ints
    task: Ints
    placements: tuple[SampleRef, ...]

    @property
    def examples(self) -> int:
        """Number of segments."""
        return len(self.task)

    @property
    def source_tokens(self) -> int:
        """Source tokens that are no padding."""
        return int(self.source_lengths.sum())

    @property
    def target_tokens(self) -> int:
        """Target tokens that are no padding: the positions that have a loss."""
        return int(self.target_lengths.sum())


def collate(
    placements: Sequence[SampleRef],
    read_tokens: TokenReader,
    shape: PackingShape,
    *,
    index: int = 0,
    pad_to: PackingShape | None = None,
) -> PackedBatch:
    """The flat row of these examples; `pad_to` gives its arrays a fixed size.

    Decoder inputs are shifted inside each segment and begin with the start token. Raises ValueError
    where the examples do not fit the row's shape, or the row not `pad_to`.
    """
    read = [(p, *read_tokens(p)) for p in placements]
    read.sort(key=lambda r: (-(-len(r[1]) // LENGTH_STEP), len(r[2]), r[0]))
    placed = tuple(r[0] for r in read)
    source_lengths = np.array([len(r[1]) for r in read], np.int32)
    target_lengths = np.array([len(r[2]) for r in read], np.int32)
    n_source, n_target = int(source_lengths.sum()), int(target_lengths.sum())
    if n_source > shape.source or n_target > shape.target:
        raise ValueError(f"{n_source}/{n_target} tokens do not fit a row of {shape.source}/{shape.target}")
    if read and (source_lengths.min() < 1 or target_lengths.min() < 1):
        raise ValueError("an example without source or target tokens")
    if pad_to and (pad_to.source < n_source or pad_to.target < n_target):
        raise ValueError(f"{n_source}/{n_target} tokens cannot be padded to {pad_to.source}/{pad_to.target}")
    target_offsets = _starts(target_lengths)

    width_source, width_target = (pad_to.source, pad_to.target) if pad_to else (n_source, n_target)
    source, source_segment = np.zeros(width_source, np.int64), np.zeros(width_source, np.int32)
    labels, target_segment = np.full(width_target, IGNORED, np.int64), np.zeros(width_target, np.int32)
    decoder_input = np.full(width_target, START, np.int64)
    if read:
        source[:n_source] = np.concatenate([r[1] for r in read])
        labels[:n_target] = np.concatenate([r[2] for r in read])
    decoder_input[1:n_target] = labels[: max(n_target - 1, 0)]
    decoder_input[target_offsets] = START
    numbers = np.arange(1, len(read) + 1, dtype=np.int32)
    source_segment[:n_source] = np.repeat(numbers, source_lengths)
    target_segment[:n_target] = np.repeat(numbers, target_lengths)
    return PackedBatch(
        index=index,
        source=source,
        decoder_input=decoder_input,
        labels=labels,
        source_segment=source_segment,
        target_segment=target_segment,
        source_lengths=source_lengths,
        target_lengths=target_lengths,
        source_offsets=_starts(source_lengths),
        target_offsets=target_offsets,
        task=np.array([p.task for p in placed], np.int32),
        placements=placed,
    )


def cut(row: PackedBatch, tokens: int) -> list[PackedBatch]:
    """The row as parts of at most `tokens` source and target tokens, in its order, none padded; a longer segment is a
    part of its own."""
    both = (row.source_lengths + row.target_lengths).tolist()
    bounds, held = [0], 0
    for number, size in enumerate(both):
        if held and held + size > tokens:
            bounds.append(number)
            held = 0
        held += size
    return [_part(row, first, last) for first, last in pairwise([*bounds, row.examples])]


def _part(row: PackedBatch, first: int, last: int) -> PackedBatch:
    """Its segments `first` .. `last`-1."""
    segments = slice(first, last)
    source_at, target_at = int(row.source_offsets[first]), int(row.target_offsets[first])
    source = slice(source_at, source_at + int(row.source_lengths[segments].sum()))
    target = slice(target_at, target_at + int(row.target_lengths[segments].sum()))
    return PackedBatch(
        index=row.index,
        source=row.source[source],
        decoder_input=row.decoder_input[target],
        labels=row.labels[target],
        source_segment=row.source_segment[source] - first,
        target_segment=row.target_segment[target] - first,
        source_lengths=row.source_lengths[segments],
        target_lengths=row.target_lengths[segments],
        source_offsets=row.source_offsets[segments] - source_at,
        target_offsets=row.target_offsets[segments] - target_at,
        task=row.task[segments],
        placements=row.placements[segments],
    )


def _starts(lengths: Ints) -> Ints:
    return (np.cumsum(lengths, dtype=np.int32) - lengths).astype(np.int32)


EMPTY = collate(
    [SampleRef(0, 0, 0)], lambda placed: (np.ones(1, np.uint16),) * 2, PackingShape(source=8, target=4), index=-1
)
"""A row of one example that says nothing, for a pass whose result does not count."""


def lengths(readers: Sequence[Split]) -> ExampleLengths:
    """Lengths of all examples in all wordings, by task in the order of the plan's streams."""
    return ExampleLengths.of([(r.source_lengths, r.target_lengths) for r in readers])


def token_reader(readers: Sequence[Split]) -> TokenReader:
    """Reads a placed example from its task's split; readers in the order of the plan's streams."""

    def read(placed: SampleRef) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
        return readers[placed.task].tokens(placed.example, placed.variant)

    return read


class BatchPrefetcher:
    """Steps `start` .. `stop`-1 of one worker, as (step, its flat rows), with one thread that reads ahead.

    Step s takes the global rows s*R .. (s+1)*R-1; worker w of N takes those whose number is w
    modulo N. A worker may get no row of a step (N > R). Use it as a context manager, so that the
    thread ends with it::

        with StepRows(plan, read, rows_per_step=8, worker=0, workers=2, start=0, stop=100) as steps:
            for step, rows in steps:
                ...
    """

    def __init__(
        self,
        plan: PackedOrder,
        read_tokens: TokenReader,
        *,
        rows_per_step: int,
        worker: int,
        workers: int,
        start: int,
        stop: int,
        pad: bool = False,
        ahead: int = 2,
    ) -> None:
        if not 0 <= worker < workers or rows_per_step < 1 or ahead < 1:
            raise ValueError(f"worker {worker} of {workers}, {rows_per_step} rows a step, {ahead} steps ahead")
        self._plan, self._read = plan, read_tokens
        self._rows_per_step, self._worker, self._workers = rows_per_step, worker, workers
        self._start, self._stop, self._pad = start, stop, pad
        self._ready: queue.Queue[tuple[int, list[PackedBatch]] | BaseException | None] = queue.Queue(ahead)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._fill, name=f"rows-{worker}", daemon=True)

    def step(self, step: int) -> list[PackedBatch]:
        """This worker's flat rows of one step, read now."""
        first = step * self._rows_per_step
        mine = [k for k in range(first, first + self._rows_per_step) if k % self._workers == self._worker]
        shape = self._plan.shape
        return [
            collate(self._plan.rows(k, 1)[0], self._read, shape, index=k, pad_to=shape if self._pad else None)
            for k in mine
        ]

    def _fill(self) -> None:
        try:
            for step in range(self._start, self._stop):
                if not self._put((step, self.step(step))):
                    return
            self._put(None)
        except BaseException as error:  # raised again in the thread that asks for rows
            self._put(error)

    def _put(self, item: tuple[int, list[PackedBatch]] | BaseException | None) -> bool:
        while not self._ended.is_set():
            try:
                self._ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[tuple[int, list[PackedBatch]]]:
        if not self._thread.is_alive() and not self._ended.is_set():
            self._thread.start()
        while (item := self._ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the thread; rows that were read ahead are dropped."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
