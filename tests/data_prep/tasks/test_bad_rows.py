"""What users of other tools complain of where rows are read: each must be impossible here.

`test_hub_over_http` has one more: that every rank asks the hub for rows.
"""

import os
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.shards.text_reader import read_rows
from data_prep.sources import files as sources
from data_prep.tasks.splits import splitter_of
from raytrain_core.errors import DataError
from tests.support.data_prep_bench import make_task, numbered


def stored(bench, shard_set, task="notes"):
    return {
        split: [row.meta["input"] for row in read_rows(shard_set, task, split, bench.store, bench.cache)]
        for split in ("train", "validation", "test")
    }


@pytest.mark.parametrize("contents", ["", "\n\n", "input,target\n"])
def test_an_empty_source_is_refused(bench, contents):
    """Elsewhere it doubles the rows of other sources or ends in an IndexError (datasets#8626)."""
    bench.write("rows.jsonl", numbered(40))
    name = "empty.csv" if contents.startswith("input") else "empty.jsonl"
    (bench.folder / name).write_text(contents)
    with pytest.raises(DataError, match=f"task other: no rows in {name}"):
        bench.prepare(make_task(), make_task(name="other", source={"uri": name}))


def test_a_condition_that_no_row_fulfils_is_said(bench):
    """The same, of a source that a filter leaves empty."""
    bench.write("rows.jsonl", numbered(40))
    with pytest.raises(DataError, match=r"no rows in rows\.jsonl \(40 are left out"):
        bench.prepare(make_task(where="input == 'x'"))


@given(texts=st.lists(st.sampled_from([f"text {i}" for i in range(30)]), min_size=1, max_size=60))
def test_equal_rows_never_stand_in_two_splits(texts):
    """Splits overlapped by 100 % and 90 % in npc_gzip#13; see also mteb#1036, marin#9212."""
    one, other = make_task(), make_task(name="other", type="text")
    places = {}
    for task in (one, other):
        splitter = splitter_of(task, [None])
        for text in texts:
            assert places.setdefault(text, splitter.split(None, text)) == splitter.split(None, text)


def test_overlap_that_a_source_brings_along_is_counted(bench):
    """The same, where the files themselves say what is train and what is test."""
    for split, rows in (("train", numbered(20)), ("validation", numbered(5, 100)), ("test", numbered(10, 15))):
        bench.write(f"rows/{split}.jsonl", rows)
    prepared = bench.prepare(make_task(source={"uri": "rows"})).task("notes")
    assert prepared.leakage["test in train"] == 5


@pytest.mark.parametrize("where", [None, "len(input) > 3"])
def test_every_row_is_used_once(bench, where):
    """Elsewhere rows are doubled or dropped for even shares (datasets#7786; Ray Data)."""
    rows = numbered(211) + numbered(7)
    bench.write("rows.jsonl", rows)
    found = stored(bench, bench.prepare(make_task(where=where)))
    assert Counter(text for split in found.values() for text in split) == Counter(row["input"] for row in rows)


def test_preparing_twice_does_not_double_the_rows(bench):
    """Running a preparation again appends what is there already (Ray Data's default mode)."""
    bench.write("rows.jsonl", numbered(50))
    first = bench.prepare(make_task())
    objects = [stat.key for stat in bench.store.list("shards/")]
    assert bench.prepare(make_task()) == first
    assert bench.prepare(make_task(), verify=True) == first
    assert [stat.key for stat in bench.store.list("shards/")] == objects


def test_a_bad_row_in_the_last_file_costs_nothing_that_was_done(bench, monkeypatch):
    """A crash at the end of a preparation loses hours (litData#137: four; datatrove#316)."""
    for name in ("first", "second"):
        os.utime(bench.write(f"{name}.jsonl", numbered(40)), (1e9, 1e9))
    tasks = [make_task(name=name, source={"uri": f"{name}.jsonl"}) for name in ("first", "second")]
    with (bench.folder / "second.jsonl").open("a") as file:
        file.write("{broken\n")
    with pytest.raises(DataError, match=r"task second: a bad row\nsecond\.jsonl:41: not JSON"):
        bench.prepare(*tasks)
    os.utime(bench.write("second.jsonl", numbered(40)), (1e9, 1e9 + 1))
    read = []
    real = sources.read_rows
    monkeypatch.setattr(
        sources, "read_rows", lambda path, *more, **options: [read.append(path.name), real(path, *more, **options)][1]
    )
    bench.prepare(*tasks)
    assert set(read) == {"second.jsonl"}


def test_columns_that_only_the_wanted_rows_have(bench):
    """A file that holds rows of several kinds, one kind after the other."""
    others = [{"kind": "other", "text": f"text {i}"} for i in range(1500)]
    rows = [{"kind": "chat", **row, "second": "more"} for row in numbered(60)]
    bench.write("rows.jsonl", others + rows)
    task = {"where": "kind == 'chat'", "columns": {"references": ["second"]}}
    prepared = bench.prepare(make_task(**task)).task("notes")
    assert prepared.tally["kinds"]["where"]["count"] == 1500
    for columns, name in (({"references": ["secnod"]}, "secnod"), ({"input": "inptu"}, "inptu")):
        with pytest.raises(DataError, match=rf"rows\.jsonl has no column '{name}', did you mean"):
            bench.prepare(make_task(**task | {"columns": columns}))
    with pytest.raises(DataError, match=r"has no column 'knid', did you mean kind\?"):
        bench.prepare(make_task(where="knid == 'chat'"))
