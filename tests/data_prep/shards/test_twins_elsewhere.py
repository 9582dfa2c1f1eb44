"""Held-out rows that training rows of another task repeat, or nearly: marked with that task."""

import tracemalloc

import numpy as np
import pytest

from data_prep.shards import held_rows, task_sources, twins_elsewhere, workers
from data_prep.shards.held_rows import HeldRows
from data_prep.shards.manifest import ShardSet
from data_prep.shards.workers import LocalProcesses, ThisProcess
from data_prep.text.ngram_overlap import HeldOut
from raytrain_core.hashing import content_key, sample
from raytrain_core.storage import open_store
from tests.data_prep.shards.test_near_twins import row, text
from tests.support.data_prep_bench import make_task


def split_task(bench, name, train, test, **fields):
    rows = {"train": train, "validation": [row(f"v{i}", text(i + len(name))) for i in range(900, 905)], "test": test}
    for split, found in rows.items():
        if not (fields.get("probe") and split == "train"):
            bench.write(f"{name}/{split}.jsonl", found)
    return make_task(name=name, source={"uri": name}, columns={"id": "id"}, **fields)


def tasks(bench):
    """Two trained tasks and a probe; `ours` and the probe are in part trained on by `theirs`."""
    theirs = [row(f"h{i}", text(i)) for i in range(300, 340)]
    theirs[7] = row("h7", text(200))
    theirs[9] = row("h9", f"well {text(201)}")
    theirs[11] = row("h11", f"{text(500)} or so")
    ours = split_task(
        bench, "ours", [row(f"o{i}", text(i)) for i in range(40)], [row(f"t{i}", text(i)) for i in range(200, 207)]
    )
    probe = split_task(bench, "asked", [], [row(f"a{i}", text(i)) for i in range(500, 503)], probe=True)
    return ours, split_task(bench, "theirs", theirs, [row(f"x{i}", text(i)) for i in range(400, 404)]), probe


def marked(shard_set):
    return {
        (task, split, other): ids
        for task, splits in shard_set.twins_elsewhere.items()
        for split, found in splits.items()
        for other, ids in found.ids.items()
        if split == "test"
    }


def test_rows_that_another_task_trains_on_are_marked_by_id(bench):
    found = bench.prepare(*tasks(bench))
    assert marked(found) == {("ours", "test", "theirs"): ("t200", "t201"), ("asked", "test", "theirs"): ("a500",)}
    assert found.twins_elsewhere["ours"]["test"].compared == 7
    assert found.split("ours", "test").near_twins.ids == ()
    assert ShardSet.load(bench.store, found.digest) == found


def test_one_trained_task_has_no_other_to_be_compared_with(bench):
    ours, _, probe = tasks(bench)
    assert bench.prepare(ours).twins_elsewhere == {}
    assert set(bench.prepare(ours, probe).twins_elsewhere) == {"asked"}


def test_marks_of_other_tasks_are_equal_for_any_number_of_workers(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(task_sources, "ROWS_OF_A_UNIT", 5)
    monkeypatch.setattr(workers, "_LOCAL_EXAMPLES", 0)
    mixture = tasks(bench)
    expected = bench.prepare(*mixture)
    for count in (1, 2, 7):
        with LocalProcesses(count) as processes:
            assert bench.prepare(*mixture, store=open_store(str(tmp_path / str(count))), workers=processes) == expected


def test_with_many_tasks_the_rows_that_scoring_takes_first_are_compared(bench, monkeypatch):
    found = bench.prepare(*tasks(bench))
    first = sample(7, 1, content_key("sample", "ours", "test")).item()
    monkeypatch.setattr(twins_elsewhere, "_ALL_TEXT", 6 * len(text(200 + first)))  # of six held-out splits
    few = twins_elsewhere.find_twins_elsewhere(found.tasks, bench.store, ThisProcess())
    assert few["ours"]["test"].compared < 7
    prepared = found.split("ours", "test")
    kept = HeldRows.read("ours", "test", prepared, bench.store, most=None, text=len(text(200 + first)))
    assert first in kept.chosen.tolist()
    assert few["ours"]["test"].ids["theirs"][0] == "t200"  # equal inputs are found in any case


@pytest.mark.parametrize("most", [1, 3, 7, None])
def test_without_a_limit_of_text_the_rows_are_the_sample_of_scoring(bench, most):
    prepared = bench.prepare(*tasks(bench)).split("ours", "test")
    rows = HeldRows.read("ours", "test", prepared, bench.store, most=most, text=held_rows.HELD_TEXT)
    np.testing.assert_array_equal(rows.chosen, sample(7, most, content_key("sample", "ours", "test")))
    assert list(rows.ids) == [f"t{i}" for i in range(200, 207)]
    assert rows.texts == [text(200 + i) for i in rows.chosen.tolist()]


def test_memory_of_an_index_is_bounded_by_the_held_out_text():
    texts = [text(i, 300) for i in range(200)]
    characters = sum(map(len, texts))
    tracemalloc.start()
    index = HeldOut(HeldRows([], np.arange(200), texts).batches())
    _, built = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    for i in range(20):  # training rows come and go
        index.shared([text(i * 1000 + k, 300) for k in range(100)])
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert built < 40 * characters
    assert after - before < 100_000
