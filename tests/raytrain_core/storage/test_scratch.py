"""Scratch folders go at the end, and after a kill with the next sweep."""

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from raytrain_core.errors import StorageError
from raytrain_core.storage.scratch import full_disk, scratch, sweep

_HOLDER = """
import sys
from pathlib import Path
from raytrain_core.storage.scratch import scratch
with scratch("test", folder=Path(sys.argv[1])) as folder:
    (folder / "sub").mkdir()
    (folder / "sub" / "file").write_text("half")
    print(folder, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_folder_is_there_until_the_end_whatever_the_end(temporary):
    def use_and_fail():
        with scratch("test") as folder:
            assert folder.parent == temporary
            assert list(folder.iterdir()) == []
            (folder / "file").write_text("something")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use_and_fail()
    assert list(temporary.iterdir()) == []


def test_two_have_folders_of_their_own_and_a_sweep_leaves_them_alone(temporary, tmp_path):
    with scratch("test") as one, scratch("test") as two, scratch("test", folder=tmp_path / "cache") as three:
        assert len({one, two, three}) == 3
        assert sweep(tmp_path / "cache") == 0
        assert all(folder.is_dir() for folder in (one, two, three))


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_holds_is_not(temporary, tmp_path):
    cache = tmp_path / "cache"
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(cache)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    try:
        folder = Path(holder.stdout.readline().strip())
        assert (folder / "sub" / "file").exists()
        assert sweep(cache) == 0
        assert (folder / "sub" / "file").exists()
    finally:
        holder.kill()
        holder.communicate()
    assert folder.is_dir()
    assert sweep() == 0  # not one of its folders
    assert sweep(cache, tmp_path / "not-there") == 1
    assert list(cache.iterdir()) == []


def test_only_scratch_folders_are_swept(temporary, tmp_path):
    name = f"raytrain-test-{uuid4().hex}.scratch"
    (tmp_path / "precious").mkdir()
    (temporary / name).symlink_to(tmp_path / "precious")
    (temporary / f"raytrain-test-{uuid4().hex}.scratch").write_text("a file")
    (temporary / "raytrain-test").mkdir()
    (temporary / f"x-{name}").mkdir()
    assert sweep() == 0
    assert len(list(temporary.iterdir())) == 4
    assert (tmp_path / "precious").is_dir()


def test_who_gives_the_same_token_shares_a_folder_and_the_last_one_removes_it(temporary):
    token = uuid4().hex
    with scratch("test", token=token) as one:
        with scratch("test", token=token) as two:
            assert one == two
            (two / "file").write_text("ours")
        assert (one / "file").read_text() == "ours"
        assert sweep() == 0
    assert list(temporary.iterdir()) == []


def test_a_sweep_at_the_same_time_takes_nothing_from_anybody(temporary):
    def use(number):
        with scratch("test", token=f"{number % 3:032x}" if number % 2 else None) as folder:
            (folder / f"{number}").write_text("mine")
            return (folder / f"{number}").read_text()

    with ThreadPoolExecutor(8) as pool:
        sweeps = [pool.submit(sweep) for _ in range(100)]
        assert list(pool.map(use, range(200))) == ["mine"] * 200
        for one in sweeps:
            one.result()
    assert list(temporary.iterdir()) == []


def test_a_folder_created_again_meanwhile_is_not_the_one_that_was_opened(temporary, monkeypatch):
    """Between opening and locking a folder, another process removes it and creates it again."""
    token, lock = uuid4().hex, fcntl.flock
    path = temporary / f"raytrain-test-{token}.scratch"
    path.mkdir()
    folders = []

    def late(descriptor, how):
        if how & fcntl.LOCK_EX and not folders:
            path.rmdir()
            folders.append(scratch("test", token=token))
            (folders[0].__enter__() / "file").write_text("ours")
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert sweep() == 0
    assert (path / "file").read_text() == "ours"
    folders[0].__exit__(None, None, None)
    assert not path.exists()


def test_no_room_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(StorageError, match="cannot create a scratch folder"),
        scratch("test", folder=tmp_path / "file"),
    ):
        pass


def test_a_full_disk_is_a_sentence_with_its_place(temporary):
    unnamed, named = (
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Quota", "/data/x"),
    )
    assert full_disk(unnamed).message == f"{temporary}: No space left on device"
    assert full_disk(named).message == "/data/x: Quota"
    assert full_disk(OSError(errno.ENOENT, "not there")) is None
    assert full_disk(ValueError()) is None
