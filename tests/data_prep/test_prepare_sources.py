"""What a preparation records of its files, and that how they are read is part of its identity."""

import gzip

import pytest

from data_prep.sources import read_as
from data_prep.tally import Tally
from raytrain_core.errors import DataError
from tests.support.data_prep_bench import make_task, numbered, write_jsonl

FOLDER = make_task(source={"uri": "data"})
SPLIT = {"split": {"validation": 0.2, "test": 0.2}}


def test_what_was_passed_over_and_detected_is_recorded(bench):
    write_jsonl(bench.folder / "data/a.jsonl", numbered(30))
    write_jsonl(bench.folder / "data/_b.jsonl", numbered(30, 100))
    (bench.folder / "data/notes.txt").write_text("x")
    lines = "".join(f"{row['input']};{row['target']}\n" for row in numbered(30, 200))
    (bench.folder / "data/c.csv.gz").write_bytes(gzip.compress(b"input;target\n" + lines.encode()))
    (task,) = bench.prepare(make_task(source={"uri": "data"}, **SPLIT)).tasks
    found = {kind: [str(place) for place in entry.first] for kind, entry in Tally.from_json(task.tally)}
    assert found["file-passed-over"] == [
        "data/_b.jsonl: its name begins with _",
        "data/notes.txt: not a known format",
    ]
    assert found["detected"] == ["data/c.csv.gz: fields are divided by semicolons"]
    assert task.provenance["sources"][1]["read_as"]["dialect"]["delimiter"] == ";"
    assert sum(split.examples for split in task.splits.values()) == 60


def test_another_way_of_reading_never_reuses_shards(bench, monkeypatch):
    path = bench.folder / "rows.csv"
    path.write_text("input,target\n" + "".join(f'"text {i}, a",answer\n' for i in range(40)))

    def digest(**csv):
        task = make_task(source={"uri": "rows.csv", **({"csv": csv} if csv else {})}, **SPLIT)
        return bench.prepare(task).digest

    first = digest()
    assert digest() == first
    assert digest(delimiter=",") == first  # it is what was detected
    assert digest(header=["input", "target"]) != first
    assert digest(escape="\\") != first


@pytest.mark.parametrize("verify", [False, True])
def test_what_was_detected_is_remembered_and_looked_for_again_by_another_version(bench, monkeypatch, verify):
    import os

    path = bench.folder / "rows.csv"
    path.write_text("input;target\n" + "".join(f"text {i};answer\n" for i in range(40)))
    os.utime(path, (1e9, 1e9))
    task = make_task(source={"uri": "rows.csv"}, **SPLIT)
    first = bench.prepare(task, verify=verify)
    read_as._detect.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(read_as, "detect_csv", lambda *_: pytest.fail("detected again"))
        assert bench.prepare(task) == first
    with monkeypatch.context() as patch:
        patch.setattr("data_prep.shards.task_sources.DETECTION", 999)
        patch.setattr(read_as, "detect_csv", lambda *_: (_ for _ in ()).throw(AssertionError("detected again")))
        with pytest.raises(AssertionError, match="detected again"):
            bench.prepare(task)


def test_another_format_is_not_read_as_the_remembered_one(bench):
    import os

    path = bench.folder / "rows.csv"
    path.write_text("input\ttarget\n" + "".join(f"text {i}\tx\n" for i in range(40)))
    os.utime(path, (1e9, 1e9))
    read = {}
    for format in ("tsv", None, "csv"):
        (task,) = bench.prepare(make_task(source={"uri": "rows.csv", "format": format}, **SPLIT)).tasks
        read[format] = task.provenance["sources"][0]["read_as"]["format"]
    assert read == {"tsv": "tsv", None: "csv", "csv": "csv"}


def test_another_shape_is_not_read_as_the_remembered_one(bench):
    import os

    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
    path = bench.folder / "rows.jsonl"
    write_jsonl(path, [{**row, "messages": turns} for row in numbered(40)])
    os.utime(path, (1e9, 1e9))
    plain = bench.prepare(make_task(source={"uri": "rows.jsonl"}, **SPLIT))
    with pytest.raises(DataError, match="split is empty"):  # all rows are the same question
        bench.prepare(make_task(source={"uri": "rows.jsonl", "format": "messages"}, **SPLIT))
    assert plain == bench.prepare(make_task(source={"uri": "rows.jsonl"}, **SPLIT))
