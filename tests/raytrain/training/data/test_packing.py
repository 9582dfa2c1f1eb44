"""Packing: every sample once, none split, rows full, row k the same however it is reached."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytrain.config.training import PackingShape
from raytrain.training.data.default_shape import packing_shape
from raytrain.training.data.packing import ExampleLengths, PackedOrder, pack, rows_per_step
from raytrain.training.data.sampling_order import SamplingOrder, TaskStream
from raytrain_core.errors import UsageError

# a mixture like summarization, rating, named entities, code: (examples, source mean, sigma, target
# mean, sigma)
FOUR = [
    (27_192, 190, 0.654, 30, 0.55),
    (20_000, 120, 0.6, 2, 0),
    (14_041, 30, 0.45, 20, 0.5),
    (10_300, 60, 0.6, 60, 0.6),
]


def four_tasks(scale=1):
    rng = np.random.default_rng(1234)
    out = []
    for n, source, source_sigma, target, target_sigma in FOUR:
        count = n // scale
        s = np.rint(np.exp(rng.normal(math.log(source) - source_sigma**2 / 2, source_sigma, count)))
        t = np.rint(np.exp(rng.normal(math.log(target) - target_sigma**2 / 2, target_sigma, count)))
        out.append((np.clip(s, 4, 512).astype(np.int32), np.clip(t, 2, 128).astype(np.int32)))
    return out


def packed_order(tasks, shape, variants=1, seed=17):
    total = sum(len(s) for s, _ in tasks)
    streams = [TaskStream(f"t{i}", len(s), variants, len(s) / total) for i, (s, _) in enumerate(tasks)]
    lengths = ExampleLengths.of([([s] * variants, [t] * variants) for s, t in tasks])
    return PackedOrder(SamplingOrder(streams, seed), lengths, PackingShape(source=shape[0], target=shape[1]))


def tokens(tasks, row):
    return sum(int(tasks[p.task][0][p.example]) for p in row), sum(int(tasks[p.task][1][p.example]) for p in row)


@pytest.mark.parametrize(("shape", "least"), [((8192, 1792), 0.96), ((512, 128), 0.91), ((1365, 299), 0.95)])
def test_rows_are_full(shape, least):
    tasks = four_tasks()
    packed = packed_order(tasks, shape)
    blocks = max(2, 20_000 // packed.block)
    rows = packed.first_row(blocks)
    samples = packed.order.examples(0, blocks * packed.block)
    source, target = packed.lengths.at(samples)
    assert (source.sum() + target.sum()) / (rows * sum(shape)) >= least
    # and these are the rows that are handed out
    in_rows = [p for row in packed.rows(0, rows) for p in row]
    assert sorted(in_rows) == sorted(map(tuple, samples.tolist()))
    assert all(s <= shape[0] and t <= shape[1] for s, t in (tokens(tasks, row) for row in packed.rows(0, rows)))


SHAPES = st.sampled_from([(64, 16), (64, 64), (200, 50), (1 << 18, 1 << 17), (4096, 40)])


@settings(max_examples=60)
@given(data=st.data(), shape=SHAPES, keep_order=st.booleans(), window=st.integers(1, 90))
def test_every_example_has_one_row_that_holds_it(data, shape, keep_order, window):
    blocks, length = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 60))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    source = rng.integers(1, shape[0] + 1, (blocks, length)) >> rng.integers(0, 6, (blocks, length))
    target = rng.integers(1, shape[1] + 1, (blocks, length)) >> rng.integers(0, 6, (blocks, length))
    source, target = np.maximum(source, 1), np.maximum(target, 1)
    size = PackingShape(source=shape[0], target=shape[1])
    row = pack(source, target, size, window=window, keep_order=keep_order)
    for b in range(blocks):
        count = row[b].max() + 1
        assert sorted(set(row[b])) == list(range(count))
        assert np.bincount(row[b], weights=source[b]).max() <= shape[0]
        assert np.bincount(row[b], weights=target[b]).max() <= shape[1]
        # no block is packed differently because others are packed with it
        assert (pack(source[b : b + 1], target[b : b + 1], size, window=window, keep_order=keep_order) == row[b]).all()


def test_the_order_of_the_plan_is_kept_within_a_window():
    """With keep_order an example waits for its turn at most: the window's first always leaves."""
    rng = np.random.default_rng(5)
    source, target = rng.integers(4, 400, (1, 3000)), rng.integers(2, 90, (1, 3000))
    row = pack(source, target, PackingShape(source=8192, target=1792), window=128, keep_order=True)[0]
    first = [np.flatnonzero(row == r).min() for r in range(row.max() + 1)]
    assert first == sorted(first)
    assert all(np.flatnonzero(row == r).max() - first[r] < 128 + 64 for r in range(row.max() + 1))


