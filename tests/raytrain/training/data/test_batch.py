"""Packed rows and their prefetcher: the samples of the order, for any number of workers."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytrain.config.training import PackingShape
from raytrain.training.data.batch import BatchPrefetcher, collate, token_reader
from raytrain.training.data.packing import ExampleLengths, PackedOrder, SampleRef
from raytrain.training.data.sampling_order import SamplingOrder, TaskStream

SHAPE = PackingShape(source=64, target=24)


class FakeSplit:
    """Ids that encode task, example and variant, so that nothing can be mixed up unnoticed."""

    def __init__(self, task, examples, variants, seed):
        rng = np.random.default_rng(seed)
        self.examples, self.variants = examples, variants
        self.source_lengths = [rng.integers(1, 40, examples, dtype=np.int32) for _ in range(variants)]
        self.target_lengths = [rng.integers(1, 12, examples, dtype=np.int32) for _ in range(variants)]
        self._tag = 1000 * (task + 1)

    def tokens(self, example, variant):
        def ids(n, kind):
            body = (self._tag + 7 * example + 3 * variant + kind + np.arange(n)).astype(np.uint16)
            body[-1] = 1
            return body

        return ids(self.source_lengths[variant][example], 0), ids(self.target_lengths[variant][example], 500)


SPLITS = [FakeSplit(0, 30, 3, 1), FakeSplit(1, 11, 2, 2), FakeSplit(2, 5, 1, 3)]


def packed_order(shape=SHAPE):
    rates = [0.5, 0.3, 0.2]
    streams = [
        TaskStream(f"t{i}", s.examples, s.variants, r) for i, (s, r) in enumerate(zip(SPLITS, rates, strict=True))
    ]
    lengths = ExampleLengths.of([(s.source_lengths, s.target_lengths) for s in SPLITS])
    return PackedOrder(SamplingOrder(streams, 3), lengths, shape)


def unpack(row):
    """(sample, source ids, decoder inputs, labels) of each segment, by offsets."""
    for i, samples in enumerate(row.samples):
        s = slice(row.source_offsets[i], row.source_offsets[i] + row.source_lengths[i])
        t = slice(row.target_offsets[i], row.target_offsets[i] + row.target_lengths[i])
        yield samples, row.source[s], row.decoder_input[t], row.labels[t]


sample_lists = st.lists(
    st.integers(0, 2).flatmap(
        lambda t: st.builds(
            SampleRef, st.just(t), st.integers(0, SPLITS[t].examples - 1), st.integers(0, SPLITS[t].variants - 1)
        )
    ),
    max_size=9,
    unique=True,
)


@settings(max_examples=100)
@given(samples=sample_lists)
def test_a_packed_row_holds_exactly_its_examples(samples):
    read = token_reader(SPLITS)
    large = PackingShape(source=400, target=120)
    row = collate(samples, read, large, index=7)
    assert sorted(row.samples) == sorted(samples)
    for p, source, decoder_input, labels in unpack(row):
        expected_source, expected_target = read(p)
        assert source.tolist() == expected_source.tolist()
        assert labels.tolist() == expected_target.tolist()
        assert decoder_input.tolist() == [0, *expected_target[:-1].tolist()]
    assert row.task.tolist() == [p.task for p in row.samples]
    assert row.index == 7
    assert row.examples == len(samples)
    assert len(row.source) == row.source_tokens == sum(len(read(p)[0]) for p in samples) == row.source_lengths.sum()
    assert len(row.labels) == row.target_tokens == sum(len(read(p)[1]) for p in samples) == row.target_lengths.sum()
    assert len(row.decoder_input) == row.target_tokens
    steps = [(-(-int(s) // 16), int(t)) for s, t in zip(row.source_lengths, row.target_lengths, strict=True)]
    assert steps == sorted(steps)


def test_the_arrays_do_not_depend_on_the_order_of_placements():
    read = token_reader(SPLITS)
    samples = packed_order(PackingShape(source=300, target=90)).rows(2, 1)[0]
    one, other = (collate(p, read, PackingShape(source=300, target=90)) for p in (samples, samples[::-1]))
    for name in ("source", "decoder_input", "labels", "source_lengths", "target_lengths", "task"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist()


def test_what_does_not_fit_is_refused():
    read = token_reader(SPLITS)
    with pytest.raises(ValueError, match="do not fit a row of 8/4"):
        collate([SampleRef(0, i, 0) for i in range(9)], read, PackingShape(source=8, target=4))
    empty = np.zeros(0, np.uint16)
    with pytest.raises(ValueError, match="without source or target"):
        collate([SampleRef(0, 0, 0)], lambda p: (empty, empty), SHAPE)


def steps_of(worker, workers, start, stop, rows_per_step=6):
    options = {"rows_per_step": rows_per_step, "worker": worker, "workers": workers, "start": start, "stop": stop}
    with BatchPrefetcher(packed_order(), token_reader(SPLITS), **options) as steps:
        return list(steps)


def test_any_number_of_workers_sees_the_same_steps():
    alone = [[(r.index, r.samples) for r in rows] for _, rows in steps_of(0, 1, 0, 12)]
    assert [[i for i, _ in rows] for rows in alone] == [list(range(6 * s, 6 * s + 6)) for s in range(12)]
    for workers in (2, 3, 4, 8, 1024):
        together = [[] for _ in alone]
        # with 1,024 workers a row belongs to the worker of its number; the others of the first 12
        # steps have none
        for worker in range(min(workers, 80)):
            for step, rows in steps_of(worker, workers, 0, 12):
                assert all(r.index % workers == worker for r in rows)
                together[step] += [(r.index, r.samples) for r in rows]
        assert [sorted(rows) for rows in together] == alone


def test_training_goes_on_from_one_integer_with_other_workers():
    alone = [(r.index, r.samples) for _, rows in steps_of(0, 1, 0, 9) for r in rows]
    before = [r for w in range(2) for _, rows in steps_of(w, 2, 0, 4) for r in rows]
    after = [r for w in range(8) for _, rows in steps_of(w, 8, 4, 9) for r in rows]
    assert sorted((r.index, r.samples) for r in before + after) == alone


def test_steps_come_in_order_and_end():
    steps = steps_of(1, 2, 3, 8)
    assert [s for s, _ in steps] == [3, 4, 5, 6, 7]
    assert steps_of(0, 1, 5, 5) == []


def test_an_error_of_the_reader_reaches_the_one_who_asks():
    def broken(samples):
        raise OSError("part is gone")

    with (
        BatchPrefetcher(packed_order(), broken, rows_per_step=2, worker=0, workers=1, start=0, stop=5) as steps,
        pytest.raises(OSError, match="part is gone"),
    ):
        next(iter(steps))


def test_the_thread_ends_with_the_context():
    read = token_reader(SPLITS)
    with BatchPrefetcher(packed_order(), read, rows_per_step=2, worker=0, workers=1, start=0, stop=10**9) as steps:
        step, rows = next(iter(steps))
        assert (step, len(rows)) == (0, 2)
        thread = steps._thread
        assert thread.is_alive()
    assert not thread.is_alive()
    assert thread not in threading.enumerate()


def test_reading_ahead_is_bounded():
    read = []

    def counting(samples):
        read.append(samples)
        return token_reader(SPLITS)(samples)

    options = {"rows_per_step": 1, "worker": 0, "workers": 1, "start": 0, "stop": 1000, "ahead": 2}
    with BatchPrefetcher(packed_order(), counting, **options) as steps:
        next(iter(steps))
    # one handed out, two waiting, one in the thread's hands
    assert len(read) <= sum(len(row) for row in packed_order().rows(0, 4))


def test_a_step_can_be_read_by_itself():
    steps = BatchPrefetcher(packed_order(), token_reader(SPLITS), rows_per_step=6, worker=0, workers=1, start=0, stop=0)
    assert [r.samples for r in steps.read_step(4)] == [r.samples for r in steps_of(0, 1, 4, 5)[0][1]]


@pytest.mark.parametrize("wrong", [{"worker": 2}, {"worker": -1}, {"rows_per_step": 0}, {"ahead": 0}])
def test_impossible_workers_are_refused(wrong):
    options = {"rows_per_step": 1, "worker": 0, "workers": 2, "start": 0, "stop": 1} | wrong
    with pytest.raises(ValueError, match="worker"):
        BatchPrefetcher(packed_order(), token_reader(SPLITS), **options)
