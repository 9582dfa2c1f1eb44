import json
import os
import signal
import subprocess
import sys
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.config import Mask, Mixture
from data_prep.prepare import PrepLimits
from data_prep.shards import progress, span_reading, task_sources, writer
from data_prep.shards.manifest import PreparedTask, ShardSet
from data_prep.shards.parts import load_keys
from data_prep.shards.text_reader import read_rows
from data_prep.shards.tokenizer_files import load_tokenizer
from data_prep.sources import files as sources
from data_prep.text import word_cache
from data_prep.text.tokenizer import EOS
from raytrain_core.errors import DataError, StorageError, UsageError
from raytrain_core.storage import open_store
from tests.support import REPOSITORY
from tests.support.data_prep_bench import LIMITS, make_task, numbered, write_jsonl

OLD = 1.5e9  # a file's time long ago: its fingerprint is trusted


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of seven rows."""
    monkeypatch.setattr(task_sources, "ROWS_OF_A_UNIT", 7)


def keys(store, prefix="shards/"):
    return [stat.key for stat in store.list(prefix)]


class Recorder:
    """A store that remembers what is written, and can refuse to go on."""

    def __init__(self, store, stop_after=None):
        self._store, self._stop_after = store, stop_after
        self.written = []

    def __getattr__(self, name):
        return getattr(self._store, name)

    def _count(self, key):
        if self._stop_after is not None and len(self.written) >= self._stop_after:
            raise StorageError("the disk is full")
        self.written.append(key)

    def put(self, key, data, **options):
        self._count(key)
        return self._store.put(key, data, **options)

    def upload(self, key, path, **options):
        self._count(key)
        return self._store.upload(key, path, **options)


def split_folder(bench, train=20, validation=5, test=6):
    bench.write("rows/train.jsonl", numbered(train))
    bench.write("rows/validation.jsonl", numbered(validation, 1000))
    bench.write("rows/test.jsonl", numbered(test, 2000))
    for name in ("train", "validation", "test"):
        os.utime(bench.folder / f"rows/{name}.jsonl", (OLD, OLD))
    return make_task(source={"uri": "rows"})


def read_part(bench, pair):
    text = pq.read_table(bench.store.path(pair.text.key)).to_pylist()
    tokens = pa.ipc.open_file(bench.store.path(pair.tokens.key)).read_all().to_pylist()
    return text, tokens


def test_rows_and_their_tokens_by_variant_and_part(bench, small_parts):
    shard_set = bench.prepare(split_folder(bench))
    task = shard_set.task("notes")
    train = task.splits["train"]
    assert (train.examples, train.variants) == (20, 3)
    assert [[pair.rows for pair in pairs] for pairs in train.parts] == [[7, 7, 6]] * 3
    templates = []
    for pairs in train.parts:
        rows, tokens = [], []
        for pair in pairs:
            text, ids = read_part(bench, pair)
            rows, tokens = rows + text, tokens + ids
        assert [json.loads(row["meta"])["input"] for row in rows] == [row["input"] for row in numbered(20)]
        for row, ids in zip(rows, tokens, strict=True):
            raw = json.loads(row["meta"])["input"]
            assert raw[:8] in row["input"]  # a prompt that is too long is cut in its input
            assert (row["task"], row["split"]) == ("notes", "train")
            assert ids["template"] == row["template"]
            assert ids["source"] == bench.tokenizer.encode_batch([row["input"]], LIMITS.max_input_tokens)[0].tolist()
            assert ids["target"] == bench.tokenizer.encode_batch(row["targets"], LIMITS.max_target_tokens)[0].tolist()
            assert ids["source"][-1] == ids["target"][-1] == EOS
        templates.append([row["template"] for row in rows])
    assert all(len(set(of_one)) == 3 for of_one in zip(*templates, strict=True))
    for split in ("validation", "test"):
        assert task.splits[split].variants == 1
    assert len({row["template"] for row in read_part(bench, task.splits["test"].parts[0][0])[0]}) > 1


def test_columns_are_of_the_types_that_readers_expect(bench):
    (pair,) = bench.prepare(split_folder(bench)).split("notes", "test").parts[0]
    text = pq.read_schema(bench.store.path(pair.text.key))
    assert [(field.name, str(field.type)) for field in text] == [
        ("id", "string"), ("task", "string"), ("split", "string"), ("template", "int32"), ("input", "string"),
        ("targets", "list<element: string>"), ("meta", "string"),
    ]  # fmt: skip
    assert pq.read_metadata(bench.store.path(pair.text.key)).row_group(0).column(4).compression == "ZSTD"
    tokens = pa.ipc.open_file(bench.store.path(pair.tokens.key)).schema
    assert [(field.name, str(field.type)) for field in tokens] == [
        ("source", "list<item: uint16>"), ("target", "list<item: uint16>"), ("template", "int32"),
    ]  # fmt: skip


def test_the_same_input_gives_the_same_objects_anywhere(bench, tmp_path):
    task = split_folder(bench)
    first = bench.prepare(task)
    other = open_store(str(tmp_path / "other-store"))
    assert bench.prepare(task, store=other) == first
    assert keys(other) == keys(bench.store)
    for key in keys(other, "shards/parts/"):
        assert other.get(key) == bench.store.get(key)
    assert ShardSet.load(other, first.digest) == first


def test_every_object_is_named_by_a_manifest_and_the_set_comes_last(bench):
    store = Recorder(bench.store)
    shard_set = bench.prepare(split_folder(bench), store=store)
    named = {part.key for task in shard_set.tasks for part in task.all_parts()}
    named |= {part.key for part in shard_set.tokenizer.files.values()}
    assert set(keys(bench.store, "shards/parts/")) == named
    manifests = [
        key for key in store.written if not key.startswith(("shards/parts/", "shards/sources/", "shards/units/"))
    ]
    assert manifests == [PreparedTask.key(shard_set.tasks[0].digest), ShardSet.key(shard_set.digest)]
    assert store.written[-1] == manifests[-1]


def test_a_second_time_nothing_is_read_or_written(bench, monkeypatch):
    task = split_folder(bench)
    first = bench.prepare(task)

    def unreadable(self, scratch):
        raise AssertionError("read again")

    monkeypatch.setattr(sources.LocalFile, "sha256", unreadable)
    monkeypatch.setattr(sources.LocalFile, "rows", unreadable)
    store = Recorder(bench.store)
    assert bench.prepare(task, store=store) == first
    assert store.written == []


def test_only_what_determines_the_rows_changes_the_digest(bench):
    task = split_folder(bench)
    digest = bench.prepare(task).tasks[0].digest
    same = [
        bench.prepare(task, mixture=Mixture(strategy="equal")),
        bench.prepare(task.model_copy(update={"metrics": ["rougeL"]})),
        bench.prepare(make_task(source={"splits": {s: f"rows/{s}.jsonl" for s in ("test", "train", "validation")}})),
    ]
    assert {shard_set.tasks[0].digest for shard_set in same[:2]} == {digest}
    assert len({bench.prepare(task).digest, same[0].digest}) == 2
    assert [split.parts for split in same[2].tasks[0].splits.values()] == [
        split.parts for split in bench.prepare(task).tasks[0].splits.values()
    ]
    other = [
        bench.prepare(task, mixture=Mixture(seed=18)),
        bench.prepare(task, limits=PrepLimits(63, 16)),
        bench.prepare(task.model_copy(update={"templates_per_example": 2})),
        bench.prepare(task.model_copy(update={"limit": 4})),
        bench.prepare(task.model_copy(update={"templates": ["{input}"]})),
    ]
    bench.write("rows/test.jsonl", numbered(6, 3000))
    other.append(bench.prepare(task))
    assert len({shard_set.tasks[0].digest for shard_set in other} | {digest}) == len(other) + 1


def test_another_release_of_the_numbering_plans_is_another_preparation(bench, monkeypatch):
    """Which numbers are phone numbers changes with each release; only tasks that mask them ask."""
    masked, plain = (split_folder(bench).model_copy(update={"mask": Mask(kinds=[kind])}) for kind in ("phone", "email"))
    before = [bench.prepare(task).tasks[0].digest for task in (masked, plain)]
    monkeypatch.setattr("data_prep.shards.task_sources.version", {"phonenumbers": "9999.1"}.__getitem__)
    after = [bench.prepare(task).tasks[0].digest for task in (masked, plain)]
    assert (before[0] == after[0], before[1] == after[1]) == (False, True)


def test_verify_reads_a_source_whose_time_and_size_hide_its_change(bench):
    task = split_folder(bench)
    first = bench.prepare(task)
    path = bench.folder / "rows/test.jsonl"
    with path.open("r+b") as file:
        file.write(path.read_bytes().replace(b"number", b"NUMBER"))
    os.utime(path, (OLD, OLD))
    assert bench.prepare(task) == first
    assert bench.prepare(task, verify=True).digest != first.digest


def test_a_lost_part_is_written_again_and_a_bad_one_by_verify(bench):
    task = split_folder(bench)
    first = bench.prepare(task)
    part = first.split("notes", "train").parts[1][0].tokens
    good = bench.store.get(part.key)
    bench.store.delete([part.key])
    assert bench.prepare(task) == first
    assert bench.store.get(part.key) == good
    bench.store.put(part.key, good[:-1] + b"x")
    assert bench.prepare(task) == first
    assert bench.store.get(part.key) != good
    assert bench.prepare(task, verify=True) == first
    assert bench.store.get(part.key) == good


def test_it_goes_on_where_it_stopped(bench, tmp_path):
    split_folder(bench)
    tasks = [make_task(source={"uri": "rows"}), make_task(name="others", source={"uri": "rows"})]
    whole = Recorder(open_store(str(tmp_path / "whole")))
    expected = bench.prepare(*tasks, store=whole)
    first_done = whole.written.index(PreparedTask.key(expected.tasks[0].digest)) + 1
    for stop in (0, 5, first_done, first_done + 4, len(whole.written) - 1):
        store = open_store(str(tmp_path / f"stop-{stop}"))
        with pytest.raises(StorageError, match="full"):
            bench.prepare(*tasks, store=Recorder(store, stop_after=stop))
        assert keys(store, "shards/sets/") == []
        rest = Recorder(store)
        assert bench.prepare(*tasks, store=rest) == expected
        assert keys(store) == keys(whole)
        assert (PreparedTask.key(expected.tasks[0].digest) in rest.written) == (stop < first_done)


KILLED = """
import os, signal, sys
from pathlib import Path
from data_prep.config import Mixture, Task
from data_prep.prepare import PrepLimits, prepare
from raytrain_core.storage.local import LocalStore
from data_prep.text.tokenizer import Tokenizer
from data_prep.text.tokenizer_folder import read_tokenizer

