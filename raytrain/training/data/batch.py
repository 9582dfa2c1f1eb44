"""Packed batches: the arrays that one forward pass takes, and a worker's share of them.

A packed row concatenates its samples without padding: linear layers see real tokens only, attention
stays within segments. Segments are sorted by (source length in steps of `LENGTH_STEP`, target
length), so that neighbours have similar lengths and attention can take them in groups.
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

from data_prep.text import tokenizer
from raytrain.config.training import PackingShape
from raytrain.training.data.packing import PackedOrder, SampleRef

START = 0
"""T5's decoder start token, which is its padding token too."""
LENGTH_STEP = 16
"""Segments whose source lengths fall into the same multiple of this are sorted by target length."""

Ids = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]
TokenReader = Callable[[SampleRef], tuple[tokenizer.Ids, tokenizer.Ids]]
"""Returns a sample's (source, target) ids, both ending in EOS."""


class TokenizedSplit(Protocol):
    """What `token_reader` needs of `data_prep.shards.reader.SplitReader`."""

    def tokens(self, example: int, variant: int) -> tuple[tokenizer.Ids, tokenizer.Ids]:
        """Returns source and target ids of one example in one variant."""


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """One packed row, or a part of it: n segments in S source and T target tokens, without padding.

    `index` is the global row number k. `source` (S,), `decoder_input` (T,) and `labels` (T,) are
    ids. `source_lengths`, `target_lengths`, `source_offsets`, `target_offsets` and `task` have
    shape (n,): segment i is `source[source_offsets[i] : source_offsets[i] + source_lengths[i]]`,
    and so on; `task` indexes the streams of the sampling order.
    """

    index: int
    source: Ids
    decoder_input: Ids
    labels: Ids
    source_lengths: Ints
    target_lengths: Ints
    source_offsets: Ints
    target_offsets: Ints
    task: Ints
    samples: tuple[SampleRef, ...]

    @property
    def examples(self) -> int:
        """Number of segments."""
        return len(self.task)

    @property
    def source_tokens(self) -> int:
        """Number of source tokens."""
        return len(self.source)

    @property
    def target_tokens(self) -> int:
        """Number of target tokens: the positions that have a loss."""
        return len(self.labels)


