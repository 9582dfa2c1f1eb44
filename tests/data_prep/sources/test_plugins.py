import os
import sys

import pytest

from data_prep.shards.text_reader import read_rows
from data_prep.sources import plugins
from data_prep.sources.task_files import source_files
from raytrain_core.errors import DataError, UsageError
from tests.support.data_prep_bench import make_task, numbered, write_jsonl

MODULE = '''
import json, pathlib

def lines(uri):
    """A file with `question = answer` in each line."""
    for line in pathlib.Path(uri).read_text().splitlines():
        text, _, answer = line.partition(" = ")
        yield {"input": text, "target": answer}

asked = []

def issues(uri):
    asked.append(uri)
    return [{"input": f"the text number {i}", "target": "a"} for i in range(100)]

def broken(uri):
    yield {"input": "x", "target": "y"}
    raise ConnectionError("no answer\\nat all")

def text(uri):
    return "rows"

def odd(uri):
    return [{"input": "x", "target": "y"}, ["x", "y"]]

number = 7

def solved(row):
    return {"input": row["chat"].upper(), "target": row["note"]} if row["solved"] else None

def fails(row):
    return {"input": row["nothing"]}

def gives_text(row):
    return "x"
'''

ROWS = """[raytrain.rows]
solved = odd_rows:solved
fails = odd_rows:fails
gives-text = odd_rows:gives_text
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that is installed next to the others; call it to install another version."""
    folder = tmp_path / "installed"

    def install(version="1.0", module=MODULE):
        info = folder / "odd_rows-1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: odd-rows\nVersion: {version}\n")
        names = ["lines", "issues", "broken", "text", "odd", "number", "missing"]
        readers = "".join(f"{name} = odd_rows:{name}\n" for name in names)
        (info / "entry_points.txt").write_text(f"[raytrain.readers]\n{readers}nowhere = no_such_module:f\n{ROWS}")
        (folder / "odd_rows.py").write_text(module)
        sys.modules.pop("odd_rows", None)
        plugins._entry_points.cache_clear()

    install()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield install
    sys.modules.pop("odd_rows", None)
    plugins._entry_points.cache_clear()


def test_a_reader_of_files(package, bench):
    for split, start in (("train", 0), ("validation", 100), ("test", 200)):
        lines = [f"the text number {i} = answer {i}\n" for i in range(start, start + 5)]
        (bench.folder / "odd").mkdir(exist_ok=True)
        (bench.folder / f"odd/{split}.txt").write_text("".join(lines))
    shard_set = bench.prepare(make_task(source={"uri": "odd/*.txt", "reader": "lines"}))
    rows = read_rows(shard_set, "notes", "test", bench.store, bench.cache)
    assert [(row.meta["input"], row.targets) for row in rows] == [
        (f"the text number {i}", [f"answer {i}"]) for i in range(200, 205)
    ]


def test_a_reader_of_a_scheme_is_asked_once(package, bench):
    task = make_task(source={"uri": "issues://project/ABC"})
    first = bench.prepare(task)
    assert sys.modules["odd_rows"].asked == ["issues://project/ABC"]
    assert sum(split.examples for split in first.task("notes").splits.values()) == 100
    assert bench.prepare(task) == first


def test_another_version_of_the_package_is_another_preparation(package, bench):
    path = write_jsonl(bench.folder / "rows.jsonl", numbered(50))
    path.write_text("".join(f"the text number {i} = answer\n" for i in range(50)))
    os.utime(path, (1e9, 1e9))
    task = make_task(source={"uri": "rows.jsonl", "reader": "lines"})
    first = bench.prepare(task)
    assert bench.prepare(task) == first
    package("1.1")
    newer = bench.prepare(task)
    assert newer.digest != first.digest
    package("1.1", MODULE.replace('" = "', '" ="'))  # edited, but not released
    edited = bench.prepare(task)
    assert edited.digest != newer.digest
    assert read_rows(edited, "notes", "test", bench.store, bench.cache)[0].targets == ["answer"]


