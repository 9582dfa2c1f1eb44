"""A bucket of 1,000 objects is listed and read with few requests at a time."""

import json
import threading
from pathlib import Path

import pytest

from data_prep.shards import task_sources, workers
from data_prep.shards.workers import LocalProcesses
from raytrain_core.storage import open_store
from tests.support.data_prep_bench import make_task


class Counted:
    """A store in the place of a bucket that counts the downloads that are open at the same time."""

    def __init__(self, folder, objects):
        self._store, self._lock, self.objects = open_store(str(folder)), threading.Lock(), objects
        self.open = self.most_open = self.downloads = self.listings = 0

    def __getattr__(self, name):
        return getattr(self._store, name)

    def __getstate__(self):
        return {"_store": self._store, "open": 0, "most_open": 0, "downloads": 0}

    def __setstate__(self, state):
        self.__dict__ |= state | {"_lock": threading.Lock()}

    def list(self, prefix=""):
        self.listings += 1
        return self._store.list(prefix)

    def download(self, key, path):
        with self._lock:
            self.open += 1
            self.downloads += 1
            self.most_open = max(self.most_open, self.open)
        try:
            self._store.download(key, path)
        finally:
            with self._lock:
                self.open -= 1


@pytest.fixture(params=[60, pytest.param(1000, marks=pytest.mark.slow)])
def bucket(request, tmp_path, monkeypatch):
    """Objects of three rows each."""
    folder = tmp_path / "bucket"
    (folder / "d").mkdir(parents=True)
    for number in range(request.param):
        rows = [{"input": f"{number} {i}", "target": f"t{number}"} for i in range(3)]
        Path(folder / f"d/{number:04}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    counted = Counted(folder, request.param)
    monkeypatch.setattr("data_prep.sources.task_files.open_like", lambda *_: counted)
    monkeypatch.setattr(task_sources.TaskSources, "_memory_of", lambda self, file, fingerprint: None)
    return counted


def test_many_objects_are_read_with_at_most_eight_downloads_at_a_time(bench, bucket, monkeypatch):
    monkeypatch.setattr(workers, "_LOCAL_BYTES", 0)
    with LocalProcesses(2) as processes:
        found = bench.prepare(make_task(source={"uri": "s3://bucket/d"}), workers=processes)
    (task,) = found.tasks
    assert sum(split.examples for split in task.splits.values()) == 3 * bucket.objects
    assert len(task.provenance["sources"]) == bucket.objects
    assert bucket.most_open <= task_sources.AT_ONCE
    assert bucket.downloads == bucket.objects  # each once: workers read what this process has downloaded
    assert bucket.listings <= 2
