from types import SimpleNamespace

import datasets
import huggingface_hub
import pytest

from data_prep.shards.text_reader import read_rows
from data_prep.sources.hub import characters
from data_prep.sources.source_row import too_long
from data_prep.sources.task_files import source_files
from raytrain_core.errors import DataError, UsageError
from tests.support.data_prep_bench import make_task, numbered

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(monkeypatch):
    """The hub's three questions answered here.

    Everything behind them (datasets, features, streaming) is real.
    """
    asked = SimpleNamespace(splits={}, calls=[])

    def dataset_info(self, name, revision=None, timeout=None):
        asked.calls.append(("info", name, revision))
        return SimpleNamespace(id=name, sha=COMMIT)

    def names(name, config=None, revision=None):
        asked.calls.append(("splits", name, config, revision))
        return list(asked.splits)

    def load(name, config=None, split=None, revision=None, streaming=False):
        assert streaming
        asked.calls.append(("load", name, config, split, revision))
        return asked.splits[split].to_iterable_dataset()

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(datasets, "get_dataset_split_names", names)
    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


def test_splits_of_a_data_set_at_the_commit_of_its_revision(hub, bench):
    for n, split in enumerate(["train", "validation", "test", "unsupervised"]):
        hub.splits[split] = datasets.Dataset.from_list(numbered(5, 100 * n))
    task = make_task(source={"uri": "hf://someone/notes:english@v2"})
    assert [(file.name, file.split) for file in source_files(task, bench.folder)] == [
        (f"hf://someone/notes:english@{COMMIT[:12]}/{split}", split) for split in ("train", "validation", "test")
    ]
    shard_set = bench.prepare(task)
    rows = read_rows(shard_set, "notes", "test", bench.store, bench.cache)
    assert [row.meta["input"] for row in rows] == [row["input"] for row in numbered(5, 200)]
    assert ("info", "someone/notes", "v2") in hub.calls
    assert ("load", "someone/notes", "english", "test", COMMIT) in hub.calls
    hub.calls.clear()
    assert bench.prepare(task) == shard_set
    assert not any(call[0] == "load" for call in hub.calls)


def test_class_labels_become_their_names(hub, bench):
    names = datasets.ClassLabel(names=["O", "B-PER", "I-PER"])
    features = datasets.Features({"words": datasets.List(datasets.Value("string")), "tags": datasets.List(names)})
    rows = [{"words": ["Ann", "Lee", f"n{i}"], "tags": [1, 2, 0]} for i in range(40)]
    hub.splits["train"] = datasets.Dataset.from_list(rows, features=features)
    task = make_task(
        type="ner",
        source={"uri": "hf://ner-set"},
        columns={"tokens": "words", "tags": "tags"},
        split={"validation": 0.3, "test": 0.3},
    )
    shard_set = bench.prepare(task)
    assert {row.targets[0] for row in read_rows(shard_set, "notes", "train", bench.store, bench.cache)} == {
        "PER: Ann Lee"
    }


def test_an_unreachable_hub_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="task notes: hf://someone/notes cannot be read from the hub") as caught:
        source_files(make_task(source={"uri": "hf://someone/notes"}), tmp_path)
    assert caught.value.hint == "HF_HUB_OFFLINE is set."


def test_a_data_set_that_breaks_while_it_is_read(hub, bench, monkeypatch):
    hub.splits["train"] = datasets.Dataset.from_list(numbered(5))

    def broken(*args, **options):
        raise ConnectionError("the line is dead\nand more")

    monkeypatch.setattr(datasets, "load_dataset", broken)
    with pytest.raises(DataError, match=r"/train: cannot be read \(ConnectionError: the line is dead\)"):
        bench.prepare(make_task(source={"uri": "hf://someone/notes"}))


@pytest.mark.parametrize("uri", ["hf://", "hf://a/b/c", "hf://a:b:c", "hf:// x"])
def test_a_uri_that_names_no_data_set(uri, tmp_path):
    with pytest.raises(UsageError, match="is not a data set"):
        source_files(make_task(source={"uri": uri}), tmp_path)


def test_a_row_that_is_too_long_is_a_bad_row(hub, bench, monkeypatch):
    """At any depth: the whole row counts."""
    monkeypatch.setattr("data_prep.sources.hub.LONGEST_ROW", 1000)
    rows = [row | {"more": {"texts": ["x" * 400, "y"]}} for row in numbered(40)]
    rows[9]["more"]["texts"] += ["z" * 2000] * 3
    hub.splits["train"] = datasets.Dataset.from_list(rows)
    (file,) = source_files(make_task(source={"uri": "hf://someone/notes"}), bench.folder)
    bad = [(row.number, row.reason) for row in file.rows(bench.folder) if row.values is None]
    assert bad == [(10, too_long())]


def test_what_a_row_holds_is_counted_at_any_depth():
    assert characters({"a": "12345", "b": [b"67", {"c": "8"}], "d": 9, "e": None}, 1000) == 5 + 2 + 1 + 7
    assert characters(["x" * 10] * 1000, 50) < 100  # it need not count to the end


def test_rows_of_a_usual_shape_are_read_as_from_a_file(hub, bench):
    hub.splits["train"] = datasets.Dataset.from_list(
        [{"instruction": f"Add {i}", "input": f"to {2 * i}", "output": str(3 * i)} for i in range(60)]
    )
    plain, alpaca = (
        make_task(
            type="text",
            source={"uri": "hf://someone/tasks"} | more,
            columns={"target": target},
            split={"validation": 0.3, "test": 0.3},
        )
        for more, target in (({}, "output"), ({"format": "alpaca"}, "target"))
    )
    shard_set = bench.prepare(alpaca)
    rows = [
        row
        for split in ("train", "validation", "test")
        for row in read_rows(shard_set, "notes", split, bench.store, bench.cache)
    ]
    assert ("Add 3\n\nto 6", ["9"]) in [(row.meta["input"], list(row.targets)) for row in rows]
    assert bench.prepare(plain).digest != shard_set.digest


def test_rows_of_another_shape_are_bad_rows(hub, bench):
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    hub.splits["test"] = datasets.Dataset.from_list([{"messages": turns}, {"messages": turns[:1]}])
    (file,) = source_files(make_task(source={"uri": "hf://someone/chat", "format": "messages"}), bench.folder)
    first, second = file.rows(bench.folder)
    assert (first.values["input"], first.values["target"]) == ("Hi", "Hello")
    assert second.reason.startswith("not messages: 'messages' does not end with an answer")
