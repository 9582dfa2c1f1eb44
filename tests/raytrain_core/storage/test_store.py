"""What every store promises, on a folder and on a real S3 server."""

import hashlib
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from raytrain_core.errors import UsageError
from raytrain_core.storage import AlreadyExistsError, CorruptError, NotFoundError, Store, open_store
from raytrain_core.storage.probe import probe


def test_it_is_a_store(any_store):
    assert isinstance(any_store, Store)
    probe(any_store)
    assert list(any_store.list("")) == []


@pytest.mark.parametrize("data", [b"", b"hello", bytes(range(256)) * 9000], ids=["empty", "small", "2 MB"])
def test_what_was_put_comes_back(any_store, data, tmp_path):
    any_store.put("a/b.bin", data)
    assert any_store.get("a/b.bin") == data
    assert any_store.stat("a/b.bin").bytes == len(data)
    any_store.download("a/b.bin", tmp_path / "deep" / "out", sha256=hashlib.sha256(data).hexdigest())
    assert (tmp_path / "deep" / "out").read_bytes() == data
    any_store.put("a/b.bin", b"other")
    assert any_store.get("a/b.bin") == b"other"


@pytest.mark.parametrize("size", [0, 1000, 20 << 20], ids=["empty", "small", "several parts"])
def test_files_go_up_and_come_down(any_store, size, tmp_path):
    data = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    (tmp_path / "file").write_bytes(data)
    stored = any_store.upload("f/file", tmp_path / "file")
    assert (stored.key, stored.bytes, stored.sha256) == ("f/file", size, hashlib.sha256(data).hexdigest())
    any_store.download("f/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    with pytest.raises(AlreadyExistsError):
        any_store.upload("f/file", tmp_path / "file", if_absent=True)
    assert any_store.upload("f/new", tmp_path / "file", if_absent=True).bytes == size
    with pytest.raises(CorruptError):
        any_store.download("f/file", tmp_path / "bad", sha256="0" * 64)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["back", "file"]


def test_what_is_not_there(any_store, tmp_path):
    any_store.put("a/b", b"x")
    for missing in ("a", "a/c", "b"):
        assert any_store.stat(missing) is None
        with pytest.raises(NotFoundError, match=missing):
            any_store.get(missing)
        with pytest.raises(NotFoundError):
            any_store.download(missing, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    any_store.delete(["nothing", "a/c"])


def test_etag_changes_with_the_bytes(any_store):
    any_store.put("k", b"one")
    before = any_store.stat("k")
    assert any_store.stat("k") == before
    any_store.put("k", b"two")
    assert any_store.stat("k").etag != before.etag


def test_listing_is_sorted_and_by_plain_prefix(any_store):
    names = ["b", "a/x", "a/y/z", "a-b/c", "ab", "a/é", "a/~", "a b"]
    for name in names:
        any_store.put(name, name.encode())
    assert [stat.key for stat in any_store.list("")] == sorted(names)
    assert [stat.key for stat in any_store.list("a/")] == sorted(n for n in names if n.startswith("a/"))
    assert [stat.key for stat in any_store.list("a")] == sorted(n for n in names if n.startswith("a"))
    assert list(any_store.list("nothing/")) == []
    assert {stat.key: stat.bytes for stat in any_store.list("a/é")} == {"a/é": 4}
    with pytest.raises(UsageError):
        list(any_store.list("../"))


@pytest.mark.s3
def test_listing_and_deleting_go_beyond_one_page(s3_uri, monkeypatch):
    monkeypatch.setattr("raytrain_core.storage.s3._PAGE", 3)
    store = open_store(s3_uri)
    keys = [f"k/{number % 2}/{number:02d}" for number in range(10)]
    for key in keys:
        store.put(key, b"x")
    assert [stat.key for stat in store.list("k/")] == sorted(keys)
    assert [stat.key for stat in store.list("k/1/")] == [f"k/1/{number:02d}" for number in range(1, 10, 2)]
    store.delete(keys)
    assert list(store.list("")) == []


def test_deleting(any_store):
    for name in ("a/b/c", "a/b/d", "e"):
        any_store.put(name, b"x")
    any_store.delete(["a/b/c", "e", "never/there"])
    assert [stat.key for stat in any_store.list("")] == ["a/b/d"]


def test_it_reopens_in_another_process(any_store):
    any_store.put("k", b"v")
    copy = pickle.loads(pickle.dumps(any_store))
    assert copy.uri == any_store.uri
    assert copy.get("k") == b"v"


@pytest.mark.s3
def test_a_pickle_holds_no_credentials(s3, s3_uri):
    store = open_store(s3_uri)
    store.put("k", b"v")  # connected now
    assert s3.secret_key.encode() not in pickle.dumps(store)
    assert s3.access_key.encode() not in pickle.dumps(store)
    assert s3.secret_key not in repr(store) + store.uri


def test_of_many_conditional_puts_exactly_one_wins(any_store):
    starters = 12
    for round_ in range(3):
        barrier = threading.Barrier(starters)

        def compete(number, barrier=barrier, round_=round_):
            barrier.wait()
            try:
                any_store.put(f"race/{round_}", b"%d" % number, if_absent=True)
            except AlreadyExistsError:
                return None
            return number

        with ThreadPoolExecutor(starters) as pool:
            winners = [number for number in pool.map(compete, range(starters)) if number is not None]
        assert len(winners) == 1
        assert any_store.get(f"race/{round_}") == b"%d" % winners[0]


def test_readers_see_the_old_or_the_new_object_and_nothing_else(any_store):
    versions = [bytes([number]) * 300_000 for number in range(6)]
    any_store.put("k", versions[0])
    stop = threading.Event()

    def look():
        seen = []
        while not stop.is_set():
            seen.append(any_store.get("k"))
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(look) for _ in range(2)]
        try:
            for version in versions[1:]:
                any_store.put("k", version)
        finally:
            stop.set()
        assert all(data in versions for reader in readers for data in reader.result())