@pytest.mark.parametrize(
    ("reader", "error", "reason"),
    [
        ("broken", DataError, r"rows\.jsonl: reader broken failed \(ConnectionError: no answer\)"),
        ("text", DataError, r"reader text failed \(TypeError: it returned a str instead of rows\)"),
        ("odd", DataError, r"rows\.jsonl:2: reader odd returned \[\"x\", \"y\"\] instead of a row"),
        ("number", UsageError, r"task notes: odd_rows:number is not a function"),
        ("missing", UsageError, r"task notes: odd_rows:missing cannot be imported \(AttributeError"),
        ("nowhere", UsageError, r"no_such_module:f cannot be imported \(ModuleNotFoundError"),
        ("linse", UsageError, r"no installed package has 'linse' as an entry point of raytrain\.readers"),
    ],
)
def test_what_is_wrong_with_a_reader_is_said(package, bench, reader, error, reason):
    write_jsonl(bench.folder / "rows.jsonl", numbered(5))
    with pytest.raises(error, match=reason) as caught:
        bench.prepare(make_task(source={"uri": "rows.jsonl", "reader": reader}))
    if reader == "linse":
        assert "lines" in caught.value.hint


def test_a_scheme_without_a_reader_is_unknown(package, tmp_path):
    with pytest.raises(UsageError, match="jira:// sources are not supported"):
        source_files(make_task(source={"uri": "jira://project"}), tmp_path)


def chats(bench):
    rows = [{"chat": f"the text number {i}", "note": "a", "solved": i % 4 > 0, "stars": i % 2} for i in range(80)]
    os.utime(bench.write("rows.jsonl", rows), (1e9, 1e9))


def test_a_function_of_rows_changes_them_and_leaves_some_out(package, bench):
    chats(bench)
    prepared = bench.prepare(make_task(transform="solved")).task("notes")
    assert sum(split.examples for split in prepared.splits.values()) == 60
    assert prepared.tally["kinds"]["transform"]["count"] == 20
    rows = read_rows(bench.prepare(make_task(transform="solved")), "notes", "train", bench.store, bench.cache)
    assert all(row.meta["input"].startswith("THE TEXT NUMBER") for row in rows)


def test_a_condition_sees_what_the_function_gives(package, bench):
    chats(bench)
    task = make_task(transform="solved", where="lower(input) != input and 'NUMBER 1' in input")
    prepared = bench.prepare(task).task("notes")
    rows = prepared.tally["rows"]
    assert rows["left out"] + rows["lost"] == 80 - sum(str(i).startswith("1") and i % 4 > 0 for i in range(80))
    with pytest.raises(DataError, match=r"rows\.jsonl has no column 'stars'"):
        bench.prepare(make_task(transform="solved", where="stars == 1"))


def test_another_version_of_a_function_of_rows_is_another_preparation(package, bench):
    chats(bench)
    first = bench.prepare(make_task(transform="solved"))
    package("1.1")
    newer = bench.prepare(make_task(transform="solved"))
    assert newer.digest != first.digest
    identity = newer.task("notes").provenance["identity"]
    assert identity["functions"]["transform"].startswith("odd-rows 1.1 odd_rows:solved ")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fails", r"rows\.jsonl:1: fails failed \(KeyError: 'nothing'\)"),
        ("gives-text", r"rows\.jsonl:1: gives-text returned 'x' instead of a row or None"),
    ],
)
def test_a_function_that_fails_makes_a_bad_row(package, bench, name, reason):
    chats(bench)
    with pytest.raises(DataError, match=reason):
        bench.prepare(make_task(transform=name))


def test_settings_of_files_beside_the_reader_of_a_scheme_are_refused(package, tmp_path):
    package(module=MODULE)
    for more, says in (
        ({"format": "alpaca"}, "source.format has no"),
        ({"csv": {"quote": "none"}}, "source.csv has no"),
    ):
        with pytest.raises((DataError, UsageError), match=says):
            source_files(make_task(source={"uri": "issues://project"} | more), tmp_path)
