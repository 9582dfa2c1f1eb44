"""Held-out rows that training rows repeat, or nearly: marked, or dropped and counted."""

import json

import pytest

from data_prep.shards import near_twins, task_sources, workers
from data_prep.shards.near_twins import find_near_twins
from data_prep.shards.text_reader import read_rows
from data_prep.shards.workers import LocalProcesses, ThisProcess
from raytrain_core.errors import DataError
from raytrain_core.hashing import content_key, sample
from raytrain_core.storage import open_store
from tests.support.data_prep_bench import make_task

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def text(i, words=14):
    """Words that no other number has in this order."""
    return " ".join(LETTERS[n % 26] + LETTERS[n // 26 % 26] + LETTERS[n // 7 % 26] for n in numbers(i, words))


def numbers(i, words):
    return [i * 37 + k * k for k in range(words)]


def row(identifier, words, target="x"):
    return {"id": str(identifier), "input": words, "target": target}


def write(bench, *, test, train=(), validation=(), **fields):
    rows = [row(f"t{i}", text(i)) for i in range(60)]
    bench.write("notes/train.jsonl", [*rows, *train])
    bench.write("notes/validation.jsonl", [row(f"v{i}", text(i)) for i in range(100, 109)] + list(validation))
    bench.write("notes/test.jsonl", test)
    return make_task(**({"source": {"uri": "notes"}, "columns": {"id": "id"}} | fields))


TEST = [
    row("other", text(200)),
    row("equal", text(7), "another target"),  # a conversation under a second id
    row("more words", f"{text(8)} and so on"),
    row("half", " ".join([*text(9).split()[:13], *text(210, 6).split()])),
    row("a little", " ".join([*text(10).split()[:9], *text(211, 12).split()])),
    row("two rows", f"{' '.join(text(11).split()[:10])} {' '.join(text(12).split()[:10])} {text(213, 6)}"),
    row("short", "a short text"),
]
TWINS = ("equal", "more words", "half")


def near(shard_set, split="test"):
    return shard_set.split("notes", split).near_twins


def test_rows_that_training_repeats_are_marked_by_id(bench):
    found = bench.prepare(write(bench, test=TEST))
    assert near(found).ids == TWINS
    assert near(found).compared == len(TEST)
    assert near(found, "validation").ids == ()
    assert near(found, "train") is None


def test_a_validation_file_that_repeats_training_rows_is_marked(bench):
    repeated = [row(f"again {i}", text(i)) for i in range(20)]
    found = bench.prepare(write(bench, test=TEST, validation=repeated))
    assert near(found, "validation").ids == tuple(one["id"] for one in repeated)


def test_short_rows_are_marked_only_where_they_are_equal(bench):
    train = [row("s1", "a short text"), row("s2", "a short note")]
    found = bench.prepare(write(bench, test=[*TEST, row("shorter", "a short")], train=train))
    assert near(found).ids == (*TWINS, "short")


def test_rows_of_a_probe_have_nothing_to_be_compared_with(bench):
    bench.write("rows.jsonl", TEST * 9)
    found = bench.prepare(make_task(), make_task(name="asked", probe=True))
    assert {split.near_twins for split in found.task("asked").splits.values()} == {None}
    assert found.split("notes", "test").near_twins.ids == ()  # equal inputs are in the same split


def test_marks_are_equal_for_any_number_of_workers(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(task_sources, "ROWS_OF_A_UNIT", 5)
    monkeypatch.setattr(workers, "_LOCAL_EXAMPLES", 0)
    for fields in ({}, {"near_twins": "drop"}):
        task = write(bench, test=TEST, **fields)
        expected = bench.prepare(task)
        for count in (1, 2, 7):
            store = open_store(str(tmp_path / f"{count}{len(fields)}"))
            with LocalProcesses(count) as processes:
                assert bench.prepare(task, store=store, workers=processes) == expected
                assert processes._compared == 60


def test_only_so_much_text_of_a_split_is_compared_by_8_grams(bench, monkeypatch):
    task = write(bench, test=TEST)
    splits = bench.prepare(task).task("notes").splits
    first = sample(len(TEST), 1, content_key("sample", "notes", "test")).item()
    monkeypatch.setattr(near_twins, "HELD_TEXT", len(TEST[first]["input"]))
    found = find_near_twins("notes", splits, bench.store, ThisProcess())["test"]
    assert found.compared == 1, "the row that scoring takes first"
    assert set(found.marks().ids) == {"equal", *{TEST[first]["id"]} & {*TWINS}}, "equal inputs are found in any case"
    chosen = find_near_twins("notes", splits, bench.store, ThisProcess(), most=1)["test"]
    assert chosen.compared == 1


def kept(bench, shard_set, split="test"):
    return [one.id for one in read_rows(shard_set, "notes", split, bench.store, bench.cache)]


def test_dropped_rows_are_gone_and_counted_with_their_lines(bench, monkeypatch):
    monkeypatch.setattr(task_sources, "ROWS_OF_A_UNIT", 2)
    found = bench.prepare(write(bench, test=TEST, near_twins="drop"))
    assert kept(bench, found) == ["other", "a little", "two rows", "short"]
    assert near(found).ids == ()
    assert found.split("notes", "test").statistics["rows"] == 4
    assert found.task("notes").leakage["test in train"] == 0
    tally = found.task("notes").tally
    entry = tally["kinds"]["near-twin"]
    assert entry["count"] == tally["rows"]["left out"] == 3
    assert [(place["line"], place["note"]) for place in entry["first"]] == [(n, "test row") for n in (2, 3, 4)]
    assert tally["rows"]["read"] == 60 + 9 + len(TEST)
    assert not list(bench.store.list("shards/units/"))


def test_a_dropped_row_leaves_the_prompts_of_the_others_as_they_were(bench):
    rows = {one.id: one for one in map_rows(bench, bench.prepare(write(bench, test=TEST)))}
    for one in map_rows(bench, bench.prepare(write(bench, test=TEST, near_twins="drop"))):
        assert (one.input, one.targets, one.template) == (
            rows[one.id].input,
            rows[one.id].targets,
            rows[one.id].template,
        )


def map_rows(bench, shard_set):
    return read_rows(shard_set, "notes", "test", bench.store, bench.cache)


def test_dropping_says_which_rows_it_could_not_compare(bench, monkeypatch):
    monkeypatch.setattr(near_twins, "HELD_TEXT", 1)
    found = bench.prepare(write(bench, test=TEST, near_twins="drop"))
    entry = found.task("notes").tally["kinds"]["near-twins-unknown"]
    assert entry["count"] == (len(TEST) - 1) + (9 - 1)
    assert {place["note"] for place in entry["first"]} == {"test rows", "validation rows"}


def test_dropping_every_row_of_a_split_is_refused(bench):
    with pytest.raises(DataError, match="task notes: every test row has a near-twin in training") as caught:
        bench.prepare(write(bench, test=[row("q", text(3))], near_twins="drop"))
    assert "nearTwins: keep" in caught.value.hint


def test_without_twins_nothing_of_the_shards_depends_on_the_option(bench):
    test = [one for one in TEST if one["id"] not in TWINS]
    keep, drop = (bench.prepare(write(bench, test=test, near_twins=how)).task("notes") for how in ("keep", "drop"))
    assert keep.splits == drop.splits
    assert keep.digest != drop.digest
    assert "near_twins" not in json.dumps(keep.provenance["identity"])
