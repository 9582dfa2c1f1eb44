"""The order of tasks: which task comes at which place, and how many of its places came before.

Two forms. A `TaskTable` holds one block of `period` places, repeated forever. In it a task has an
integer quota, and its j-th place lies in the window that keeps its count within 1 of its share:
after floor(j * period / quota) places, before ceil((j + 1) * period / quota). Scheduling by
earliest deadline first fills the block and meets every window, because windows of this form are
feasible whenever the shares sum to 1 (Liu and Layland 1973; Tijdeman 1980, "The chairman assignment
problem"; Baruah et al. 1996, "Proportionate progress").

A `TaskTree` stands in where the block would be too long to be held: shares of any integers up to
2^60 in total, found in a binary tree of the tasks. Of the n places that reach a node the left
branch gets floor(n * p), with p its exact share. Nothing is stored but the tree.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Protocol

import numpy as np
import numpy.typing as npt

LARGEST_PERIOD = 1 << 20
"""Longest block that is held as a table."""
TOLERANCE = 1e-3
"""Quotas of a table may be rounded where this changes no rate by more than this share of it."""
LAST_PLACE = 1 << 50
"""Places up to here are found exactly."""

_LARGEST_DENOMINATOR = 1 << 24  # of rates that are taken for fractions: examples-proportional up to 16 M examples
_LARGEST_TOTAL = 1 << 60

Wide = npt.NDArray[np.int64]


class TaskOrder(Protocol):
    """The task of every place. Of `period` places in a row task i has `quotas[i]`."""

    quotas: Wide
    period: int

    def at(self, places: Wide) -> tuple[Wide, Wide]:
        """Returns the task of each place, and how many places it had before."""


def task_order(rates: Sequence[float]) -> TaskOrder:
    """Returns the order of tasks with these rates, which sum to 1."""
    found = quotas(rates)
    return TaskTable(found) if int(found.sum()) <= LARGEST_PERIOD else TaskTree(found)


def quotas(rates: Sequence[float]) -> Wide:
    """Returns the places of each task in a block, in the rates' proportion.

    Rates that are fractions give the smallest integers. Others are rounded: to a block of
    `LARGEST_PERIOD` places, by largest remainder, if that changes none by more than `TOLERANCE` of
    itself, else to one of about 2^60.
    """
    for largest, accuracy in ((LARGEST_PERIOD, 1e-12), (_LARGEST_DENOMINATOR, 1e-15)):
        exact = _fractions(rates, largest, accuracy)
        period = math.lcm(*(e.denominator for e in exact))
        if exact and period <= (LARGEST_PERIOD if largest == LARGEST_PERIOD else _LARGEST_TOTAL):
            return np.array([int(e * period) for e in exact], np.int64)
    shares = np.array(rates, np.float64) / math.fsum(rates)
    rounded = _rounded(shares)
    if np.abs(rounded / LARGEST_PERIOD / shares - 1).max() > TOLERANCE:
        total = sum(map(Fraction, rates))
        # half of the limit leaves room for rounding up the rates that are next to nothing
        return np.array([max(1, round(Fraction(r) / total * (_LARGEST_TOTAL // 2))) for r in rates], np.int64)
    smallest: Wide = rounded // np.gcd.reduce(rounded)
    return smallest


def _fractions(rates: Sequence[float], largest: int, accuracy: float) -> list[Fraction]:
    """Returns the rates as fractions with denominators up to `largest`; empty if they are none."""
    exact = [Fraction(r).limit_denominator(largest) for r in rates]
    near = all(abs(float(e) - r) <= accuracy * r for e, r in zip(exact, rates, strict=True))
    return exact if near and sum(exact) == 1 else []


def _rounded(shares: npt.NDArray[np.float64]) -> Wide:
    """Returns shares in multiples of 1 / `LARGEST_PERIOD`, at least one each."""
    share = shares * LARGEST_PERIOD
    out = np.maximum(np.floor(share).astype(np.int64), 1)
    missing = LARGEST_PERIOD - int(out.sum())
    out[np.argsort(out - share, kind="stable")[: max(missing, 0)]] += 1
    for _ in range(-missing):  # tasks were rounded up to one place: the largest gives
        out[out.argmax()] -= 1
    return out


class TaskTable:
    """A block of places, held as a table. Every prefix holds every share within 1."""

    def __init__(self, quota: Wide) -> None:
        self.quotas, self.period = quota, int(quota.sum())
        self._task, self._rank = _pattern(quota)

    def at(self, places: Wide) -> tuple[Wide, Wide]:
        """Returns the task of each place, and how many places it had before."""
        block, slot = np.divmod(places, self.period)
        task = self._task[slot].astype(np.int64)
        return task, block * self.quotas[task] + self._rank[slot]


def _pattern(quota: Wide) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int32]]:
    """Returns the task of every place of a block, and the number of its places before that one."""
    period, tasks = int(quota.sum()), len(quota)
    task = np.repeat(np.arange(tasks, dtype=np.int64), quota)
    rank = np.arange(period, dtype=np.int64) - np.repeat(np.cumsum(quota) - quota, quota)
    release = rank * period // quota[task]
    deadline = -(-(rank + 1) * period // quota[task])
    by_release = np.argsort(release, kind="stable")
    urgency = (deadline * tasks + task)[by_release].tolist()  # ties go to the task that was named first
    due = np.searchsorted(release[by_release], np.arange(period), side="right").tolist()
    order, waiting, released = [0] * period, list[int](), 0
    for place, upto in enumerate(due):
        for item in urgency[released:upto]:
            heapq.heappush(waiting, item)
        released = upto
        order[place] = heapq.heappop(waiting)
    by_place = np.array(order, np.int64) % tasks
    # the r-th place of a task, in the order of places, has rank r
    ranks = np.empty(period, np.int32)
    ranks[np.argsort(by_place, kind="stable")] = rank
    return by_place.astype(np.int16), ranks


class TaskTree:
    """Tasks as the leaves of a binary tree; a place finds its task on the way down from the root.

    Each branch point adds less than 1 to the difference between a task's count and its share, and
    passes on what came from above in proportion. Tasks are sorted by quota and divided as evenly as
    they can be, so a branch point passes on at most 2/3 to the next one: counts stay within 4 of
    the share in every prefix (1 + 1 + 2/3 + 4/9 + ...).
    """

    def __init__(self, quota: Wide) -> None:
        self.quotas, self.period = quota, int(quota.sum())
        self._left, self._total, branches = _tree(quota)
        self._share = self._left / self._total
        self._branches = branches.reshape(-1)  # (2 nodes,): the right branch of a node, then the left one

    def at(self, places: Wide) -> tuple[Wide, Wide]:
        """Returns the task of each place, and how many places it had before.

        ValueError for places beyond `LAST_PLACE`.
        """
        if len(places) and int(places.max()) > LAST_PLACE:
            raise ValueError(f"place {places.max()} is beyond {LAST_PLACE}")
        task, before = np.empty_like(places), np.empty_like(places)
        where, node, count = np.arange(len(places)), np.zeros_like(places), places
        while where.size:
            left, total, share = self._left.take(node), self._total.take(node), self._share.take(node)
            goes_left, on_left = _divided(count, left, total, share)
            count = np.where(goes_left, on_left, count - on_left)
            node = self._branches.take(2 * node + goes_left)
            if node.min() >= 0:
                continue
            ended, on = np.flatnonzero(node < 0), np.flatnonzero(node >= 0)
            task[where[ended]], before[where[ended]] = ~node[ended], count[ended]
            where, node, count = where[on], node[on], count[on]
        return task, before


def _divided(
    count: Wide, part: Wide, whole: Wide, share: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.bool_], Wide]:
    """Returns whether place number `count` goes to a part, and how many places before it did.

    `share` is part / whole in float64. The count is floor(count * part / whole), exactly: the
    quotient in float64 is at most one off while it is below 2^51, and the remainder, computed
    modulo 2^64, says so.
    """
    quotient = (count * share).astype(np.int64)
    rest = (count.view(np.uint64) * part.view(np.uint64) - quotient.view(np.uint64) * whole.view(np.uint64)).view(
        np.int64
    )
    step = (rest >= whole).astype(np.int64) - (rest < 0)
    quotient += step
    rest -= step * whole
    return rest + part >= whole, quotient


def _tree(quota: Wide) -> tuple[Wide, Wide, Wide]:
    """Returns each node's left and total quota, and its branches, right and left: ~task is a leaf.

    Arrays of (nodes,), (nodes,) and (nodes, 2).
    """
    by_size = np.argsort(-quota, kind="stable").tolist()
    above = [0]  # sums of quotas, largest first, as Python's integers
    for task in by_size:
        above.append(above[-1] + int(quota[task]))
    left, total, branches = list[int](), list[int](), list[list[int]]()
    waiting = [(0, len(by_size), -1, 0)]
    while waiting:
        begin, end, parent, side = waiting.pop()
        node = ~by_size[begin] if end - begin == 1 else len(left)
        if parent >= 0:
            branches[parent][side] = node
        if end - begin == 1:
            continue
        middle = _middle(above, begin, end)
        left.append(above[middle] - above[begin])
        total.append(above[end] - above[begin])
        branches.append([0, 0])
        waiting += [(middle, end, node, 0), (begin, middle, node, 1)]
    return np.array(left, np.int64), np.array(total, np.int64), np.array(branches, np.int64)


def _middle(above: Sequence[int], begin: int, end: int) -> int:
    """Returns where to divide begin .. end-1 so that the quotas of both sides are most alike."""
    twice = above[begin] + above[end]
    low = begin + 1
    while low < end - 1 and 2 * above[low] < twice:
        low += 1
    return low - 1 if low - 1 > begin and twice - 2 * above[low - 1] <= 2 * above[low] - twice else low
