import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.tasks.splits import splitter_of
from raytrain_core.errors import DataError
from raytrain_core.hashing import sample
from tests.support.data_prep_bench import make_task

TEXTS = [f"text {i}" for i in range(20_000)]


def shares(splitter, file_split):
    found = [splitter.split(file_split, text) for text in TEXTS]
    return {split: found.count(split) / len(found) for split in set(found)}


def test_one_split_is_divided_by_hash():
    task = make_task(split={"validation": 0.1, "test": 0.2})
    for only in (None, "train"):
        assert shares(splitter_of(task, [only]), only) == pytest.approx(
            {"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.01
        )


def test_what_lacks_is_taken_from_train():
    task = make_task(split={"validation": 0.1, "test": 0.2})
    splitter = splitter_of(task, ["train", "test"])
    assert shares(splitter, "train") == pytest.approx({"train": 0.9, "validation": 0.1}, abs=0.01)
    assert shares(splitter, "test") == {"test": 1}
    splitter = splitter_of(task, ["train", "validation"])
    assert shares(splitter, "train") == pytest.approx({"train": 0.8, "test": 0.2}, abs=0.01)


def test_given_splits_stay():
    splitter = splitter_of(make_task(), ["train", "validation", "test", "train"])
    assert all(shares(splitter, split) == {split: 1} for split in ("train", "validation", "test"))


@pytest.mark.parametrize("reported", [[None], ["train"], ["test"], ["train", "test"]])
def test_a_probe_has_validation_and_test_only(reported):
    task = make_task(probe=True, split={"validation": 0.1, "test": 0.3})
    splitter = splitter_of(task, reported)
    assert shares(splitter, reported[-1]) == pytest.approx({"validation": 0.25, "test": 0.75}, abs=0.01)
    assert set(splitter.shares) == {reported[-1]}


def test_a_probe_keeps_given_splits():
    assert set(splitter_of(make_task(probe=True), ["train", "validation", "test"]).shares) == {"validation", "test"}
    splitter = splitter_of(make_task(probe=True, split={"validation": 0, "test": 0}), [None])
    assert shares(splitter, None) == pytest.approx({"validation": 0.5, "test": 0.5}, abs=0.02)


@pytest.mark.parametrize("given", [["test"], ["validation"], ["validation", "test"], ["test", "test"]])
def test_held_out_rows_are_never_divided_and_trained_on(given):
    with pytest.raises(
        DataError, match=f"has {' and '.join(dict.fromkeys(given))} rows but none to train on"
    ) as caught:
        splitter_of(make_task(), given)
    assert "source.splits: {train: ...}" in caught.value.hint


def test_the_same_text_goes_the_same_way_in_every_task():
    a, b = splitter_of(make_task(), [None]), splitter_of(make_task(name="other"), [None])
    assert [a.split(None, t) for t in TEXTS[:500]] == [b.split(None, t) for t in TEXTS[:500]]


@given(n=st.integers(0, 300), a=st.integers(0, 300), b=st.integers(0, 300), key=st.integers(0, 2**64 - 1))
def test_a_smaller_sample_is_part_of_a_larger_one(n, a, b, key):
    small, large = sorted((a, b))
    first, second = sample(n, small, key), sample(n, large, key)
    assert len(first) == min(n, small)
    assert (sorted(set(first.tolist())), sample(n, None, key).tolist()) == (first.tolist(), list(range(n)))
    assert set(first.tolist()) <= set(second.tolist())
