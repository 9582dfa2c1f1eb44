import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raytrain.config.run_layout import RunLayout
from raytrain.telemetry.attempts import Attempt, SupersededError, read_attempts
from raytrain_core.errors import ExitCode
from raytrain_core.storage import CorruptError, LocalStore
from raytrain_core.storage.commit import commit, read_manifest

LAYOUT = RunLayout("demo")


def test_attempts_are_numbered_and_recorded(any_store):
    first = Attempt.begin(any_store, LAYOUT, {"versions": {"ray": "2.60"}})
    second = Attempt.begin(any_store, LAYOUT)
    assert (first.number, second.number) == (1, 2)
    records = read_attempts(any_store, LAYOUT)
    assert [record["attempt"] for record in records] == [1, 2]
    assert records[0]["versions"] == {"ray": "2.60"}
    assert records[0]["pid"] == os.getpid()


def test_concurrent_starters_get_different_numbers(any_store):
    with ThreadPoolExecutor(8) as pool:
        attempts = list(pool.map(lambda _: Attempt.begin(any_store, LAYOUT), range(8)))
    assert sorted(attempt.number for attempt in attempts) == list(range(1, 9))
    newest = max(attempts, key=lambda attempt: attempt.number)
    newest.check()
    for attempt in attempts:
        assert attempt.superseded() == (attempt is not newest)


def test_concurrent_processes_get_different_numbers(tmp_path):
    script = (
        "import sys; from pathlib import Path\n"
        "from raytrain_core.storage import LocalStore\n"
        "from raytrain.config.run_layout import RunLayout\n"
        "from raytrain.telemetry.attempts import Attempt\n"
        "sys.stdin.readline()\n"
        "print(Attempt.begin(LocalStore(Path(sys.argv[1])), RunLayout('demo')).number)\n"
    )
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        )
        for _ in range(4)
    ]
    try:
        for starter in starters:  # all of them wait at the line by now or come to it soon
            starter.stdin.write("go\n")
            starter.stdin.flush()
        numbers = sorted(int(starter.communicate()[0]) for starter in starters)
    finally:
        for starter in starters:
            starter.kill()
            starter.wait()
    assert numbers == [1, 2, 3, 4]


def test_a_superseded_attempt_says_who_took_over(any_store):
    older = Attempt.begin(any_store, LAYOUT)
    older.check()
    newer = Attempt.begin(any_store, LAYOUT)
    with pytest.raises(SupersededError) as error:
        older.check()
    record = read_attempts(any_store, LAYOUT)[1]
    assert "run demo: attempt 2 on" in error.value.message
    assert record["host"] in error.value.message
    assert str(record["pid"]) in error.value.message
    assert error.value.exit_code == ExitCode.TRAINING == 6
    newer.check()
    pickle.loads(pickle.dumps(newer)).check()
    assert pickle.loads(pickle.dumps(error.value)).message == error.value.message


def test_a_superseded_attempt_commits_nothing(tmp_path):
    store = LocalStore(tmp_path)
    older = Attempt.begin(store, LAYOUT)
    Attempt.begin(store, LAYOUT)
    with pytest.raises(SupersededError):
        commit(store, LAYOUT.checkpoint(5, older.number), {"model": b"m"}, {}, guard=older.check)
    assert read_manifest(store, LAYOUT.checkpoint(5, older.number)) is None


def test_a_fresh_start_supersedes_even_with_the_same_number(tmp_path):
    store = LocalStore(tmp_path)
    older = Attempt.begin(store, LAYOUT)
    store.delete([stat.key for stat in store.list(f"{LAYOUT.root}/")])
    with pytest.raises(SupersededError, match="a fresh start took over"):
        older.check()
    newer = Attempt.begin(store, LAYOUT)
    assert newer.number == older.number == 1
    with pytest.raises(SupersededError, match="a fresh start on"):
        older.check()
    newer.check()


def test_numbers_are_compared_as_numbers_and_runs_are_apart(tmp_path):
    store = LocalStore(tmp_path)
    for number in (9, 99, 100):
        store.put(LAYOUT.attempt(number), json.dumps({"attempt": number}).encode())
    store.put(RunLayout("demo-two").attempt(500), b"{}")
    assert Attempt.begin(store, LAYOUT).number == 101
    assert [record["attempt"] for record in read_attempts(store, LAYOUT)] == [9, 99, 100, 101]


@pytest.mark.parametrize("text", [b"", b"[]", b"{"])
def test_a_damaged_record_is_named(tmp_path, text):
    store = LocalStore(tmp_path)
    store.put(LAYOUT.attempt(1), text)
    with pytest.raises(CorruptError, match=r"attempts/a01\.json"):
        read_attempts(store, LAYOUT)
