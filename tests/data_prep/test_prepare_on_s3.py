import gzip
import json

import pytest

from data_prep.shards.reader import open_split
from data_prep.shards.text_reader import read_rows
from data_prep.sources.task_files import source_files
from raytrain_core.errors import DataError, StorageError
from raytrain_core.storage import StorageLocation, open_store
from tests.support.data_prep_bench import make_task, numbered

pytestmark = pytest.mark.s3


def put(store, name, rows):
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    store.put(name, gzip.compress(data, mtime=0) if name.endswith(".gz") else data)


@pytest.fixture
def bucket(s3_bucket):
    """A bucket with a folder of rows by split, and other things next to it."""
    store = open_store(f"s3://{s3_bucket}")
    put(store, "data/train-0.jsonl.gz", numbered(20))
    put(store, "data/train-1.jsonl.gz", numbered(5, 100))
    put(store, "data/sub/valid.jsonl", numbered(4, 200))
    put(store, "data/test.jsonl", numbered(4, 300))
    store.put("data/README.md", b"# test")
    put(store, "database/train.jsonl", numbered(3, 400))
    return s3_bucket


def found(uri, folder):
    return [(file.name, file.split) for file in source_files(make_task(source={"uri": uri}), folder)]


def test_a_file_a_folder_and_a_glob(bucket, tmp_path):
    top = f"s3://{bucket}/data"
    train = [(f"{top}/train-{i}.jsonl.gz", "train") for i in (0, 1)]
    test, valid = (f"{top}/test.jsonl", "test"), (f"{top}/sub/valid.jsonl", "validation")
    assert found(f"{top}/test.jsonl", tmp_path) == [(f"{top}/test.jsonl", None)]
    assert found(top, tmp_path) == found(f"{top}/", tmp_path) == [valid, test, *train]
    assert found(f"{top}/*.jsonl*", tmp_path) == [test, *train]
    assert found(f"{top}/**/*.jsonl", tmp_path) == [valid, test]
    assert found(f"{top}/train-[1-9].jsonl.gz", tmp_path) == train[1:]
    with pytest.raises(DataError, match="no data at"):
        found(f"s3://{bucket}/nowhere", tmp_path)


def test_from_a_bucket_to_a_bucket(bucket, bench, tmp_path):
    task = make_task(source={"uri": f"s3://{bucket}/data"})
    store = open_store(f"s3://{bucket}/shards-of-mine")
    shard_set = bench.prepare(task, store=store)
    assert {name: split.examples for name, split in shard_set.tasks[0].splits.items()} == {
        "train": 25, "validation": 4, "test": 4,
    }  # fmt: skip
    assert bench.prepare(task, store=store) == shard_set
    assert bench.prepare(task) == shard_set  # the same from a folder
    for split in ("train", "test"):
        here = open_split(shard_set, "notes", split, bench.store, bench.cache)
        there = open_split(shard_set, "notes", split, store, bench.cache)
        assert [there.tokens(i, 0)[0].tolist() for i in range(there.examples)] == [
            here.tokens(i, 0)[0].tolist() for i in range(here.examples)
        ]
        assert read_rows(shard_set, "notes", split, store, bench.cache) == read_rows(
            shard_set, "notes", split, bench.store, bench.cache
        )


def test_a_changed_object_is_prepared_again_and_an_unchanged_one_not_even_read(bucket, bench, monkeypatch):
    from data_prep.sources.files import StoredFile

    store = open_store(f"s3://{bucket}/shards-of-mine")
    task = make_task(source={"uri": f"s3://{bucket}/data"})
    first = bench.prepare(task, store=store)
    with monkeypatch.context() as patch:
        patch.setattr(StoredFile, "sha256", lambda self, scratch: pytest.fail("read again"))
        assert bench.prepare(task, store=store) == first
    put(open_store(f"s3://{bucket}"), "data/test.jsonl", numbered(4, 301))
    assert bench.prepare(task, store=store).tasks[0].digest != first.tasks[0].digest


def test_a_bucket_that_cannot_be_read_is_a_storage_error(s3_bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError):
        found(f"s3://{s3_bucket}/data", tmp_path)


def test_sources_are_read_at_the_endpoint_of_the_storage(bucket, bench, s3, tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL")  # only the job knows where the bucket is
    store = open_store(StorageLocation(uri=f"s3://{bucket}/shards-of-mine", endpoint=s3.endpoint, region=s3.region))
    for uri in (f"s3://{bucket}/data", f"s3://{bucket}/data/train-0.jsonl.gz", f"s3://{bucket}/data/*.jsonl*"):
        assert source_files(make_task(source={"uri": uri}), bench.folder, store)
    shard_set = bench.prepare(make_task(source={"uri": f"s3://{bucket}/data"}), store=store)
    assert shard_set.tasks[0].splits["train"].examples == 25
    uris = {"train": f"s3://{bucket}/data/train-0.jsonl.gz", "test": f"s3://{bucket}/data/test.jsonl"}
    files = source_files(make_task(source={"splits": uris}), bench.folder, store)
    assert [(file.split, len(list(file.rows(tmp_path)))) for file in files] == [("train", 20), ("test", 4)]
