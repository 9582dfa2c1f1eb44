import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytrain_core.errors import UsageError
from raytrain_core.storage import CorruptError, LocalStore
from raytrain_core.storage.commit import FileEntry, Manifest, _decode, _encode, check, commit, fetch, read_manifest
from raytrain_core.storage.store import sha256_of


def test_a_committed_thing_comes_back_whole(any_store, tmp_path):
    (tmp_path / "weights").write_bytes(b"w" * 5000)
    body = {"kind": "checkpoint", "step": 3, "none": None, "text": "é"}
    manifest = commit(any_store, "runs/x/c", {"weights": tmp_path / "weights", "sub/small": b"s"}, body)
    assert read_manifest(any_store, "runs/x/c") == manifest
    assert manifest.body == body
    assert manifest.file("weights") == FileEntry("weights", 5000, sha256_of(b"w" * 5000))
    check(any_store, manifest)
    folder = fetch(any_store, manifest, tmp_path / "out")
    assert (folder / "weights").read_bytes() == b"w" * 5000
    assert (folder / "sub/small").read_bytes() == b"s"
    only = fetch(any_store, manifest, tmp_path / "only", ["sub/small"])
    assert sorted(path.name for path in only.rglob("*")) == ["small", "sub"]


def test_nothing_is_visible_when_the_guard_stops_it(any_store):
    class StopError(Exception):
        pass

    def guard():
        assert any_store.get("t/a") == b"1"  # all files are stored by now
        assert any_store.get("t/b") == b"2"
        raise StopError

    with pytest.raises(StopError):
        commit(any_store, "t", {"a": b"1", "b": b"2"}, {}, guard=guard)
    assert read_manifest(any_store, "t") is None


def test_a_guard_protects_what_is_there_already(any_store):
    first = commit(any_store, "t", {"a": b"1"}, {"by": "newer"})

    def guard():
        raise RuntimeError("superseded")

    with pytest.raises(RuntimeError):
        commit(any_store, "t", {"a": b"other"}, {"by": "older"}, guard=guard)
    assert read_manifest(any_store, "t") == first
    assert any_store.get("t/a") == b"1"


def test_a_thing_can_be_made_again(any_store, tmp_path):
    commit(any_store, "t", {"a": b"1", "b": b"2"}, {"n": 1})
    again = commit(any_store, "t", {"a": b"one"}, {"n": 2})
    assert read_manifest(any_store, "t") == again
    assert (fetch(any_store, again, tmp_path / "t") / "a").read_bytes() == b"one"


@pytest.mark.parametrize("damage", ["flipped", "shortened", "missing"])
def test_a_damaged_file_is_named(any_store, damage, tmp_path):
    manifest = commit(any_store, "t", {"good": b"good", "bad": b"0123456789"}, {})
    if damage == "flipped":
        any_store.put("t/bad", b"0123x56789")
    elif damage == "shortened":
        any_store.put("t/bad", b"01234")
    else:
        any_store.delete(["t/bad"])
    with pytest.raises(CorruptError, match="t/bad"):
        fetch(any_store, manifest, tmp_path / "out")
    assert not (tmp_path / "out" / "bad").exists()
    if damage != "flipped":
        with pytest.raises(CorruptError, match="t/bad"):
            check(any_store, manifest)


def test_what_is_in_the_folder_already_is_kept_if_it_is_right(tmp_path):
    store = LocalStore(tmp_path / "store")
    manifest = commit(store, "t", {"a": b"aaa", "b": b"bbb"}, {})
    folder = fetch(store, manifest, tmp_path / "out")
    (folder / "b").write_bytes(b"bxb")
    inode = (folder / "a").stat().st_ino
    fetch(store, manifest, folder)
    assert (folder / "a").stat().st_ino == inode
    assert (folder / "b").read_bytes() == b"bbb"


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"format": 2, "files": [], "body": {}}',
        b'{"format": 1, "files": [{}], "body": {}}',
        b'{"format": 1, "files": [], "body": 3}',
        b'{"format": 1, "files": [{"name": "../x", "bytes": 1, "sha256": "0"}], "body": {}}',
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_corrupt_and_named(tmp_path, text):
    store = LocalStore(tmp_path)
    store.put("t/manifest.json", text)
    with pytest.raises(CorruptError, match=r"t/manifest\.json"):
        read_manifest(store, "t")


