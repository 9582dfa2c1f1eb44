import multiprocessing
import os
import pickle
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from raytrain_core.errors import UsageError
from raytrain_core.storage import CorruptError, LocalStore, NotFoundError
from raytrain_core.storage.cache import Cache
from raytrain_core.storage.store import sha256_of
from tests.support import caching


class Remote:
    """A store that is not this machine's disk, and counts its downloads."""

    uri = "remote://"

    def __init__(self, folder):
        self._store = LocalStore(folder)
        self.downloads = []

    def put(self, key, data):
        self._store.put(key, data)
        return sha256_of(data)

    def download(self, key, path, *, sha256=None):
        self.downloads.append(key)
        self._store.download(key, path, sha256=sha256)


@pytest.fixture
def remote(tmp_path):
    return Remote(tmp_path / "remote")


def _age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_an_object_is_downloaded_once(remote, tmp_path):
    sha256 = remote.put("k", b"hello")
    cache = Cache(tmp_path / "cache", 1000)
    path = cache.fetch(remote, "k", sha256)
    assert path.read_bytes() == b"hello"
    assert cache.fetch(remote, "other/key/same/bytes", sha256) == path
    assert pickle.loads(pickle.dumps(cache)).fetch(remote, "k", sha256) == path
    assert remote.downloads == ["k"]


def test_of_many_at_once_one_downloads(remote, tmp_path):
    sha256 = remote.put("k", b"x" * 100_000)
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: Cache(tmp_path / "cache", 10**6).fetch(remote, "k", sha256), range(8)))
    assert len(set(paths)) == 1
    assert remote.downloads == ["k"]


def test_the_longest_unused_go_first(remote, tmp_path):
    cache = Cache(tmp_path / "cache", 250)
    digests = [remote.put(f"k{n}", bytes([n]) * 100) for n in range(4)]
    paths = [cache.fetch(remote, f"k{n}", digests[n]) for n in (0, 1)]
    _age(paths[0], 2000)
    _age(paths[1], 3000)
    cache.fetch(remote, "k0", digests[0])  # used again
    _age(paths[0], 1500)
    paths.append(cache.fetch(remote, "k2", digests[2]))
    assert [path.exists() for path in paths] == [True, False, True]
    # what was handed out a moment ago stays, even beyond the limit
    paths.append(cache.fetch(remote, "k3", digests[3]))
    assert [path.exists() for path in paths] == [False, False, True, True]
    assert sum(path.stat().st_size for path in (tmp_path / "cache").glob("??/*")) <= 250


def test_a_mapped_file_survives_its_removal(remote, tmp_path):
    import mmap

    sha256 = remote.put("k", b"a" * 5000)
    path = Cache(tmp_path / "cache", 10).fetch(remote, "k", sha256)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        _age(path, 5000)
        Cache(tmp_path / "cache", 10).fetch(remote, "other", remote.put("other", b"b" * 100))
        assert not path.exists()
        assert mapped[:] == b"a" * 5000


def test_other_bytes_than_asked_for_do_not_get_in(remote, tmp_path):
    remote.put("k", b"other")
    with pytest.raises(CorruptError):
        Cache(tmp_path / "cache", 1000).fetch(remote, "k", sha256_of(b"wanted"))
    assert not list((tmp_path / "cache").glob("??/*"))
    with pytest.raises(UsageError):
        Cache(tmp_path / "cache", 1000).fetch(remote, "k", "../../etc/passwd")


def test_a_local_store_gives_its_own_files_verified(tmp_path):
    store = LocalStore(tmp_path / "store")
    store.put("part", b"data")
    cache = Cache(tmp_path / "cache", 0)
    assert cache.fetch(store, "part", sha256_of(b"data")) == tmp_path / "store" / "part"
    assert not (tmp_path / "cache").exists()
    (tmp_path / "store" / "part").write_bytes(b"dat4!")
    with pytest.raises(CorruptError, match="part"):
        cache.fetch(store, "part", sha256_of(b"data"))
    with pytest.raises(NotFoundError):
        cache.fetch(store, "nothing", sha256_of(b"data"))


@pytest.fixture
def processes():
    """How further processes are started: from one that has everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["caching"])
    return context


def test_of_four_processes_one_downloads_each_object(tmp_path, processes):
    (tmp_path / "notes").mkdir()
    store = LocalStore(tmp_path / "remote")
    digests = {}
    for n in range(20):
        data = bytes([n]) * 200_000
        store.put(f"k{n}", data)
        digests[f"k{n}"] = sha256_of(data)
    start = processes.Barrier(4)
    remote = caching.Remote(tmp_path / "remote", tmp_path / "notes")
    arguments = (remote, tmp_path / "cache", 10**8, digests, start)
    running = [processes.Process(target=caching.fetch_all, args=arguments) for _ in range(4)]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0] * 4
    downloads = [path.name.partition("-")[0] for path in (tmp_path / "notes").iterdir()]
    assert sorted(downloads) == sorted(digests)
    assert {path.name for path in (tmp_path / "cache").glob("??/*")} == set(digests.values())


def test_what_a_killed_downloader_left_goes(tmp_path, processes):
    (tmp_path / "notes").mkdir()
    LocalStore(tmp_path / "remote").put("k", b"x" * 1000)
    digests = {"k": sha256_of(b"x" * 1000)}
    for deadly, code in ((True, -signal.SIGKILL), (False, 0)):
        remote = caching.Remote(tmp_path / "remote", tmp_path / "notes", deadly)
        arguments = (remote, tmp_path / "cache", 10**6, digests, processes.Barrier(1))
        process = processes.Process(target=caching.fetch_all, args=arguments)
        process.start()
        process.join(60)
        assert process.exitcode == code
        files = list((tmp_path / "cache").glob("??/*"))
        assert [path.name.endswith(".part") for path in files] == [deadly]
    assert files[0].read_bytes() == b"x" * 1000


@pytest.mark.s3
def test_from_a_bucket(s3_uri, tmp_path):
    from raytrain_core.storage import open_store

    store = open_store(s3_uri)
    store.put("part", b"data")
    path = Cache(tmp_path / "cache", 1000).fetch(store, "part", sha256_of(b"data"))
    assert path.read_bytes() == b"data"
    store.delete(["part"])
    assert Cache(tmp_path / "cache", 1000).fetch(store, "part", sha256_of(b"data")) == path
