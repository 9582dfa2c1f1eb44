import json
import threading

import pytest

from raytrain.config.run_layout import RunLayout
from raytrain.telemetry.attempts import Attempt
from raytrain.telemetry.progress import PHASES, Progress, ProgressWriter, TaskScore, read_progress
from raytrain_core.errors import StorageError
from raytrain_core.storage import CorruptError, LocalStore

LAYOUT = RunLayout("demo")
NEVER = 3600.0


def test_progress_is_written_and_read(any_store):
    assert read_progress(any_store, LAYOUT) is None
    attempt = Attempt.begin(any_store, LAYOUT)
    with ProgressWriter(attempt, seconds=NEVER, steps=100) as writer:
        writer.update(phase="Training", step=5, loss=1.5, dashboard="http://127.0.0.1:8265")
        writer.score("tickets", "rougeL", before=0.1)
        writer.score("tickets", "rougeL", now=0.2)
    progress = read_progress(any_store, LAYOUT)
    assert progress.phase == "Training"
    assert progress.step == 5
    assert progress.steps == 100
    assert progress.scores == {"tickets": TaskScore("rougeL", before=0.1, now=0.2)}
    assert progress.updated.endswith("+00:00")
    keys = {
        "run", "attempt", "phase", "step", "steps", "tokens", "tokens_per_second", "eta_seconds", "loss", "scores",
        "message", "dashboard", "report", "links", "checkpointed", "updated",
    }  # fmt: skip
    assert set(json.loads(any_store.get(LAYOUT.progress))) == keys


def test_forced_progress_is_there_on_return_and_the_rest_waits(tmp_path):
    store = LocalStore(tmp_path)
    writer = ProgressWriter(Attempt.begin(store, LAYOUT), seconds=NEVER)
    try:
        for phase in PHASES:
            writer.update(phase=phase, force=True)
            assert read_progress(store, LAYOUT).phase == phase
        for step in range(50):
            writer.update(step=step)
        assert read_progress(store, LAYOUT).step == 0  # within the interval
        assert writer.progress.step == 49
    finally:
        writer.close()
    assert read_progress(store, LAYOUT).step == 49


def test_storage_errors_neither_raise_nor_block(tmp_path, caplog):
    store = LocalStore(tmp_path)
    attempt = Attempt.begin(store, LAYOUT)
    stuck, go_on = threading.Event(), threading.Event()

    class Slow:
        uri = store.uri
        get, list = store.get, store.list

        def put(self, key, data, *, if_absent=False):
            stuck.set()
            assert go_on.wait(60)
            raise StorageError("no room")

    writer = ProgressWriter(Attempt(Slow(), LAYOUT, attempt.number, attempt.token), seconds=0)
    writer.update(step=1)
    assert stuck.wait(60)
    writer.update(step=2)  # returns although the store hangs
    assert writer.progress.step == 2
    go_on.set()
    assert writer.flush() is False
    assert writer.close() is False
    assert "progress could not be stored and will be retried: no room" in caplog.text
    assert caplog.text.count("could not be stored") == 1


def test_a_superseded_attempt_leaves_the_file_to_the_newer_one(tmp_path):
    store = LocalStore(tmp_path)
    older = ProgressWriter(Attempt.begin(store, LAYOUT), seconds=0)
    older.update(step=7, force=True)
    with ProgressWriter(Attempt.begin(store, LAYOUT), seconds=0) as newer:
        newer.update(step=3, force=True)
        older.update(step=8, phase="Failed", force=True)
        older.close()
        progress = read_progress(store, LAYOUT)
        assert (progress.attempt, progress.step, progress.phase) == (2, 3, "Preparing")


def test_what_is_not_a_number_becomes_null(tmp_path):
    progress = Progress(
        "demo", 1, loss=float("nan"), eta_seconds=float("inf"), scores={"t": TaskScore("f1", float("nan"))}
    )
    document = json.loads(json.dumps(progress.to_json(), allow_nan=False))
    assert document["loss"] is None
    assert document["eta_seconds"] is None
    assert Progress.from_json(document).scores == {"t": TaskScore("f1", None)}


def test_what_a_newer_version_added_is_ignored(tmp_path):
    store = LocalStore(tmp_path)
    document = Progress("demo", 1, scores={"t": TaskScore("f1", 0.5)}).to_json() | {"new": 1}
    document["scores"]["t"]["newer"] = 2
    store.put(LAYOUT.progress, json.dumps(document).encode())
    assert read_progress(store, LAYOUT).scores["t"].before == 0.5


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"{}", b'{"run": "x", "attempt": 1, "phase": "Sleeping"}'])
def test_what_is_no_progress_is_named(tmp_path, text):
    store = LocalStore(tmp_path)
    store.put(LAYOUT.progress, text)
    with pytest.raises(CorruptError, match=r"progress\.json"):
        read_progress(store, LAYOUT)


def test_secrets_of_the_environment_are_masked(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_canarycanary")
    store = LocalStore(tmp_path)
    with ProgressWriter(Attempt.begin(store, LAYOUT)) as writer:
        writer.update(phase="Failed", message="ValueError: hf_canarycanary is no good")
    assert read_progress(store, LAYOUT).message == "ValueError: *** is no good"


def test_a_run_that_does_one_thing_for_long_keeps_saying_that_it_lives(tmp_path):
    class Counting(LocalStore):
        def put(self, key, data, *, if_absent=False):
            super().put(key, data, if_absent=if_absent)
            written.append(data)
            if len(written) == 3:
                enough.set()

    written, enough = [], threading.Event()
    attempt = Attempt.begin(LocalStore(tmp_path), LAYOUT)
    store = Counting(tmp_path)
    with ProgressWriter(Attempt(store, LAYOUT, attempt.number, attempt.token), heartbeat=0.01) as writer:
        writer.update(phase="ScoringBefore")  # and nothing more
        assert enough.wait(60)
    assert all(json.loads(data)["phase"] == "ScoringBefore" for data in written)
    assert not any(thread.name == "store-progress" for thread in threading.enumerate())  # closed is closed