@pytest.mark.parametrize("shape", [(2048, 448), (600, 140)])
def test_row_k_is_the_kth_of_a_pass_from_the_start(shape):
    tasks = four_tasks(scale=20)
    in_order = packed_order(tasks, shape).rows(0, 900)
    for k, n in [(899, 1), (0, 1), (450, 17), (123, 400), (0, 900), (5, 0)]:
        assert packed_order(tasks, shape).rows(k, n) == in_order[k : k + n]
    used = packed_order(tasks, shape)  # what was asked before makes no difference
    for k in np.random.default_rng(0).integers(0, 900, 80).tolist():
        assert used.rows(k, 1) == [in_order[k]]


WORLDS = [1, 2, 3, 4, 8, 1024]


@pytest.mark.parametrize("workers", WORLDS)
@pytest.mark.parametrize("shape", [(2048, 448), (600, 140)])
def test_any_world_size_sees_the_same_global_batches(workers, shape):
    """Each worker has its own order and takes its rows; together they are the step's rows."""
    tasks, rows_per_step, steps = four_tasks(scale=40), 24, 4
    alone = packed_order(tasks, shape).rows(0, rows_per_step * steps)
    own = [packed_order(tasks, shape) for _ in range(min(workers, 9))]  # most of 1,024 have no row of so small a step
    for step in range(steps):
        rows = range(step * rows_per_step, (step + 1) * rows_per_step)
        batch = [
            (k, own[k % workers % len(own)].rows(k, 1)[0]) for w in range(workers) for k in rows if k % workers == w
        ]
        assert [row for _, row in sorted(batch)] == alone[rows.start : rows.stop]


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=4),
    variants=st.integers(1, 3),
    shape=st.sampled_from([(64, 16), (600, 140), (4096, 900)]),
    seed=st.integers(0, 2**63 - 1),
    before=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    after=st.sampled_from(WORLDS),
)
def test_a_run_that_changes_its_size_sees_every_row_once_and_in_order(sizes, variants, shape, seed, before, after):
    """Stopped and resumed with other numbers of workers; the only state is the next row."""
    rng = np.random.default_rng(seed % 2**32)
    tasks = [(rng.integers(1, shape[0] // 2, n), rng.integers(1, shape[1] // 2, n)) for n in sizes]
    rows_per_step, taken, next_row = 6, [], 0
    for workers in [*before, after]:
        resumed = packed_order(tasks, shape, variants, seed)
        rows = range(next_row, next_row + rows_per_step)
        parts = [[(k, resumed.rows(k, 1)[0]) for k in rows if k % workers == w] for w in range(workers)]
        taken += [row for _, row in sorted(pair for part in parts for pair in part)]
        next_row = rows.stop
    assert taken == packed_order(tasks, shape, variants, seed).rows(0, next_row)


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=4),
    shape=st.sampled_from([(64, 16), (600, 140), (4096, 900)]),
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(0, 60),
)
def test_the_examples_before_a_row_are_those_of_the_rows_before_it(sizes, shape, seed, k):
    rng = np.random.default_rng(seed)
    tasks = [(rng.integers(1, shape[0] // 2, n), rng.integers(1, shape[1] // 2, n)) for n in sizes]
    before = [tuple(e) for part in packed_order(tasks, shape).before(k) for e in part.tolist()]
    assert sorted(before) == sorted(p for row in packed_order(tasks, shape).rows(0, k) for p in row)


def test_rows_of_different_seeds_differ():
    tasks = four_tasks(scale=50)
    assert packed_order(tasks, (600, 140), seed=1).rows(0, 5) != packed_order(tasks, (600, 140), seed=2).rows(0, 5)


def test_rows_go_through_every_pass_completely():
    tasks = four_tasks(scale=100)
    packed = packed_order(tasks, (2048, 448), variants=3)
    total = sum(len(s) for s, _ in tasks)
    blocks = -(-2 * total // packed.block) + 1
    seen = [p for row in packed.rows(0, packed.first_row(blocks)) for p in row]
    assert len(seen) == blocks * packed.block
    counts = np.unique([(p.task, p.example) for p in seen], axis=0, return_counts=True)[1]
    assert len(counts) == total
    assert counts.min() >= 2


def test_the_rows_never_change():
    """A digest of rows: a change would break every run that resumes after an upgrade."""
    tasks = [
        (np.arange(3000, dtype=np.int32) * 37 % 500 + 4, np.arange(3000, dtype=np.int32) * 11 % 100 + 2),
        (np.arange(1000, dtype=np.int32) * 7 % 90 + 4, np.full(1000, 2, np.int32)),
    ]
    parts = [
        repr([[tuple(ref) for ref in row] for row in packed_order(tasks, shape, variants=5).rows(50, 200)])
        for shape in [(512, 128), (8192, 1792)]
    ]
    assert (
        hashlib.sha256("".join(parts).encode()).hexdigest()
        == "ff7e64421111e7dc8e84461f1bc551015d470e649c20f0fe275fde732887bbd0"
    )


def test_an_example_that_fits_no_row_is_named():
    with pytest.raises(UsageError, match="task t1: an example of 600 source or 9 target tokens does not fit"):
        packed_order([(np.array([5]), np.array([5])), (np.array([600]), np.array([9]))], (512, 128))


def test_lengths_must_be_those_of_the_plan():
    packed = SamplingOrder([TaskStream("a", 3, 1, 1.0)], 1)
    lengths = ExampleLengths.of([([np.array([5, 5])], [np.array([5, 5])])])
    with pytest.raises(ValueError, match="not those of the order"):
        PackedOrder(packed, lengths, PackingShape(source=512, target=128))
    with pytest.raises(ValueError, match="lengths of 0"):
        ExampleLengths.of([([np.array([5, 0])], [np.array([5, 5])])])
    with pytest.raises(ValueError, match="every variant"):
        ExampleLengths.of([([np.array([5, 5])], [np.array([5])])])


def test_mean_lengths_are_those_of_the_mixture():
    a, b = np.array([10, 30]), np.array([4, 4, 4, 8])
    lengths = ExampleLengths.of([([a, a + 2], [a // 2, a // 2]), ([b], [b])])
    assert lengths.means([0.25, 0.75]) == pytest.approx((0.25 * 21 + 0.75 * 5, 0.25 * 10 + 0.75 * 5))


@settings(max_examples=200)
@given(
    batch=st.integers(16, 1 << 21),
    longest=st.tuples(st.integers(8, 8192), st.integers(4, 4096)),
    share=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
)
def test_the_default_row_holds_an_example_and_leaves_rows_for_workers(batch, longest, share):
    means = (max(1.0, longest[0] * share[0]), max(1.0, longest[1] * share[1]))
    if sum(longest) > batch:
        with pytest.raises(UsageError, match="batchTokens"):
            packing_shape(batch, *longest, *means)
        return
    shape = packing_shape(batch, *longest, *means)
    total = shape.source + shape.target
    assert shape.source >= longest[0]
    assert shape.target >= longest[1]
    assert total <= max(sum(longest), 8192 + 1792)
    assert rows_per_step(batch, shape) * total <= batch
    if sum(longest) * 8 <= batch:
        assert rows_per_step(batch, shape) >= 8


def test_default_rows_follow_the_mean_lengths():
    shape = packing_shape(1 << 20, 512, 128, 118, 24)
    assert shape.source + shape.target == 9984
    assert shape.source / shape.target == pytest.approx(118 / 24, rel=0.01)
    assert rows_per_step(65536, PackingShape(source=8192, target=1792)) == 6
    with pytest.raises(UsageError, match="one row holds 8192"):
        rows_per_step(4096, PackingShape(source=8192, target=1792))
