"""Packs samples, in their order, into rows of fixed capacity, in independent blocks.

Block b packs the samples b*E .. (b+1)*E-1 and nothing else, so it can be packed without the blocks
before it. How many rows a block takes follows from the lengths of its samples; `PackedOrder` counts
them once, many blocks at a time, and remembers where each block begins. So the global row numbers
are dense (0, 1, 2, ...), and one of them is all that a checkpoint has to remember. Everything is
integer arithmetic: the same rows on every machine.

A row is filled one sample after the other from a window of the block's samples. If rows hold many
samples, a row first takes samples in the given order, and uses best fit only for what room is left:
every row is a sample of the mixture. If rows hold few, a row begins with the hardest sample left
and continues by best fit over the entire block; then the block's rows are shuffled.
"""

import math
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from data_prep.text.tokenizer import Ids
from raytrain.config.training import PackingShape
from raytrain.training.data.sampling_order import SamplingOrder
from raytrain_core.errors import UsageError
from raytrain_core.hashing import splitmix64_finalize

MANY = 16
"""From this many examples a row on, rows keep the sampling order."""
FEW_BLOCK = 768
"""Examples of a block if rows hold few."""
MANY_ROWS = 40
"""Rows of a block, roughly, if they hold many; the last one is partly empty."""

_LENGTH_LIMIT = 1 << 16
_GROUP = 1 << 17  # elements of the arrays that count many blocks at once
_KEPT = 64  # packed blocks that are remembered

Wide = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
LengthsByVariant = Sequence[npt.NDArray[np.integer]]


class SampleRef(NamedTuple):
    """One sample: numbers of its task stream, of the example in it, and of its variant."""

    task: int
    example: int
    variant: int


@dataclass(frozen=True, slots=True)
class ExampleLengths:
    """Source and target tokens of every example in every variant.

    Both are one flat array: task by task, in a task variant by variant. `first` (tasks,) is where a
    task begins, `examples` (tasks,) its number of examples, `variants` (tasks,) its number of
    variants.
    """

    source: Ids
    target: Ids
    first: Wide
    examples: Wide
    variants: Wide

    @classmethod
    def of(cls, tasks: Sequence[tuple[LengthsByVariant, LengthsByVariant]]) -> Self:
        """Joins the lengths of all tasks.

        A task is (source lengths by variant, target lengths by variant), arrays (examples,).
        """
        sizes = [{len(a) for side in task for a in side} for task in tasks]
        if any(len(s) != 1 or len(task[0]) != len(task[1]) for s, task in zip(sizes, tasks, strict=True)):
            raise ValueError("every variant of a task must have a source and a target length for every example")
        examples = np.array([s.pop() for s in sizes], np.int64)
        variants = np.array([len(task[0]) for task in tasks], np.int64)
        total = examples * variants
        source, target = (np.concatenate([_small(a) for task in tasks for a in task[side]]) for side in (0, 1))
        return cls(source, target, np.cumsum(total) - total, examples, variants)

    def at(self, samples: npt.NDArray[np.void]) -> tuple[Wide, Wide]:
        """Returns source and target tokens of samples, an array of `sampling_order.SAMPLE`."""
        task = samples["task"]
        where = self.first[task] + samples["variant"] * self.examples[task] + samples["example"]
        return self.source[where].astype(np.int64), self.target[where].astype(np.int64)

    def totals(self) -> tuple[list[int], list[int]]:
        """Returns source and target tokens of each task, summed over its examples and variants."""
        return (
            np.add.reduceat(self.source, self.first, dtype=np.int64).tolist(),
            np.add.reduceat(self.target, self.first, dtype=np.int64).tolist(),
        )

    def means(self, rates: Sequence[float]) -> tuple[float, float]:
        """Returns mean source and target tokens of a sample of the mixture, for `packing_shape`."""
        counts = (self.examples * self.variants).tolist()
        source, target = (
            math.fsum(rate * total / count for rate, total, count in zip(rates, totals, counts, strict=True))
            for totals in self.totals()
        )
        return source, target