def test_what_cannot_be_committed_stores_nothing(tmp_path):
    store = LocalStore(tmp_path / "s")
    for files, body, error in [
        ({"../x": b""}, {}, UsageError),
        ({"manifest.json": b""}, {}, ValueError),
        ({"a": b""}, {"loss": float("nan")}, ValueError),
        ({"a": b""}, {"x": object()}, TypeError),
    ]:
        with pytest.raises(error):
            commit(store, "t", files, body)
    assert list(store.list("")) == []


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,20}", fullmatch=True), st.integers(0, 2**50), max_size=4
    ),
    st.dictionaries(st.text(), _json, max_size=4),
)
def test_manifests_survive_encoding(sizes, body):
    files = tuple(FileEntry(name, size, sha256_of(name.encode())) for name, size in sizes.items())
    manifest = Manifest("p", files, body)
    assert _decode("p", _encode(manifest)) == manifest


_KILLED_EVERYWHERE = """
import os, signal, sys
from pathlib import Path
from raytrain_core.storage import LocalStore
from raytrain_core.storage.commit import commit

WATCHED = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir"}
root, again = Path(sys.argv[1]), sys.argv[2] == "again"
(root / "source").write_bytes(b"n" * 3000)
for kill_at in range(10_000):
    store = LocalStore(root / f"{kill_at:04d}")
    if again:
        commit(store, "thing", {"a": b"old", "b": b"old too"}, {"version": "old"})
    child = os.fork()
    if child == 0:
        left = kill_at
        def hook(event, arguments):
            global left
            if event in WATCHED:
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
        sys.addaudithook(hook)
        commit(store, "thing", {"a": b"new", "b": root / "source"}, {"version": "new"})
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        break
    assert os.WIFSIGNALED(status), status
print(kill_at)
"""


@pytest.mark.parametrize("before", ["nothing", "again"])
def test_a_writer_killed_anywhere_leaves_a_whole_thing_or_none(tmp_path, before):
    """SIGKILL before each single file operation of a commit, one process per place."""
    script = [sys.executable, "-c", _KILLED_EVERYWHERE, str(tmp_path), before]
    done = subprocess.run(
        script, check=False, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(Path.cwd())}
    )
    assert done.returncode == 0, done.stderr
    kills = int(done.stdout)
    assert kills > 15
    seen = []
    for number in range(kills + 1):
        store = LocalStore(tmp_path / f"{number:04d}")
        manifest = read_manifest(store, "thing")
        seen.append(None if manifest is None else manifest.body["version"])
        if manifest is not None:
            out = fetch(store, manifest, tmp_path / "out" / str(number))
            assert (out / "a").read_bytes() == {"old": b"old", "new": b"new"}[seen[-1]]
            assert (out / "b").stat().st_size == {"old": 7, "new": 3000}[seen[-1]]
        commit(store, "thing", {"a": b"last"}, {"version": "last"})  # the next attempt just does it again
        assert read_manifest(store, "thing").body == {"version": "last"}
        store.sweep()
        assert not list((store.root / ".tmp").iterdir())
    order = [None, "new"] if before == "nothing" else ["old", None, "new"]
    assert list(dict.fromkeys(seen)) == order
    assert seen == sorted(seen, key=order.index)


def test_the_manifest_is_readable_by_people(tmp_path):
    store = LocalStore(tmp_path)
    commit(store, "t", {"a": b"1"}, {"step": 5})
    document = json.loads((tmp_path / "t/manifest.json").read_text())
    assert document["body"] == {"step": 5}
    assert document["files"] == [{"name": "a", "bytes": 1, "sha256": sha256_of(b"1")}]