folder, tokenizer, stop = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
writes = 0
write = LocalStore._write

def dying(self, *args, **options):
    global writes
    writes += 1
    if writes == stop:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(self, *args, **options)

LocalStore._write = dying
task = Task.model_validate({"name": "notes", "type": "summarization", "source": {"uri": "rows"}})
prepare([task], Mixture(), store=LocalStore(folder / "killed"), tokenizer=read_tokenizer(tokenizer),
        limits=PrepLimits(64, 16), base_folder=folder)
"""


def test_a_killed_preparation_leaves_nothing_visible_and_ends_the_same(bench, tmp_path, base_folder):
    task = split_folder(bench)
    expected = bench.prepare(task)
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(base_folder), "9"]
    done = subprocess.run(command, check=False, timeout=120, cwd=REPOSITORY)
    assert done.returncode == -signal.SIGKILL
    store = open_store(str(tmp_path / "killed"))
    assert keys(store, "shards/parts/")
    assert keys(store, "shards/tasks/") + keys(store, "shards/sets/") == []
    assert bench.prepare(task, store=store) == expected


def test_one_split_is_divided_and_equal_inputs_stay_together(bench):
    bench.write("rows.jsonl", [*numbered(200), *numbered(200)])
    task = make_task(split={"validation": 0.2, "test": 0.2})
    (prepared,) = bench.prepare(task).tasks
    assert sum(split.examples for split in prepared.splits.values()) == 400
    assert all(split.statistics["duplicates"] == split.examples // 2 for split in prepared.splits.values())
    assert set(prepared.leakage.values()) == {0}
    assert "20.0% validation" in prepared.provenance["split_rule"]


def test_a_probe_is_never_trained_on(bench):
    split_folder(bench)
    bench.write("probe.jsonl", numbered(100))
    tasks = [make_task(source={"uri": "rows"}), make_task(name="probe", source={"uri": "probe.jsonl"}, probe=True)]
    shard_set = bench.prepare(*tasks)
    assert list(shard_set.task("probe").splits) == ["validation", "test"]
    assert shard_set.rates == {"notes": 1.0}
    assert {(leak["task"], leak["trained_in"]) for leak in shard_set.leakage} == {("probe", "notes")}
    assert sum(leak["rows"] for leak in shard_set.leakage) == 20


def test_statistics(bench):
    rows = numbered(10)
    rows[3]["input"] = "if " * 100
    rows[4]["target"] = "a \u4e2d\u6587 b"
    rows[5]["target"] = "if " * 20
    bench.write("rows/train.jsonl", [*rows, rows[0]])
    bench.write("rows/validation.jsonl", [rows[1], *numbered(4, 50)])
    bench.write("rows/test.jsonl", [rows[1], rows[2], *numbered(2, 60)])
    (task,) = bench.prepare(make_task(source={"uri": "rows"}, templates=["{input}", "a {input}"])).tasks
    train = task.splits["train"].statistics
    assert (train["rows"], train["duplicates"]) == (11, 1)
    assert train["truncated_sources"] == pytest.approx(1 / 11, abs=1e-6)
    assert train["truncated_targets"] == train["altered_targets"] == pytest.approx(1 / 11, abs=1e-6)
    assert train["source_tokens"]["max"] > 64
    assert train["target_tokens"]["max"] == 21
    assert 0 < train["unknown_tokens"] < 0.01
    assert train["templates"] == {"0": 11, "1": 11}
    assert task.leakage == {"validation in train": 1, "test in train": 2, "test in validation": 1}
    assert len(load_keys(task.splits["test"], bench.store)) == 4


def test_literal_control_tokens_never_become_control_ids(bench):
    rows = [{"input": f"</s> <pad>{i}<extra_id_0>", "target": f"{i}</s>"} for i in range(6)]
    for split in ("train", "validation", "test"):
        bench.write(f"rows/{split}.jsonl", rows)
    shard_set = bench.prepare(make_task(source={"uri": "rows"}))
    extra = json.loads(shard_set_file(bench, shard_set, "tokenizer.json"))["added_tokens"]
    control = {token["id"] for token in extra if token["special"]}
    for pair in shard_set.split("notes", "train").parts[0]:
        for row in read_part(bench, pair)[1]:
            assert not control.intersection(row["source"][:-1] + row["target"][:-1])


def shard_set_file(bench, shard_set, name):
    return bench.store.get(shard_set.tokenizer.files[name].key)


def test_the_tokenizer_comes_back_from_the_store(bench, tmp_path):
    shard_set = bench.prepare(split_folder(bench))
    again = load_tokenizer(shard_set, bench.store, tmp_path / "tokenizer")
    assert again.digest == shard_set.tokenizer.digest == bench.tokenizer.digest
    assert again.size == shard_set.tokenizer.size
    assert load_tokenizer(shard_set, bench.store).digest == again.digest


def test_bad_rows_are_named_several_at_once(bench):
    rows = numbered(30)
    for i in range(3, 17, 2):
        rows[i]["target"] = None
    bench.write("rows.jsonl", rows)
    with pytest.raises(DataError) as caught:
        bench.prepare(make_task())
    message = str(caught.value)
    assert [f"rows.jsonl:{n}: 'target' is null" in message for n in (4, 6, 8, 10, 12, 14)] == [True] * 5 + [False]
    assert "onBadRow: skip" in message
    assert keys(bench.store, "shards/tasks/") == []


def test_bad_rows_can_be_left_out_up_to_a_limit(bench):
    rows = numbered(200)
    del rows[4]["target"]
    rows[150]["input"] = ""
    bench.write("rows.jsonl", rows)
    task = make_task(onBadRow="skip", badRowLimit=2, split={"validation": 0.2, "test": 0.2})
    (prepared,) = bench.prepare(task).tasks
    bad = prepared.tally["kinds"]["bad-row"]
    assert bad["count"] == 2
    assert bad["first"][1] == {"file": "rows.jsonl", "line": 151, "note": "'input' is empty"}
    assert sum(split.examples for split in prepared.splits.values()) == 198
    with pytest.raises(DataError, match="more than 1 bad rows") as caught:
        bench.prepare(make_task(onBadRow="skip", badRowLimit=1, split={"validation": 0.2, "test": 0.2}))
    assert "rows.jsonl:5: no column 'target'" in str(caught.value)


def test_a_missing_column_is_named_with_those_there_are(bench):
    bench.write("rows.jsonl", [{"dialogue": "x", "summaries": "y"}] * 5)
    with pytest.raises(DataError, match=r"rows\.jsonl has no column 'summary', did you mean summaries\?") as caught:
        bench.prepare(make_task(columns={"input": "dialogue", "target": "summary"}))
    assert "'dialogue', 'summaries'" in caught.value.hint
    with pytest.raises(DataError, match="has no column 'input'"):
        bench.prepare(make_task())


def test_nothing_to_prepare(bench):
    bench.write("rows.jsonl", [])
    with pytest.raises(DataError, match=r"task notes: no rows in rows\.jsonl"):
        bench.prepare(make_task())
    bench.write("rows.jsonl", numbered(50))
    with pytest.raises(DataError, match="its test split is empty"):
        bench.prepare(make_task(split={"validation": 0.5, "test": 0}))


def test_mistakes_of_a_later_task_are_said_before_any_work(bench):
    split_folder(bench)
    good = make_task(source={"uri": "rows"})
    with pytest.raises(DataError, match="there is no nowhere"):
        bench.prepare(good, make_task(name="b", source={"uri": "nowhere"}))
    with pytest.raises(UsageError, match=r"has no \{input\}"):
        bench.prepare(good, make_task(name="b", templates=["x"]))
    assert keys(bench.store) == []


def test_a_limit_takes_rows_from_everywhere_and_the_same_ones(bench, small_parts):
    bench.write("rows.jsonl", numbered(600))
    task = make_task(split={"validation": 0.2, "test": 0.2}, templates_per_example=1)

    def kept(limit, split):
        shard_set = bench.prepare(task.model_copy(update={"limit": limit}))
        rows = read_rows(shard_set, "notes", split, bench.store, bench.cache)
        return [int(row.meta["input"].rpartition(" ")[2]) for row in rows]

    thirty = kept(30, "train")
    assert (len(thirty), len(kept(30, "validation"))) == (30, 30)
    assert min(thirty) < 150
    assert max(thirty) > 450
    assert set(kept(10, "train")) < set(thirty)
    assert len(kept(10_000, "train")) > 300


def test_identifiers(bench):
    bench.write("rows.jsonl", [{"n": i, **row} for i, row in enumerate([*numbered(50), *numbered(50)])])
    fractions = {"validation": 0.2, "test": 0.2}
    rows = [
        read_rows(bench.prepare(task), "notes", "train", bench.store, bench.cache)
        for task in (make_task(split=fractions), make_task(split=fractions, columns={"id": "n"}))
    ]
    assert len({row.id for row in rows[0]}) == len(rows[0])
    assert [row.id for row in rows[1]] == [row.id for row in sorted(rows[1], key=lambda row: int(row.id))]


def test_progress_counts_examples_and_ends_with_their_number(bench, monkeypatch):
    monkeypatch.setattr(writer, "_CHUNK", 8)
    seen = []
    bench.prepare(split_folder(bench), on_progress=seen.append)
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert len(seen) >= 5
    assert (seen[-1].task, seen[-1].done, seen[-1].total) == ("notes", 31, 31)


def test_an_interrupt_in_progress_stops_it(bench, monkeypatch):
    monkeypatch.setattr(progress, "_READ_ROWS", 10)
    bench.write("rows.jsonl", numbered(50))

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.prepare(make_task(limit=5, split={"validation": 0.2, "test": 0.2}), on_progress=stop)
    assert keys(bench.store, "shards/tasks/") == []


def test_memory_does_not_grow_with_the_source(bench, monkeypatch):
    monkeypatch.setattr(task_sources, "ROWS_OF_A_UNIT", 100)
    monkeypatch.setattr(span_reading, "CHUNK_ROWS", 100)
    monkeypatch.setattr(word_cache, "WORDS", 100)

    def peak(rows: int) -> int:
        bench.write("rows.jsonl", numbered(rows))
        tracemalloc.start()
        bench.prepare(make_task(templates_per_example=1, templates=["{input}"]))
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(500)  # imports
    assert peak(3000) < 1.5 * peak(1000)


def test_mixed_formats_give_the_same_rows(bench):
    rows = numbered(60)
    bench.write("a.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), bench.folder / "a.parquet")
    lines = ["input,target", *(f"{row['input']},{row['target']}" for row in rows)]
    (bench.folder / "a.csv").write_text("\n".join(lines) + "\n")
    (bench.folder / "a.tsv").write_text("\n".join(lines).replace(",", "\t") + "\n")
    parts = []
    for ending in ("jsonl", "parquet", "csv", "tsv"):
        task = make_task(source={"uri": f"a.{ending}"}, split={"validation": 0.2, "test": 0.2})
        parts.append({name: split.parts for name, split in bench.prepare(task).tasks[0].splits.items()})
    assert parts[1:] == parts[:1] * 3


def test_validation_is_taken_from_train_where_only_test_is_given(bench):
    path = write_jsonl(bench.folder / "train.jsonl", numbered(30))
    path.with_name("test.jsonl").write_text(path.read_text().replace("number", "count"))
    task = make_task(source={"uri": "t*.jsonl"}, split={"validation": 0.3, "test": 0})
    (prepared,) = bench.prepare(task).tasks
    assert prepared.splits["test"].examples == 30
    assert prepared.splits["train"].examples + prepared.splits["validation"].examples == 30


def test_a_missing_column_of_a_later_file_is_said_before_any_work(bench):
    split_folder(bench)
    bench.write("more/test.jsonl", numbered(5))
    bench.write("more/train.jsonl", [{"input": "x", "summary": "y"}] * 5)
    with pytest.raises(DataError, match=r"task more: more/train\.jsonl has no column 'target'"):
        bench.prepare(make_task(source={"uri": "rows"}), make_task(name="more", source={"uri": "more"}))
    assert keys(bench.store, "shards/parts/") == []


def test_a_repeated_identifier_gets_the_number_of_its_occurrence(bench, monkeypatch):
    monkeypatch.setattr("data_prep.shards.task_sources.ROWS_OF_A_UNIT", 3)  # also across parts
    ids = ["a", "a-2", "a", 7, "b", "7", "a", "b-2", "b", "a-2"]
    for split in ("train", "validation", "test"):
        bench.write(f"{split}.jsonl", [row | {"n": n} for row, n in zip(numbered(10), ids, strict=True)])
    splits = {split: f"{split}.jsonl" for split in ("train", "validation", "test")}
    shard_set = bench.prepare(make_task(columns={"id": "n"}, source={"splits": splits}))
    for split in splits:
        pairs = shard_set.tasks[0].splits[split].parts[0]
        found = [i for pair in pairs for i in pq.read_table(bench.store.path(pair.text.key))["id"].to_pylist()]
        assert found == ["a", "a-2", "a-3", "7", "b", "7-2", "a-4", "b-2", "b-3", "a-2-2"]
        assert len(pairs) == 4
