"""Promises of the sampling order: shares in every prefix, no repeats in a pass, no replay."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytrain.training.data.sampling_order import SamplingOrder, TaskStream, permuted

SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=12)


def sampling_order(sizes, variants=3, seed=17, weights=None):
    rates = [w / sum(weights or sizes) for w in weights or sizes]
    sized = zip(sizes, rates, strict=True)
    return SamplingOrder([TaskStream(f"t{i}", n, variants, rate) for i, (n, rate) in enumerate(sized)], seed)


def worst_difference(tasks, rates):
    n = np.arange(1, len(tasks) + 1)
    return max(np.abs(np.cumsum(tasks == i) - n * rate).max() for i, rate in enumerate(rates))


@settings(max_examples=60)
@given(weights=st.lists(st.integers(1, 400), min_size=1, max_size=20))
def test_every_prefix_holds_every_share_within_one(weights):
    p = sampling_order([5] * len(weights), weights=weights)
    tasks = p.examples(0, 3 * p.tasks.period + 7)["task"]
    assert worst_difference(tasks, [w / sum(weights) for w in weights]) < 1
    for i, quota in enumerate(p.tasks.quotas):  # the same in whole numbers: no rounding can hide an excess
        n = np.arange(1, len(tasks) + 1)
        assert (np.abs(np.cumsum(tasks == i) * p.tasks.period - n * quota) < p.tasks.period).all()


@settings(max_examples=50)
@given(sizes=SIZES, variants=st.integers(1, 5), seed=st.integers(0, 2**63 - 1))
def test_nothing_repeats_before_all_was_seen_and_variants_take_turns(sizes, variants, seed):
    p = sampling_order(sizes, variants, seed, weights=[1] * len(sizes))
    passes = 2 * variants + 1
    places = p.examples(0, max(sizes) * passes * len(sizes))
    for task, size in enumerate(sizes):
        mine = places[places["task"] == task]
        mine = mine[: len(mine) // size * size]
        by_pass = mine["example"].reshape(-1, size)
        assert len(by_pass) >= passes
        assert (np.sort(by_pass, axis=1) == np.arange(size)).all()
        for example in range(size):
            taken = mine["variant"][mine["example"] == example]
            assert ((taken - np.arange(len(taken))) % variants == taken[0]).all()


def test_passes_differ_and_first_variants_are_spread():
    p = sampling_order([1000], variants=4)
    places = p.examples(0, 2000)
    first, second = places["example"][:1000], places["example"][1000:]
    assert (first == second).sum() < 20
    assert not (np.diff(first) == 1).mean() > 0.02
    counts = np.bincount(places["variant"][:1000], minlength=4)
    assert counts.min() > 190


@settings(max_examples=40)
@given(count=st.integers(1, 5000), key=st.integers(0, 2**64 - 1))
def test_a_keyed_permutation_is_a_bijection(count, key):
    index = np.arange(count, dtype=np.uint64)
    bits = np.full(count, max(4, (count - 1).bit_length()), np.uint64)
    image = permuted(index, np.full(count, count, np.uint64), bits, np.full(count, key, np.uint64))
    assert (np.sort(image) == index).all()


@pytest.mark.parametrize("count", [3, 10, 100])
def test_permutations_put_every_example_everywhere(count):
    keys = np.repeat(np.arange(4000, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15), count)
    index = np.tile(np.arange(count, dtype=np.uint64), 4000)
    bits = np.full(len(index), max(4, (count - 1).bit_length()), np.uint64)
    image = permuted(index, np.full(len(index), count, np.uint64), bits, keys)
    table = np.zeros((count, count))
    np.add.at(table, (index.astype(int), image.astype(int)), 1)
    expected = 4000 / count
    chi2 = ((table - expected) ** 2 / expected).sum()
    freedom = (count - 1) ** 2
    assert abs(chi2 - freedom) < 6 * math.sqrt(2 * freedom) + 1


@settings(max_examples=40)
@given(sizes=SIZES, start=st.integers(0, 10**12), length=st.integers(0, 300))
def test_any_place_is_found_without_the_places_before(sizes, start, length):
    p = sampling_order(sizes)
    whole = p.examples(start, start + length)
    singly = [p.examples(k, k + 1)[0] for k in range(start, start + length, 37)]
    assert whole[::37].tolist() == [s.tolist() for s in singly]


@settings(max_examples=40)
@given(sizes=SIZES, cut=st.integers(0, 4000), seed=st.integers(0, 2**63 - 1))
def test_one_integer_resumes(sizes, cut, seed):
    """What follows place `cut` is the same for a new order and for one that started at 0."""
    straight = sampling_order(sizes, seed=seed).examples(0, cut + 200)
    assert (sampling_order(sizes, seed=seed).examples(cut, cut + 200) == straight[cut:]).all()


def test_one_integer_resumes_in_a_mixture_with_a_rare_task():
    rates = [3.6e-9, 0.25, 0.75 - 3.6e-9]
    p = SamplingOrder([TaskStream(f"t{i}", 5 + i, 3, rate) for i, rate in enumerate(rates)], 17)
    straight = p.examples(0, 300_000)
    assert (p.examples(299_000, 300_000) == straight[299_000:]).all()
    mine = straight[straight["task"] == 1]["example"][:60].reshape(-1, 6)
    assert (np.sort(mine, axis=1) == np.arange(6)).all()


def test_a_task_keeps_its_order_whatever_tasks_join():
    def order(p, name):
        index = [s.name for s in p.streams].index(name)
        places = p.examples(0, 600)
        return places[places["task"] == index][["example", "variant"]].tolist()

    alone = SamplingOrder([TaskStream("b", 40, 3, 1.0)], 5)
    joined = SamplingOrder([TaskStream("a", 9, 2, 0.5), TaskStream("b", 40, 3, 0.5)], 5)
    assert order(joined, "b") == order(alone, "b")[: len(order(joined, "b"))]


def test_the_order_never_changes():
    """A digest of the order: a change would break every run that resumes after an upgrade."""
    p = sampling_order([27_192, 20_000, 14_041, 10_300], variants=8, seed=17)
    parts = [p.examples(0, 20_000), p.examples(10**9, 10**9 + 20_000)]
    columns = [part[name].astype("<i8").tobytes() for part in parts for name in ("task", "example", "variant")]
    assert (
        hashlib.sha256(b"".join(columns)).hexdigest()
        == "c42fd4dc24500831a17abe1bb3f88c5ce766439a9e2d5d28735096301d502943"
    )


@pytest.mark.parametrize(
    ("streams", "message"),
    [
        ([], "1 to 32,767 streams"),
        ([TaskStream("a", 0, 1, 1.0)], "stream a: 0 examples"),
        ([TaskStream("a", 5, 0, 1.0)], "in 0 variants"),
        ([TaskStream("a", 5, 1, 0.5)], "sum to 0.5"),
        ([TaskStream("a", 5, 1, 1.0), TaskStream("b", 5, 1, 0.0)], "stream b: rate 0.0"),
        ([TaskStream("a", 5, 1, 0.5), TaskStream("a", 5, 1, 0.5)], "same name"),
        ([TaskStream("a", 5, 1, float("nan"))], "rate nan"),
    ],
)
def test_what_is_no_mixture_is_refused(streams, message):
    with pytest.raises(ValueError, match=message):
        SamplingOrder(streams, 1)
