"""Rows read by any number of readers, in spans of any size, become the same shards."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.shards import reading, span_reading, task_sources, workers
from data_prep.shards.workers import LocalProcesses
from data_prep.sources import spans
from raytrain_core.errors import DataError
from raytrain_core.storage import open_store
from tests.support.data_prep_bench import make_task

FEW_SHOT = {"share": 0.5, "examples": 1}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(task_sources, "ROWS_OF_A_UNIT", 50)
    monkeypatch.setattr(workers, "_LOCAL_EXAMPLES", 0)
    monkeypatch.setattr(workers, "_LOCAL_BYTES", 0)


def rows(count, first=0):
    """Rows with repeated ids, values to mask, and long and short texts."""
    return [
        {"input": f"{i}: write to a{i % 7}@x.org {'and so on ' * (i % 5)}", "target": f"t{i}", "id": f"q{i % 90}"}
        for i in range(first, first + count)
    ]


def write_source(bench):
    """A folder of every kind of file that is divided, or read whole."""
    folder = bench.folder / "rows"
    folder.mkdir(exist_ok=True)
    lines = [json.dumps(row) for row in rows(300)]
    lines[40] = lines[200] = "{no JSON"
    (folder / "a.jsonl").write_text("\n".join([*lines[:100], "", *lines[100:]]))  # without an end
    (folder / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows(40, 300))).encode()))
    pq.write_table(pa.Table.from_pylist(rows(150, 340)), folder / "c.parquet", row_group_size=64)
    text = "".join(f'{row["id"]},"{row["input"]}",{row["target"]}\n' for row in rows(60, 490))
    (folder / "d.csv").write_text("\ufeff\nid,input,target\n" + text)  # divided: no record on several lines
    (folder / "e.csv").write_text("id,input,target\n" + text.replace("and so on ", "and\nso on ").replace("q", "r"))
    (folder / "f.tsv").write_text("id\tinput\ttarget\n" + "".join(f"s{i}\tsay {i}\tt{i}\n" for i in range(60)))


def the_task(**fields):
    options = {"source": {"uri": "rows"}, "columns": {"id": "id"}, "split": {"validation": 0.2, "test": 0.1}}
    options |= {"on_bad_row": "skip", "mask": {"kinds": ["email"]}, "templates_per_example": 2}
    return make_task(**(options | fields))


def contents(store):
    return {stat.key: store.get(stat.key) for stat in store.list("shards/") if "/sources/" not in stat.key}


@pytest.mark.parametrize("readers", [1, 2, 7])
@pytest.mark.parametrize("fields", [{}, {"limit": 60, "few_shot": FEW_SHOT}], ids=["all", "limit and shots"])
def test_any_number_of_readers_makes_the_same_bytes(bench, tmp_path, monkeypatch, fields, readers):
    write_source(bench)
    task = the_task(**fields)
    monkeypatch.setattr(spans, "BYTES", 1 << 30)
    monkeypatch.setattr(spans, "_ROWS", 1 << 30)
    expected = bench.prepare(task)  # every file as one span, in this process
    monkeypatch.setattr(spans, "BYTES", 700)
    monkeypatch.setattr(spans, "_ROWS", 13)
    monkeypatch.setattr(spans, "_BLOCK", 64)
    store = open_store(str(tmp_path / "parallel"))
    with LocalProcesses(readers) as processes:
        found = bench.prepare(task, store=store, workers=processes)
        assert len(processes._processes) == readers
    assert found == expected
    assert contents(store) == contents(bench.store)
    kinds = expected.tasks[0].tally["kinds"]
    assert [place["line"] for place in kinds["bad-row"]["first"]] == [41, 202]


def test_the_first_bad_rows_are_named_whoever_reads_them(bench, monkeypatch):
    monkeypatch.setattr(spans, "BYTES", 200)
    monkeypatch.setattr(spans, "_BLOCK", 64)
    lines = [json.dumps(row) for row in rows(200)]
    for i in (30, 31, 90, 120, 150, 199):
        lines[i] = "null"
    bench.write("rows.jsonl", [])
    (bench.folder / "rows.jsonl").write_text("\n".join(lines))
    said = set()
    for count in (0, 2, 7):
        with LocalProcesses(count) as processes, pytest.raises(DataError) as caught:
            bench.prepare(make_task(source={"uri": "rows.jsonl"}), workers=processes if count else None)
        said.add(caught.value.message)
    assert len(said) == 1
    assert [line.split(":")[1] for line in said.pop().splitlines()[1:]] == ["31", "32", "91", "121", "151"]


def test_what_was_read_does_not_stay_in_temporary_files(bench, monkeypatch):
    monkeypatch.setattr(spans, "BYTES", 700)
    monkeypatch.setattr(spans, "_BLOCK", 64)
    most = 0

    def look(progress):
        nonlocal most
        most = max(most, len(list(processes._folder.glob("examples-*"))))

    bench.write("rows.jsonl", rows(2000))
    with LocalProcesses(2) as processes:
        bench.prepare(make_task(source={"uri": "rows.jsonl"}), workers=processes, on_progress=look)
        assert not list(processes._folder.glob("examples-*"))
    assert 0 < most < 200  # of about 280 spans; those of the held-out splits wait longest


def test_a_span_is_read_in_chunks_of_bounded_size(bench, monkeypatch):
    monkeypatch.setattr(span_reading, "CHUNK_ROWS", 10)
    write_source(bench)
    store = open_store(str(bench.folder / "chunks"))
    with LocalProcesses(2) as processes:
        assert bench.prepare(the_task(limit=60), store=store, workers=processes) == bench.prepare(the_task(limit=60))


@pytest.mark.parametrize("readers", [1, 2, 7])
def test_what_whole_columns_tell_is_the_same_for_any_number_of_readers(bench, tmp_path, monkeypatch, readers):
    monkeypatch.setattr(spans, "BYTES", 300)
    monkeypatch.setattr(spans, "_BLOCK", 64)
    tagged = [{"tokens": ["Amy", "left", "Bonn"], "tags": ["PER-B", "O", "LOC-B"]}] * 60
    bench.write(
        "tags.jsonl",
        [row | {"tokens": [*row["tokens"], str(i)], "tags": [*row["tags"], "O"]} for i, row in enumerate(tagged)],
    )
    bench.write("numbers.jsonl", [{"input": f"How many? {i}", "target": i if i < 60 else float(i)} for i in range(80)])
    tasks = [
        make_task(name="tags", type="ner", source={"uri": "tags.jsonl"}, columns={"tokens": "tokens", "tags": "tags"}),
        make_task(name="numbers", type="question-answering", source={"uri": "numbers.jsonl"}),
    ]
    expected = bench.prepare(*tasks)
    store = open_store(str(tmp_path / "parallel"))
    with LocalProcesses(readers) as processes:
        assert bench.prepare(*tasks, store=store, workers=processes) == expected
    assert contents(store) == contents(bench.store)
    tags, numbers = (one.provenance["detected"] for one in expected.tasks)
    assert "suffix" in tags[0] or "-" in tags[0]
    assert numbers == ["column target: whole numbers, written without .0"]


def test_a_file_that_cannot_be_divided_is_read_by_a_worker_and_used_as_it_is_read(bench, monkeypatch):
    monkeypatch.setattr(span_reading, "CHUNK_ROWS", 100)
    for name in "ab":
        text = "\n".join(json.dumps(row | {"id": f"{name}{row['input']}"}) for row in rows(1500))
        (bench.folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    monkeypatch.setattr("data_prep.shards.read_ahead.read_span", None)  # this process reads none
    task = make_task(source={"uri": "*.jsonl.gz"}, columns={"id": "id"})
    with LocalProcesses(2) as processes:
        found = bench.prepare(task, workers=processes)
    assert sum(split.examples for split in found.tasks[0].splits.values()) == 3000


def test_a_killed_process_gives_no_chunk_twice(bench, monkeypatch):
    monkeypatch.setattr(span_reading, "CHUNK_ROWS", 100)
    bench.write("rows.jsonl", rows(1000))
    task = make_task(source={"uri": "rows.jsonl"})
    expected = bench.prepare(task, store=open_store(str(bench.folder / "here")))
    killed = []
    put = reading.Reading.put

    def kill(self, *chunks):
        put(self, *chunks)
        if not killed:
            killed.append(next(iter(processes._processes)))
            killed[0].kill()

    monkeypatch.setattr(reading.Reading, "put", kill)
    with LocalProcesses(1) as processes:
        assert bench.prepare(task, workers=processes) == expected
    assert killed
