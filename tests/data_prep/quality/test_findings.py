"""`find` names the rows that were planted, and nothing else."""

import pytest

from data_prep.quality.findings import MEANING, find, require_kind
from raytrain_core.errors import UsageError
from tests.support.data_prep_bench import make_task

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def word(n):
    return LETTERS[n % 26] + LETTERS[n // 26 % 26] + LETTERS[n // 7 % 26]


def rows(start, count, words=14):
    """Rows of words that no other row has in this order."""
    return [
        {"input": " ".join(word(i * 37 + k * k) for k in range(words)), "target": f"answer {i}"}
        for i in range(start, start + count)
    ]


def write(bench, name, train, validation, test):
    for split, found in (("train", train), ("validation", validation), ("test", test)):
        bench.write(f"{name}/{split}.jsonl", found)
    return make_task(name=name, source={"uri": name})


def found_in(bench, *tasks, **options):
    shard_set = bench.prepare(*tasks, **options)
    return {(f.kind, f.task, f.split, f.within): f for f in find(shard_set, bench.store, bench.cache, examples=9)}


def test_clean_data_has_no_findings(bench):
    assert found_in(bench, write(bench, "notes", rows(0, 60), rows(100, 9), rows(200, 9))) == {}


def test_every_kind_is_found_where_it_was_planted(bench):
    train, validation, test = rows(0, 60), rows(100, 9), rows(200, 9)
    train[10] = dict(train[3])  # a duplicate
    train[11] = train[4] | {"target": "something else"}  # another target
    train[12] = train[12] | {"target": " -- "}  # says nothing
    train[13] = train[13] | {"target": "smile \U0001f600"}  # a sign that the vocabulary does not have
    test[1] = dict(train[20])  # a leak with the same target
    validation[2] = train[21] | {"target": "another"}  # a leak with another
    test[5] = {"input": f"{train[30]['input']} {word(5000)}", "target": "x"}  # nearly a row trained on
    found = found_in(bench, write(bench, "notes", train, validation, test))
    assert {key: one.rows for key, one in found.items()} == {
        ("leak", "notes", "validation", "notes train"): 1,
        ("leak", "notes", "test", "notes train"): 1,
        ("overlap", "notes", "test", "notes train"): 1,
        ("duplicate", "notes", "train", None): 1,
        ("other-target", "notes", "train", None): 1,
        ("empty-target", "notes", "train", None): 1,
        ("lost-text", "notes", "train", None): 1,
    }
    cases = {key: one.examples[0] for key, one in found.items()}
    leak = cases["leak", "notes", "test", "notes train"]
    assert (leak.row.index, leak.other.index, leak.note) == (1, 20, "the same target")
    assert found["leak", "notes", "test", "notes train"].note == "1 with the same target"
    assert cases["leak", "notes", "validation", "notes train"].note == "another target"
    overlap = cases["overlap", "notes", "test", "notes train"]
    assert (overlap.row.index, overlap.other.index, overlap.note) == (5, 30, "88% of its 8-grams")
    duplicate = cases["duplicate", "notes", "train", None]
    assert (duplicate.row.index, duplicate.other.index) == (10, 3)
    other = cases["other-target", "notes", "train", None]
    assert (other.row.index, other.row.target, other.other.target) == (
        11,
        "something else",
        "answer 4",
    )
    lost = cases["lost-text", "notes", "train", None]
    assert (lost.row.index, lost.note) == (13, "target: lost \U0001f600 (U+1F600)")


def test_leaks_across_tasks_are_named_with_the_task_that_trains_on_them(bench):
    ours = write(bench, "ours", rows(0, 30), rows(100, 5), rows(200, 5))
    theirs = rows(300, 30)
    theirs[7] = rows(203, 1)[0]  # our test row
    theirs[8] = {"input": f"well {rows(102, 1)[0]['input']}", "target": "y"}
    found = found_in(bench, ours, write(bench, "theirs", theirs, rows(400, 5), rows(500, 5)))
    assert set(found) == {("leak", "ours", "test", "theirs train"), ("overlap", "ours", "validation", "theirs train")}
    (case,) = found["leak", "ours", "test", "theirs train"].examples
    assert (case.row.index, case.other.task, case.other.index) == (3, "theirs", 7)


def test_a_probe_that_another_task_trains_on_is_found(bench):
    probe = make_task(name="probe", source={"uri": "probe"}, probe=True)
    for split, found in (("validation", rows(0, 5)), ("test", rows(50, 5))):
        bench.write(f"probe/{split}.jsonl", found)
    task = write(bench, "notes", [*rows(300, 20), *rows(51, 1)], rows(100, 5), rows(200, 5))
    assert set(found_in(bench, probe, task)) == {("leak", "probe", "test", "notes train")}


def test_answers_that_are_nearly_always_the_same(bench):
    constant = [row | {"target": "none"} for row in rows(0, 40)]
    constant[3]["target"] = "some"
    shard_set = bench.prepare(write(bench, "notes", constant, rows(100, 5), rows(200, 5)))
    (one,) = find(shard_set, bench.store, bench.cache, examples=0)
    assert (one.kind, one.split, one.rows, one.of, one.note) == (
        "constant-target", "train", 39, 40, "98% of the targets are 'none'",
    )  # fmt: skip


def test_rows_that_are_cut_are_not_called_lost(bench):
    long = [row | {"target": row["target"] + " in" * 40} for row in rows(0, 20)]
    assert found_in(bench, write(bench, "notes", long, rows(100, 5), rows(200, 5))) == {}


def test_examples_are_limited_and_progress_is_reported(bench):
    train = rows(0, 30) * 2
    shard_set = bench.prepare(write(bench, "notes", train, rows(100, 5), rows(200, 5)))
    reported = []
    (found,) = find(shard_set, bench.store, bench.cache, examples=4, on_progress=lambda *said: reported.append(said))
    assert (found.kind, found.rows, len(found.examples)) == ("duplicate", 30, 4)
    assert reported[-1] == ("notes", 70, 70)
    assert find(shard_set, bench.store, bench.cache, examples=0)[0].examples == []


def test_kinds_are_known_by_name():
    for kind in [None, *MEANING]:
        require_kind(kind)
    with pytest.raises(UsageError, match="unknown kind of finding: leaks"):
        require_kind("leaks")
