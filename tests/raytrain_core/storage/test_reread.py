"""A store that reads again only what a listing says has changed."""

import pytest

from raytrain_core.storage import NotFoundError, RereadStore, Store, open_store


class Counted:
    """A store that notes every read."""

    def __init__(self, store):
        self._store, self.uri, self.reads = store, store.uri, []

    def __getattr__(self, name):
        return getattr(self._store, name)

    def get(self, key):
        self.reads.append(key)
        return self._store.get(key)


@pytest.fixture
def below(tmp_path):
    store = Counted(open_store(str(tmp_path)))
    for key in ("a/1", "a/2", "b/1"):
        store.put(key, key.encode())
    return store


def read(store, prefix="a/"):
    return {stat.key: store.get(stat.key) for stat in store.list(prefix)}


def test_what_was_listed_and_is_the_same_is_read_once(below):
    store = RereadStore(below)
    assert isinstance(store, Store)
    assert read(store) == read(store) == {"a/1": b"a/1", "a/2": b"a/2"}
    assert below.reads == ["a/1", "a/2"]


def test_what_changed_is_read_again(below):
    store = RereadStore(below)
    read(store)
    below.put("a/2", b"other bytes")
    assert read(store)["a/2"] == b"other bytes"
    assert below.reads == ["a/1", "a/2", "a/2"]
    store.put("a/1", b"by itself")
    assert store.get("a/1") == b"by itself"


def test_what_no_listing_named_is_read_each_time(below):
    store = RereadStore(below)
    store.get("b/1")
    below.put("b/1", b"new")
    assert store.get("b/1") == b"new"


def test_what_is_gone_is_not_found(below):
    store = RereadStore(below)
    read(store)
    below.delete(["a/1"])
    assert set(read(store)) == {"a/2"}
    store.delete(["a/2"])
    for key in ("a/1", "a/2"):
        with pytest.raises(NotFoundError):
            store.get(key)
