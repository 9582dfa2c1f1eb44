"""What the order of tasks makes of rates: exact shares in every prefix, however rare a task is."""

import hashlib
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytrain.training.data.task_order import LARGEST_PERIOD, TOLERANCE, TaskTable, TaskTree, quotas, task_order


def counted(order, places):
    """Tasks of places 0 .. places-1, having checked that their numbers are dense."""
    task, before = order.at(np.arange(places))
    for i in range(len(order.quotas)):
        assert (before[task == i] == np.arange((task == i).sum())).all()
    return task


def of(weights):
    return [w / sum(weights) for w in weights]


@pytest.mark.parametrize("rare", [3.6e-9, 1e-12, 2**-21, 1.4 * 2**-20, 1 / 3_000_017])
def test_a_rare_task_gets_its_rate(rare):
    """Rounded to multiples of 2^-20, a rate of 3.6e-9 came to 265 times that."""
    order = task_order([rare, math.pi / 10, 1 - math.pi / 10 - rare])
    assert order.quotas[0] / order.period == pytest.approx(rare, rel=1e-6)
    last = int(3.5 / rare)
    (task,), _ = order.at(np.array([last]))
    _, before = order.at(np.arange(last - 1000, last))
    assert task in {1, 2}
    assert len(before) == 1000
    assert rare_places(order, last) in {2, 3, 4, 5}


def rare_places(order, stop):
    """Places of task 0 before `stop`: all but those of the others, whose numbers are dense."""
    task, before = order.at(np.arange(stop - 64, stop))
    others = [int(before[task == i][-1]) + 1 for i in (1, 2)]
    return stop - sum(others) if all(others) else -1


def test_many_rare_tasks_get_theirs():
    rates = [1e-9] * 2000 + [1 - 2e-6]
    order = task_order(rates)
    assert order.quotas[0] / order.period == pytest.approx(1e-9, rel=1e-6)
    task = counted(order, 1_500_000)
    assert (task < 2000).sum() in {2, 3, 4}


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(st.integers(1, 1 << 30), min_size=2, max_size=20),
    start=st.integers(0, 1 << 45),
    length=st.integers(1, 400),
)
def test_a_tree_is_exact_for_any_integers(weights, start, length):
    """Against Python's integers, at places far from the first, and within 4 of the share there."""
    order = TaskTree(np.array(weights, np.int64))
    task, before = order.at(np.arange(start, start + length))
    for i in range(len(weights)):
        mine = before[task == i]
        assert (np.diff(mine) == 1).all()
        for n, place in zip(mine.tolist(), (start + np.flatnonzero(task == i)).tolist(), strict=True):
            assert abs(Fraction(place * weights[i], sum(weights)) - n) < 4


@settings(max_examples=40, deadline=None)
@given(weights=st.lists(st.integers(1, 60), min_size=1, max_size=30))
def test_a_tree_gives_every_task_its_quota_in_every_period(weights):
    order = TaskTree(np.array(weights, np.int64)) if len(weights) > 1 else task_order([1.0])
    task = counted(order, 2 * order.period)
    n = np.arange(1, len(task) + 1)
    for i, quota in enumerate(order.quotas.tolist()):
        count = np.cumsum(task == i)
        assert count[order.period - 1] == quota
        assert count[-1] == 2 * quota
        assert np.abs(count - n * quota / order.period).max() < 4


@settings(max_examples=100)
@given(weights=st.lists(st.integers(1, 3_000_000), min_size=2, max_size=5))
def test_fractions_stay_exact(weights):
    """A block that fits a table is taken if it differs by less than a place in 10^12."""
    divisor, found = math.gcd(*weights), quotas(of(weights))
    if found.sum() > LARGEST_PERIOD:
        assert found.tolist() == [w // divisor for w in weights]
    assert np.allclose(found / found.sum(), of(weights), rtol=2e-12, atol=0)


def test_fifteen_million_examples_stay_exact():
    sizes = np.random.default_rng(7).integers(20, 16_000, 1_800)
    sizes[0] += 15_000_000 - sizes.sum()
    assert quotas(of(sizes.tolist())).tolist() == (sizes // np.gcd.reduce(sizes)).tolist()


def test_shares_of_a_proportional_mixture_are_exact():
    sizes = [27_192, 20_000, 14_041, 10_300]
    assert quotas(of(sizes)).tolist() == sizes
    assert isinstance(task_order(of(sizes)), TaskTable)
    assert quotas([0.5, 0.25, 0.25]).tolist() == [2, 1, 1]
    assert quotas([1.0]).tolist() == [1]


def test_rates_that_are_no_fractions_are_rounded_where_that_is_next_to_nothing():
    rates = np.random.default_rng(3).random(30) + 0.05
    rates /= rates.sum()
    order = task_order(rates.tolist())
    assert order.period == LARGEST_PERIOD
    assert np.abs(order.quotas / order.period - rates).max() < 1 / LARGEST_PERIOD
    assert np.abs(order.quotas / order.period / rates - 1).max() <= TOLERANCE
    task, n = counted(order, 200_000), np.arange(1, 200_001)
    for i, quota in enumerate(order.quotas):
        assert np.abs(np.cumsum(task == i) - n * quota / order.period).max() < 1


def test_the_order_of_a_rounded_table_never_changes():
    rates = np.random.default_rng(3).random(30) + 0.05
    order = task_order((rates / rates.sum()).tolist())
    assert digest(order) == "4857b11274883e57"


def test_the_order_of_a_tree_never_changes():
    assert digest(task_order(of([3, 277_777_777, 10**9, 10**9 + 1]))) == "12c4e173f3ed8fde"


def digest(order):
    parts = [*order.at(np.arange(20_000)), *order.at(np.arange(10**9, 10**9 + 20_000))]
    return hashlib.sha256(b"".join(part.astype("<i8").tobytes() for part in parts)).hexdigest()[:16]


def test_places_beyond_what_is_exact_are_refused():
    with pytest.raises(ValueError, match="is beyond"):
        TaskTree(np.array([1, 1 << 40])).at(np.array([1 << 51]))