def collate(
    samples: Sequence[SampleRef], read_tokens: TokenReader, shape: PackingShape, *, index: int = 0
) -> PackedBatch:
    """Reads `samples` and concatenates them to a packed row.

    Decoder inputs are shifted within each segment and begin with the start token. ValueError if the
    samples do not fit `shape`, or if one has no source or no target tokens.
    """
    read = [(ref, *read_tokens(ref)) for ref in samples]
    read.sort(key=lambda r: (-(-len(r[1]) // LENGTH_STEP), len(r[2]), r[0]))
    source_lengths = np.array([len(r[1]) for r in read], np.int32)
    target_lengths = np.array([len(r[2]) for r in read], np.int32)
    n_source, n_target = int(source_lengths.sum()), int(target_lengths.sum())
    if n_source > shape.source or n_target > shape.target:
        raise ValueError(f"{n_source}/{n_target} tokens do not fit a row of {shape.source}/{shape.target}")
    if read and (source_lengths.min() < 1 or target_lengths.min() < 1):
        raise ValueError("an example without source or target tokens")
    source, labels = np.zeros(n_source, np.int64), np.zeros(n_target, np.int64)
    if read:
        source[:] = np.concatenate([r[1] for r in read])
        labels[:] = np.concatenate([r[2] for r in read])
    target_offsets = _offsets(target_lengths)
    decoder_input = np.full(n_target, START, np.int64)
    decoder_input[1:] = labels[:-1]
    decoder_input[target_offsets] = START
    return PackedBatch(
        index=index,
        source=source,
        decoder_input=decoder_input,
        labels=labels,
        source_lengths=source_lengths,
        target_lengths=target_lengths,
        source_offsets=_offsets(source_lengths),
        target_offsets=target_offsets,
        task=np.array([r[0].task for r in read], np.int32),
        samples=tuple(r[0] for r in read),
    )


def split(batch: PackedBatch, tokens: int | None) -> list[PackedBatch]:
    """Splits a batch between segments into micro-batches of at most `tokens` tokens.

    Source and target tokens count. A longer segment becomes a micro-batch of its own. With None the
    batch is returned as it is.
    """
    if tokens is None:
        return [batch]
    sizes = (batch.source_lengths + batch.target_lengths).tolist()
    bounds, held = [0], 0
    for number, size in enumerate(sizes):
        if held and held + size > tokens:
            bounds.append(number)
            held = 0
        held += size
    return [_segments(batch, first, last) for first, last in pairwise([*bounds, batch.examples])]


def _segments(batch: PackedBatch, first: int, last: int) -> PackedBatch:
    """Returns segments `first` .. `last`-1 of a batch."""
    chosen = slice(first, last)
    source_at, target_at = int(batch.source_offsets[first]), int(batch.target_offsets[first])
    source = slice(source_at, source_at + int(batch.source_lengths[chosen].sum()))
    target = slice(target_at, target_at + int(batch.target_lengths[chosen].sum()))
    return PackedBatch(
        index=batch.index,
        source=batch.source[source],
        decoder_input=batch.decoder_input[target],
        labels=batch.labels[target],
        source_lengths=batch.source_lengths[chosen],
        target_lengths=batch.target_lengths[chosen],
        source_offsets=batch.source_offsets[chosen] - source_at,
        target_offsets=batch.target_offsets[chosen] - target_at,
        task=batch.task[chosen],
        samples=batch.samples[chosen],
    )


def _offsets(lengths: Ints) -> Ints:
    return (np.cumsum(lengths, dtype=np.int32) - lengths).astype(np.int32)


EMPTY = collate(
    [SampleRef(0, 0, 0)], lambda ref: (np.ones(1, np.uint16),) * 2, PackingShape(source=8, target=4), index=-1
)
"""A row of one trivial example, for a pass whose result does not count."""


def token_reader(splits: Sequence[TokenizedSplit]) -> TokenReader:
    """Returns a function that reads a sample from its task's split.

    Splits in the order of the task streams.
    """

    def read(ref: SampleRef) -> tuple[tokenizer.Ids, tokenizer.Ids]:
        return splits[ref.task].tokens(ref.example, ref.variant)

    return read


class BatchPrefetcher:
    """Reads steps `start` .. `stop`-1 of one worker ahead in a thread, as (step, packed rows).

    Step s takes the global rows s*R .. (s+1)*R-1; worker w of N takes those whose number is w
    modulo N. A worker may get no row of a step (N > R). Use it as a context manager, so that the
    thread ends with it::

        with BatchPrefetcher(
            order, read_tokens, rows_per_step=8, worker=0, workers=2, start=0, stop=100
        ) as steps:
            for step, batches in steps:
                ...
    """

    def __init__(
        self,
        order: PackedOrder,
        read_tokens: TokenReader,
        *,
        rows_per_step: int,
        worker: int,
        workers: int,
        start: int,
        stop: int,
        ahead: int = 2,
    ) -> None:
        if not 0 <= worker < workers or rows_per_step < 1 or ahead < 1:
            raise ValueError(f"worker {worker} of {workers}, {rows_per_step} rows a step, {ahead} steps ahead")
        self._order, self._read_tokens = order, read_tokens
        self._rows_per_step, self._worker, self._workers = rows_per_step, worker, workers
        self._start, self._stop = start, stop
        self._ready: queue.Queue[tuple[int, list[PackedBatch]] | BaseException | None] = queue.Queue(ahead)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._fill, name=f"prefetch-{worker}", daemon=True)

    def read_step(self, step: int) -> list[PackedBatch]:
        """Reads this worker's packed rows of one step, in this thread."""
        first = step * self._rows_per_step
        own = [k for k in range(first, first + self._rows_per_step) if k % self._workers == self._worker]
        return [collate(self._order.rows(k, 1)[0], self._read_tokens, self._order.shape, index=k) for k in own]

    def _fill(self) -> None:
        try:
            for step in range(self._start, self._stop):
                if not self._put((step, self.read_step(step))):
                    return
            self._put(None)
        except BaseException as error:  # raised again in the thread that iterates
            self._put(error)

    def _put(self, item: tuple[int, list[PackedBatch]] | BaseException | None) -> bool:
        while not self._ended.is_set():
            try:
                self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
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
        """Ends the thread; rows that were read ahead are dropped."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