def _small(lengths: npt.NDArray[np.integer]) -> npt.NDArray[np.uint16]:
    if len(lengths) and not 0 < lengths.min() <= lengths.max() < _LENGTH_LIMIT:
        raise ValueError(f"lengths of {lengths.min()} to {lengths.max()} tokens")
    return np.asarray(lengths, np.uint16)


class PackedOrder:
    """The global packed rows: (order, lengths, shape) and nothing else determine row k.

    Looking up a row packs its block, and counts the blocks before it that were not counted yet
    (once; half a microsecond an example if rows hold many). Not thread-safe.
    """

    def __init__(self, order: SamplingOrder, lengths: ExampleLengths, shape: PackingShape) -> None:
        _check(order, lengths, shape)
        self.order, self.lengths, self.shape = order, lengths, shape
        examples = _examples_per_row(order, lengths, shape)
        self._many = examples >= MANY
        self.block = MANY_ROWS * examples if self._many else FEW_BLOCK
        self._window = 3 * examples // 2 + 32 if self._many else self.block
        self._starts = [0]  # first row of every block counted so far, and of the one after them
        self._packed: OrderedDict[int, tuple[npt.NDArray[np.void], Wide]] = OrderedDict()

    def rows(self, k: int, n: int) -> list[list[SampleRef]]:
        """Returns the global rows k .. k+n-1."""
        if k < 0 or n < 0:
            raise ValueError(f"rows {k} .. {k + n - 1}")
        out: list[list[SampleRef]] = []
        while len(out) < n:
            block, first = self._block_of(k + len(out))
            rows = self._rows_of(block)
            out += [[SampleRef(*e) for e in row.tolist()] for row in rows[first : first + n - len(out)]]
        return out

    def before(self, k: int) -> Iterator[npt.NDArray[np.void]]:
        """Yields all samples before row k, as arrays of `sampling_order.SAMPLE` in any order."""
        last, rows = self._block_of(k)
        many = max(1, _GROUP // self.block)
        for block in range(0, last, many):
            yield self.order.examples(block * self.block, min(block + many, last) * self.block)
        if rows:
            yield np.concatenate(self._rows_of(last)[:rows])

    def first_row(self, block: int) -> int:
        """Returns the number of a block's first row.

        Counts the blocks before it if they were not counted yet.
        """
        while len(self._starts) <= block:
            self._count()
        return self._starts[block]

    def _block_of(self, k: int) -> tuple[int, int]:
        while self._starts[-1] <= k:
            self._count()
        block = bisect_right(self._starts, k) - 1
        return block, k - self._starts[block]

    def _count(self) -> None:
        """Packs the next blocks: few at first, so that the first row comes at once."""
        known = len(self._starts) - 1
        for rows in self._pack(range(known, known + max(1, min(known, _GROUP // self._window)))):
            self._starts.append(self._starts[-1] + rows)

    def _rows_of(self, block: int) -> list[npt.NDArray[np.void]]:
        if block not in self._packed:
            self._pack(range(block, block + 1))
        samples, row = self._packed[block]
        order = np.argsort(row, kind="stable")
        rows = np.split(samples[order], np.flatnonzero(np.diff(row[order])) + 1)
        return rows if self._many else [rows[i] for i in _shuffled(len(rows), self.order.seed, block)]

    def _pack(self, blocks: range) -> list[int]:
        """Packs blocks and returns the number of rows of each.

        The latest `_KEPT` stay in memory.
        """
        samples = self.order.examples(blocks.start * self.block, blocks.stop * self.block)
        source, target = (side.reshape(len(blocks), self.block) for side in self.lengths.at(samples))
        row = pack(source, target, self.shape, window=self._window, keep_order=self._many)
        samples = samples.reshape(row.shape)
        for block in blocks[-_KEPT:]:
            at = block - blocks.start
            self._packed[block] = samples[at].copy(), row[at].copy()
        while len(self._packed) > _KEPT:
            self._packed.popitem(last=False)
        counts: list[int] = (row.max(axis=1) + 1).tolist()
        return counts


def pack(source: Wide, target: Wide, shape: PackingShape, *, window: int, keep_order: bool) -> Wide:
    """Returns the row number of every example.

    `source`, `target` (blocks, examples) are packed block by block. A row is drawn from the first
    `window` examples of its block that have no row yet, in the given order (`keep_order`) or
    hardest first. It takes the first one; with `keep_order` also the following ones as long as they
    fit; then repeatedly the one that leaves the least room, measured as the larger of the free
    shares of source and target.
    """
    blocks, length = source.shape
    # in units of 1 / (shape.source * shape.target) of a row, source and target are measured alike
    capacity = shape.source * shape.target
    kind = np.uint32 if capacity < 1 << 30 else np.uint64
    s, t = (source * shape.target).astype(kind), (target * shape.source).astype(kind)
    if keep_order:
        order = np.broadcast_to(np.arange(length), source.shape)
    else:
        order = np.argsort(-np.maximum(s, t).astype(np.int64), axis=1, kind="stable")
        s, t = np.take_along_axis(s, order, 1), np.take_along_axis(t, order, 1)
    if blocks == 1:
        row = np.empty((1, length), np.int64)
        row[0, order[0]] = _pack_one(s[0], t[0], capacity, window, keep_order)
        return row
    # one example more than there are, larger than any row, stands for "none left"
    never = np.full((blocks, 1), capacity + 1, kind)
    s, t = np.concatenate([s, never], axis=1), np.concatenate([t, never], axis=1)
    base = (np.arange(blocks) * (length + 1))[:, None]
    row = np.zeros((blocks, length + 1), np.int64)
    slot = np.tile(np.arange(min(window, length)), (blocks, 1))  # the window: examples without a row, `length` for none
    following = np.full((blocks, 1), slot.shape[1])
    number = 0
    while slot.shape[1]:
        index = slot + base
        taken = _choose(s.take(index), t.take(index), capacity, keep_order)
        row.put(index[taken], number)
        slot = np.sort(np.where(taken, length, slot), axis=1)
        width = slot.shape[1]
        free = (slot == length).sum(axis=1, keepdims=True)
        ahead = np.arange(width) - (width - free)
        slot = np.where(ahead >= 0, np.minimum(following + ahead, length), slot)
        slot = slot[:, : int((slot < length).sum(axis=1).max())]
        following = np.minimum(following + free, length)
        number += 1
    out = np.empty(source.shape, np.int64)
    np.put_along_axis(out, order, row[:, :length], axis=1)
    return out


def _pack_one(s: Words, t: Words, capacity: int, window: int, keep_order: bool) -> Wide:
    """Like `pack` for one block: the same rows with a third of the numpy calls."""
    row, number = np.empty(len(s), np.int64), 0
    slot = np.arange(min(window, len(s)))
    following, kind = len(slot), s.dtype.type
    never = kind(capacity + 1)
    while len(slot):
        source, target, count = s[slot], t[slot], 1
        if keep_order:
            used = np.maximum(np.cumsum(source, dtype=np.uint64), np.cumsum(target, dtype=np.uint64))
            count = int(used.searchsorted(capacity, side="right"))
        free_s, free_t = (kind(capacity - int(side[:count].sum(dtype=np.uint64))) for side in (source, target))
        source[:count] = target[:count] = never
        left, other = np.empty_like(source), np.empty_like(target)
        while True:
            np.subtract(free_s, source, out=left)
            np.subtract(free_t, target, out=other)
            np.maximum(left, other, out=left)
            best = left.argmin()
            if left[best] > capacity:
                break
            free_s, free_t = free_s - source[best], free_t - target[best]
            source[best] = target[best] = never
        taken = source == never
        row[slot[taken]] = number
        upto = min(following + int(np.count_nonzero(taken)), len(s))
        slot = np.concatenate([slot[~taken], np.arange(following, upto)])
        following, number = upto, number + 1
    return row


def _choose(s: Words, t: Words, capacity: int, keep_order: bool) -> npt.NDArray[np.bool_]:
    """Returns which examples of each window make up the next row.

    Arguments and result are (blocks, window). `capacity` is that of a row in both measures. Numbers
    are unsigned: what is larger than the free room wraps around to more than `capacity`, and so is
    never the minimum.
    """
    blocks, width = s.shape
    if keep_order:
        sum_s, sum_t = np.cumsum(s, axis=1, dtype=np.uint64), np.cumsum(t, axis=1, dtype=np.uint64)
        count = (np.maximum(sum_s, sum_t) <= capacity).sum(axis=1)
        last = (np.arange(blocks), np.maximum(count - 1, 0))
        used_s, used_t = sum_s[last], sum_t[last]
    else:
        count = (s[:, 0] <= capacity).astype(np.int64)
        used_s, used_t = s[:, 0].copy(), t[:, 0].copy()
    used_s[count == 0] = used_t[count == 0] = capacity  # a block that is all packed
    taken: npt.NDArray[np.bool_] = np.arange(width) < count[:, None]
    skip = int(count.min())
    free_s, free_t = (capacity - used_s).astype(s.dtype)[:, None], (capacity - used_t).astype(s.dtype)[:, None]
    never = np.array(capacity + 1, s.dtype)
    rest = slice(skip, None)
    s, t = np.where(taken[:, rest], never, s[:, rest]), np.where(taken[:, rest], never, t[:, rest])
    block = np.arange(blocks)
    begin = block * (width - skip)
    while block.size and skip < width:
        left = np.maximum(free_s - s, free_t - t)
        best = left.argmin(axis=1)
        at = begin + best
        fits = left.take(at) <= capacity
        if not fits.all():  # nothing fits into these rows any more
            block, best = block[fits], best[fits]
            s, t, free_s, free_t = s[fits], t[fits], free_s[fits], free_t[fits]
            begin = begin[: block.size]
            at = begin + best
        taken[block, best + skip] = True
        free_s -= s.take(at)[:, None]
        free_t -= t.take(at)[:, None]
        s.put(at, never)
    return taken


def _shuffled(n: int, seed: int, block: int) -> Wide:
    words = np.arange(n, dtype=np.uint64) + np.array([block << 20], np.uint64)
    keys = splitmix64_finalize(splitmix64_finalize(words) + np.array([seed], np.uint64))
    return np.argsort(keys, kind="stable")


def _examples_per_row(order: SamplingOrder, lengths: ExampleLengths, shape: PackingShape) -> int:
    """Returns how many examples of mean length a row holds, at least 1."""
    source, target = 0, 0
    parts = zip(
        *lengths.totals(), order.tasks.quotas.tolist(), (lengths.examples * lengths.variants).tolist(), strict=True
    )
    for s, t, quota, count in parts:
        source += s * quota // count
        target += t * quota // count
    return max(1, min(shape.source * order.tasks.period // source, shape.target * order.tasks.period // target))


def _check(order: SamplingOrder, lengths: ExampleLengths, shape: PackingShape) -> None:
    given = [(s.examples, s.variants) for s in order.streams]
    if given != list(zip(lengths.examples.tolist(), lengths.variants.tolist(), strict=True)):
        raise ValueError("the lengths are not those of the order's streams")
    bounds = [*lengths.first.tolist(), len(lengths.source)]
    for stream, (a, b) in zip(order.streams, pairwise(bounds), strict=True):
        source, target = int(lengths.source[a:b].max()), int(lengths.target[a:b].max())
        if source > shape.source or target > shape.target:
            raise UsageError(
                f"task {stream.name}: an example of {source} source or {target} target tokens does not fit a row of "
                f"{shape.source}/{shape.target}",
                hint="enlarge training.packing, or lower training.maxInputTokens and training.maxTargetTokens",
            )


def rows_per_step(batch_tokens: int, shape: PackingShape) -> int:
    """Returns how many rows a step over all workers has, so that it holds at most `batch_tokens`.

    UsageError if not even one fits.
    """
    if shape.source + shape.target > batch_tokens:
        raise UsageError(
            f"training.batchTokens is {batch_tokens}, but one row holds {shape.source} + {shape.target} tokens",
            hint="raise training.batchTokens, or lower training.packing or the maximum lengths",
        )
    return batch_tokens // (shape.source + shape.target)
