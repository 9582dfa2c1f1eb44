import os
import subprocess
import sys
from pathlib import Path

import pytest

from raytrain_core.errors import StorageError
from raytrain_core.storage import CorruptError, LocalStore


def test_an_overwritten_object_leaves_no_temporary_files(tmp_path):
    store = LocalStore(tmp_path)
    for _ in range(3):
        store.put("a/b", b"x")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [".tmp", "a", "a/b"]


def test_a_key_below_a_file_is_refused_with_a_sentence(tmp_path):
    store = LocalStore(tmp_path)
    store.put("a", b"x")
    with pytest.raises(StorageError, match="a file and a folder have the same name"):
        store.put("a/b", b"x")
    store.put("c/d", b"x")
    with pytest.raises(StorageError):
        store.put("c", b"x")
    assert store.get("c/d") == b"x"


def test_files_get_the_permissions_that_the_umask_asks_for(tmp_path):
    old = os.umask(0o027)
    try:
        LocalStore(tmp_path / "s").put("k", b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "s" / "k").stat().st_mode & 0o777 == 0o640


def test_a_file_that_grows_while_it_is_uploaded_is_not_stored(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.write_bytes(b"begin")
    from raytrain_core.storage import local

    real = local.sha256_of_file

    def and_then_it_grows(path):
        digest = real(path)
        if path == source:
            source.write_bytes(b"begin and more")
        return digest

    monkeypatch.setattr(local, "sha256_of_file", and_then_it_grows)
    store = LocalStore(tmp_path / "store")
    with pytest.raises(CorruptError, match="read back different bytes"):
        store.upload("k", source)
    assert store.stat("k") is None


def test_a_missing_source_is_named(tmp_path):
    with pytest.raises(StorageError, match="not-here"):
        LocalStore(tmp_path).upload("k", tmp_path / "not-here")


def test_what_a_killed_writer_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path):
    script = """
import os, signal, sys
from raytrain_core.storage import LocalStore
store = LocalStore(__import__("pathlib").Path(sys.argv[1]))
with store._unfinished() as (part, file):
    file.write(b"half"); file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == -9
    store = LocalStore(tmp_path)
    assert len(list((tmp_path / ".tmp").iterdir())) == 1
    assert list(store.list("")) == []
    with store._unfinished() as (part, file):
        file.write(b"mine")
        assert store.sweep() == 1
        assert [path.name for path in (tmp_path / ".tmp").iterdir()] == [part.name]


_ON_A_FULL_DISK = """
import sys
from pathlib import Path
from raytrain_core.errors import StorageError
from raytrain_core.storage import LocalStore
from raytrain_core.storage.commit import commit, read_manifest

small, big = Path(sys.argv[1]), Path(sys.argv[2])
store = LocalStore(small / "store")
store.put("old", b"o" * 100_000)

def must_be_full(do, *names):
    try:
        do()
    except StorageError as error:
        for name in (*names, "disk full", "bytes free", "needed"):
            assert name in str(error), (name, str(error))
    else:
        raise AssertionError("no error")

source = big / "source"
source.write_bytes(b"n" * 2_000_000)
must_be_full(lambda: store.put("new", b"n" * 2_000_000), "store/new", "2,000,000")
must_be_full(lambda: store.upload("new", source), "store/new", "2,000,000")
must_be_full(lambda: commit(store, "thing", {"a": b"a" * 1000, "b": source}, {}), "store/thing/b")
elsewhere = LocalStore(big / "store")
elsewhere.upload("big", source)
must_be_full(lambda: elsewhere.download("big", small / "out"), "/out", "2,000,000")
assert read_manifest(store, "thing") is None
assert store.stat("new") is None
assert store.get("old") == b"o" * 100_000
left = sorted(p.relative_to(small).as_posix() for p in small.rglob("*") if p.is_file())
assert left == ["store/old", "store/thing/a"], left
store.put("new", b"n" * 100_000)  # there is room for this
print("all well")
"""


def test_a_full_disk_is_named_and_nothing_is_half_there(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    (tmp_path / "big").mkdir()
    inside = f"mount -t tmpfs -o size=1m tmpfs {mount} && "
    trial = subprocess.run(["unshare", "-m", "sh", "-c", inside + "true"], capture_output=True, text=True, check=False)
    if trial.returncode != 0:
        pytest.skip(f"cannot mount a small disk here: {trial.stderr.strip()}")
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "sh",
            "-c",
            inside + 'exec "$@"',
            "sh",
            sys.executable,
            "-c",
            _ON_A_FULL_DISK,
            mount,
            tmp_path / "big",
        ],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    assert done.stdout == "all well\n", done.stderr
