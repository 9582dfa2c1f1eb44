import json

import numpy as np
import pytest

from data_prep.prepare import PrepLimits
from data_prep.shards import task_sources
from data_prep.shards.manifest import PreparedTask, ShardSet
from data_prep.shards.reader import open_split
from data_prep.shards.text_reader import read_rows
from raytrain_core.errors import DataError
from raytrain_core.storage import CorruptError, NotFoundError
from tests.support.data_prep_bench import make_task, numbered


@pytest.fixture
def prepared(bench, monkeypatch):
    monkeypatch.setattr(task_sources, "ROWS_OF_A_UNIT", 7)
    for split, n in (("train", 20), ("validation", 14), ("test", 3)):
        bench.write(f"rows/{split}.jsonl", numbered(n, 100 * n))
    return bench.prepare(make_task(source={"uri": "rows"}), limits=PrepLimits(200, 16))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_tokens_by_example_and_variant(bench, prepared, split):
    reader = open_split(prepared, "notes", split, bench.store, bench.cache)
    rows = read_rows(prepared, "notes", split, bench.store, bench.cache)
    assert (reader.examples, reader.variants) == (len(rows), 3 if split == "train" else 1)
    for row in rows:
        source, target = reader.tokens(row.index, 0)
        assert (source.dtype, target.dtype) == (np.uint16, np.uint16)
        assert bench.tokenizer.decode(source) == row.input
        assert [bench.tokenizer.decode(target)] == row.targets
        assert reader.template(row.index, 0) == row.template
    for variant in range(reader.variants):
        lengths = reader.source_lengths[variant], reader.target_lengths[variant]
        assert [array.dtype for array in lengths] == [np.int32, np.int32]
        assert [array.shape for array in lengths] == [(len(rows),), (len(rows),)]
        for example in range(reader.examples):
            source, target = reader.tokens(example, variant)
            assert (lengths[0][example], lengths[1][example]) == (len(source), len(target))
            assert rows[example].meta["input"] in bench.tokenizer.decode(source)
    for place in [(-1, 0), (reader.examples, 0), (0, reader.variants), (0, -1)]:
        with pytest.raises(IndexError):
            reader.tokens(*place)


def test_tokens_are_views_of_the_file_and_cannot_be_written_to(bench, prepared):
    reader = open_split(prepared, "notes", "test", bench.store, bench.cache)
    source, _ = reader.tokens(0, 0)
    assert not source.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        source[0] = 3


def test_a_limit_takes_the_same_rows_each_time_from_all_parts(bench, prepared):
    rows = read_rows(prepared, "notes", "train", bench.store, bench.cache)
    some = read_rows(prepared, "notes", "train", bench.store, bench.cache, 8)
    assert [row.index for row in some] == sorted({row.index for row in some})
    assert len(some) == 8
    assert all(row == rows[row.index] for row in some)
    assert len({row.index // 7 for row in some}) > 1
    assert read_rows(prepared, "notes", "train", bench.store, bench.cache, 3) == [
        row
        for row in some
        if row.index in {r.index for r in read_rows(prepared, "notes", "train", bench.store, bench.cache, 3)}
    ]
    assert read_rows(prepared, "notes", "test", bench.store, bench.cache, 99) == read_rows(
        prepared, "notes", "test", bench.store, bench.cache
    )


def test_what_is_not_there_is_said(bench, prepared):
    with pytest.raises(DataError, match="task other is not in the shard set"):
        open_split(prepared, "other", "train", bench.store, bench.cache)
    with pytest.raises(NotFoundError):
        ShardSet.load(bench.store, "0" * 64)
    part = prepared.split("notes", "test").parts[0][0]
    good = bench.store.get(part.text.key)
    bench.store.put(part.text.key, good[:50] + b"x" + good[51:])
    with pytest.raises(CorruptError, match=part.text.sha256[:12]):
        read_rows(prepared, "notes", "test", bench.store, bench.cache)
    bench.store.delete([part.tokens.key])
    with pytest.raises(CorruptError, match="missing, but a manifest names it"):
        open_split(prepared, "notes", "test", bench.store, bench.cache)


@pytest.mark.parametrize("change", [b"{", b"[]", b'{"format": 99}', b'{"format": 1}'])
def test_a_broken_manifest_is_named(bench, prepared, change):
    for kind in (ShardSet, PreparedTask):
        key = kind.key("1" * 64)
        bench.store.put(key, change)
        with pytest.raises(CorruptError, match=key):
            kind.load(bench.store, "1" * 64)


def test_a_manifest_is_plain_json_that_says_what_it_is(bench, prepared):
    document = json.loads(bench.store.get(PreparedTask.key(prepared.tasks[0].digest)))
    assert (document["kind"], document["name"], document["type"], document["probe"]) == (
        "task", "notes", "summarization", False,
    )  # fmt: skip
    assert [source["name"] for source in document["provenance"]["sources"]] == [
        "rows/test.jsonl", "rows/train.jsonl", "rows/validation.jsonl",
    ]  # fmt: skip
    document = json.loads(bench.store.get(ShardSet.key(prepared.digest)))
    assert document["tasks"] == [{"name": "notes", "digest": prepared.tasks[0].digest}]
    assert set(document["tokenizer"]["files"]) == {"tokenizer.json", "tokenizer_config.json"}
