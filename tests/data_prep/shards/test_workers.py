"""Work units written by several processes.

The same bytes, and no harm from whoever is killed, interrupted or there twice.
"""

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil
import pytest

from data_prep.config import Task
from data_prep.shards import progress, task_sources, worker_main, workers
from data_prep.shards.workers import LocalProcesses
from raytrain_core.errors import DataError, StorageError
from raytrain_core.storage import LocalStore, open_store
from tests.support import REPOSITORY
from tests.support.data_prep_bench import make_task, numbered
from tests.support.gated_store import DeadlyStore, GatedStore
from tests.support.preparing import ROWS_OF_A_UNIT, TASK

SCRIPT = REPOSITORY / "tests" / "support" / "preparing.py"
OLD = 1.5e9  # a file's time long ago: its fingerprint is trusted
PATIENCE = 120.0


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of seven rows, all of them made by other processes where there are some."""
    monkeypatch.setattr(task_sources, "ROWS_OF_A_UNIT", ROWS_OF_A_UNIT)
    monkeypatch.setattr(workers, "_LOCAL_EXAMPLES", 0)
    monkeypatch.setattr(workers, "_LOCAL_BYTES", 0)


@pytest.fixture
def task(bench):
    for name, rows in (("train", 40), ("validation", 9), ("test", 5)):
        path = bench.write(f"rows/{name}.jsonl", numbered(rows, 1000 * rows))
        os.utime(path, (OLD, OLD))
    return Task.model_validate(TASK)


@pytest.fixture
def expected(bench, task):
    return bench.prepare(task)


def contents(store):
    return {stat.key: store.get(stat.key) for stat in store.list("shards/")}


def start(bench, store, tokenizer, *gated, count=2, temporary=None, stderr=None):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(temporary or bench.folder)}
    command = [sys.executable, str(SCRIPT), str(bench.folder), str(store), str(tokenizer), str(count)]
    command += map(str, gated)
    return subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=stderr, text=True)


def wait_until(condition):
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("count", [2, 7])
def test_any_number_of_processes_makes_the_same_bytes(bench, task, expected, tmp_path, count):
    store = open_store(str(tmp_path / "parallel"))
    seen = []
    with LocalProcesses(count) as processes:
        assert bench.prepare(task, store=store, workers=processes, on_progress=seen.append) == expected
        started = [process.pid for process in processes._processes]
        assert os.getpgrp() not in map(os.getpgid, started)  # Ctrl-C at a terminal does not reach them
    assert len(started) == count
    assert not any(psutil.pid_exists(pid) for pid in started)
    assert contents(store) == contents(bench.store)
    assert (seen[-1].done, seen[-1].total) == (54, 54)


def test_few_examples_are_made_without_further_processes(bench, task, monkeypatch):
    monkeypatch.setattr(workers, "_LOCAL_EXAMPLES", 54)
    monkeypatch.setattr(workers, "_LOCAL_BYTES", 1 << 20)
    with LocalProcesses(2) as processes:
        bench.prepare(task, workers=processes)
        assert not processes._processes


def test_a_mistake_ends_it_with_its_own_sentence(bench, task, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with LocalProcesses(2) as processes, pytest.raises(StorageError, match="a file and a folder have the same name"):
        bench.prepare(task, store=Half(tmp_path / "store"), workers=processes)
    assert not any(process.poll() is None for process in processes._processes)


class Half(LocalStore):
    """Takes what its own process puts; elsewhere the folder for parts is a file."""

    def __reduce__(self):
        (self.root / "shards").mkdir(parents=True, exist_ok=True)
        (self.root / "shards/parts").touch()
        return LocalStore, (self.root,)


def test_an_interrupt_leaves_finished_items_and_the_next_run_makes_the_others(bench, task, expected, tmp_path):
    store = open_store(str(tmp_path / "parallel"))

    def stop(progress):
        if len(list(store.list("shards/units/"))) >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), LocalProcesses(2) as processes:
        bench.prepare(task, store=store, workers=processes, on_progress=stop)
    assert not any(process.poll() is None for process in processes._processes)
    assert not list(store.list("shards/tasks/"))
    times = {stat.key: stat.etag for stat in store.list("shards/parts/")}
    finished = len(list(store.list("shards/units/")))
    assert finished >= 2
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.shards.writer._encode", spy(made, "data_prep.shards.writer", "_encode"))
        assert bench.prepare(task, store=store) == expected
    assert len(made) == 6 + 2 + 1 - finished
    assert {stat.key: stat.etag for stat in store.list("shards/parts/")}.items() >= times.items()  # none put again
    assert contents(store) == contents(bench.store)


def spy(calls, module, name):
    function = getattr(sys.modules[module], name)

    def call(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return call


def test_a_killed_process_is_replaced(bench, task, expected, tmp_path):
    (tmp_path / "deaths").mkdir()
    store = DeadlyStore(tmp_path / "parallel", "shards/units/", 1, tmp_path / "deaths")
    with LocalProcesses(2) as processes:
        assert bench.prepare(task, store=store, workers=processes) == expected
    assert len(list((tmp_path / "deaths").iterdir())) == 1
    assert contents(store) == contents(bench.store)


def test_processes_that_are_killed_again_and_again_end_it_with_a_sentence(bench, task, tmp_path):
    (tmp_path / "deaths").mkdir()
    store = DeadlyStore(tmp_path / "parallel", "shards/units/", 100, tmp_path / "deaths")
    with LocalProcesses(2) as processes, pytest.raises(DataError, match="killed twice at the same rows") as caught:
        bench.prepare(task, store=store, workers=processes)
    assert "resources.preparation.cpus" in caught.value.hint
    assert not list(store.list("shards/tasks/"))


def test_processes_end_with_the_one_that_started_them(bench, task, expected, base_folder, tmp_path):
    gate, temporary = tmp_path / "gate", tmp_path / "temporary"
    gate.mkdir()
    temporary.mkdir()
    store = GatedStore(tmp_path / "parallel", "shards/units/", gate)
    said = tmp_path / "said"
    gated = (store.gated, gate)
    with (
        said.open("w") as stderr,
        start(bench, store.root, base_folder, *gated, temporary=temporary, stderr=stderr) as process,
    ):
        wait_until(store.waiting)
        children = psutil.Process(process.pid).children()
        process.kill()
    assert children
    store.open()
    wait_until(lambda: not any(child.is_running() for child in children))
    assert said.read_text() == ""  # they have an answer to give to nobody, and end without a word
    assert not list(store.list("shards/tasks/"))
    assert list(temporary.iterdir())
    with start(bench, store.root, base_folder, temporary=temporary) as process:
        assert process.communicate()[0].strip() == expected.digest
    assert list(temporary.iterdir()) == []  # what was left is swept
    assert contents(LocalStore(store.root)) == contents(bench.store)


def test_two_at_once_help_each_other_and_do_no_harm(bench, task, expected, base_folder, tmp_path):
    store = tmp_path / "shared"
    processes = [start(bench, store, base_folder) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in processes] == [expected.digest] * 2
    assert [process.returncode for process in processes] == [0, 0]
    assert contents(LocalStore(store)) == contents(bench.store)


def test_only_what_is_added_is_prepared(bench, task, expected, monkeypatch):
    made = []
    monkeypatch.setattr("data_prep.shards.writer._encode", spy(made, "data_prep.shards.writer", "_encode"))
    again = bench.prepare(task, make_task(name="others", source={"uri": "rows"}))
    assert {unit.spec.task for unit, _ in made} == {"others"}
    assert again.tasks[0] == expected.tasks[0]


def test_storage_copied_at_every_write_can_be_gone_on_with(bench, tmp_path, monkeypatch):
    """What a power cut leaves: the folder as it is before each file gets its name."""
    from raytrain_core.storage import local

    for name in ("train", "validation", "test"):
        path = bench.write(f"few/{name}.jsonl", numbered(9 if name == "train" else 2))
        os.utime(path, (OLD, OLD))
    task = make_task(source={"uri": "few"}, templates_per_example=1)
    expected = bench.prepare(task)
    give_name, copies, one_at_a_time = local._name, [], threading.Lock()

    def copy_if_there(source, target):
        with suppress(FileNotFoundError):  # the unfinished file of another thread
            shutil.copy2(source, target)

    def copying(part, target, **options):
        with one_at_a_time:
            copies.append(tmp_path / f"copy-{len(copies)}")
            shutil.copytree(tmp_path / "cut", copies[-1], copy_function=copy_if_there)
            give_name(part, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(local, "_name", copying)
        bench.prepare(task, store=open_store(str(tmp_path / "cut")))
    assert len(copies) > 20
    for copy in copies:
        store = LocalStore(copy)
        assert store.sweep() == 0 or not list(store.list("shards/sets/"))
        assert bench.prepare(task, store=store) == expected
        done = {key: data for key, data in contents(store).items() if not key.startswith("shards/units/")}
        assert done == contents(bench.store)


def test_a_source_that_is_written_to_meanwhile_is_noticed(bench, task, monkeypatch):
    monkeypatch.setattr(progress, "_READ_ROWS", 20)
    path = bench.folder / "rows/train.jsonl"

    def write(progress):
        with path.open("a") as file:
            file.write('{"input": "x", "target": "y"}\n')

    with pytest.raises(DataError, match=r"rows/train\.jsonl was changed while it was read"):
        bench.prepare(task, on_progress=write)
    assert not list(bench.store.list("shards/tasks/"))


def test_parts_are_cut_by_their_text_too(bench, task, expected, monkeypatch, tmp_path):
    from data_prep.shards.reader import open_split
    from data_prep.shards.text_reader import read_rows

    monkeypatch.setattr(task_sources, "TEXT_OF_A_UNIT", 100)
    store = open_store(str(tmp_path / "cut"))
    shard_set = bench.prepare(task, store=store)
    for split, rows in (("train", 40), ("validation", 9)):
        sizes = [[pair.rows for pair in pairs] for pairs in shard_set.split("notes", split).parts]
        assert sizes[0] == sizes[-1]
        assert sum(sizes[0]) == rows
        assert max(sizes[0]) < ROWS_OF_A_UNIT
        here, there = (
            open_split(which, "notes", split, place, bench.cache)
            for which, place in ((shard_set, store), (expected, bench.store))
        )
        for example in range(rows):
            for variant in range(here.variants):
                assert here.tokens(example, variant)[0].tolist() == there.tokens(example, variant)[0].tolist()
        assert read_rows(shard_set, "notes", split, store, bench.cache, 5) == read_rows(
            expected, "notes", split, bench.store, bench.cache, 5
        )


def test_a_full_disk_in_a_process_is_said_in_words():
    error = worker_main._reported(OSError(errno.ENOSPC, "No space left on device", "/tmp/examples-1"))
    assert isinstance(error, StorageError)
    assert "TMPDIR" in error.hint
    with pytest.raises(RuntimeError, match=r"ZeroDivisionError.* in a preparation process"):
        raise worker_main._reported(ZeroDivisionError("x"))
