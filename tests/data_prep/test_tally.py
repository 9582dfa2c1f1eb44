"""The record of what happened to the data: the same however the work is divided."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.prepare import PrepLimits
from data_prep.tally import Event, Tally
from raytrain_core.errors import DataError
from tests.support.data_prep_bench import make_task, numbered

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["a.jsonl", "b.jsonl"]),
        st.integers(1, 30),
        st.sampled_from([(), (Event("bad-row", "empty"),), (Event("where"),), (Event("masked:email", times=2),)]),
    ),
    max_size=40,
)


def tally_of(rows):
    tally = Tally()
    for row in rows:
        tally.add_row(*row)
    return tally


@given(rows=EVENTS, readers=st.sampled_from([1, 2, 7]), seed=st.integers(0, 9))
def test_any_number_of_readers_gives_the_same_record(rows, readers, seed):
    parts = [tally_of(rows[i::readers]) for i in range(readers)]
    random.Random(seed).shuffle(parts)
    merged = Tally()
    for part in parts:
        merged.merge(part)
    assert merged.to_json() == tally_of(rows).to_json()
    assert Tally.from_json(merged.to_json()).to_json() == merged.to_json()


def test_a_row_counts_once_for_each_effect():
    tally = tally_of([("a", 1, [Event("masked:email", times=3), Event("list-parsed")]), ("a", 2, ()), ("a", 3, ())])
    assert tally.rows == {"read": 3, "lost": 0, "changed": 1, "left out": 0, "cut": 0}
    assert tally.count("masked") == 3
    assert tally.lines() == ["lists parsed from text: 1 (a:1)", "values masked (email): 3 (a:1)"]


def test_more_than_one_percent_is_said():
    rows = [("a", number, ()) for number in range(1, 101)]
    assert tally_of(rows).warning() == ""
    assert tally_of([*rows[1:], ("a", 1, [Event("bad-row", "empty")])]).warning() == ""
    told = tally_of([*rows[2:], ("a", 1, [Event("bad-row", "empty")]), ("a", 2, [Event("bad-row", "empty")])]).warning()
    assert told == "of 100 rows 2 (2.0%) were lost: bad rows skipped 2"


def test_cut_rows_are_counted_with_their_places(bench):
    rows = numbered(60)
    rows[4]["input"] = "the text " * 400
    rows[7]["target"] = "a summary of the text " * 9
    bench.write("rows.jsonl", rows)
    (task,) = bench.prepare(make_task(split={"validation": 0.2, "test": 0.2}), limits=PrepLimits(300, 16)).tasks
    kinds = task.tally["kinds"]
    assert [kinds["input-cut"]["count"], kinds["target-cut"]["count"]] == [1, 1]
    assert kinds["input-cut"]["first"][0]["line"] == 5
    assert kinds["target-cut"]["first"][0]["line"] == 8
    assert task.tally["rows"]["read"] == 60


def test_all_rows_bad_names_the_first_reasons(bench):
    bench.write("rows.jsonl", [{"input": f"text {i}", "target": None} for i in range(9)])
    with pytest.raises(DataError, match=r"rows\.jsonl:1: 'target' is null") as caught:
        bench.prepare(make_task(onBadRow="skip"))
    assert "9 bad rows were skipped" in str(caught.value)


def test_a_condition_is_told_and_a_row_function_that_drops_rows_is_warned_about():
    """`where` says in the job which rows; a function's None may be a mistake of its code."""
    asked, dropped = Tally(), Tally()
    for line in range(1, 101):
        asked.add_row("a.jsonl", line, [Event(("where", "limit", "near-twin")[line % 3])] if line > 50 else [])
        dropped.add_row("a.jsonl", line, [Event("transform")] if line > 98 else [])
    assert asked.warning() == ""
    assert asked.rows["left out"] == 50
    assert len(asked.lines()) == 3
    assert dropped.warning() == "of 100 rows 2 (2.0%) were lost: rows dropped by transform 2"


def test_the_record_says_of_each_kind_whether_it_counts_as_a_loss():
    tally = Tally()
    for number, kind in enumerate(("where", "limit", "transform", "bad-row", "input-cut", "list-kept"), 1):
        tally.add_row("rows.jsonl", number, [Event(kind)])
    counts = {kind: (entry["effect"], entry["counts"]) for kind, entry in tally.to_json()["kinds"].items()}
    assert counts == {
        "where": ("left out", False),
        "limit": ("left out", False),
        "transform": ("lost", True),
        "bad-row": ("lost", True),
        "input-cut": ("cut", True),
        "list-kept": ("noted", False),
    }
    assert "left out" not in tally.warning()
