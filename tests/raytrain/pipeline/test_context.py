"""The identity that a run keeps under its name, and which attempt may write it."""

from pathlib import Path

import pytest

from raytrain.config.load import load_job
from raytrain.config.run_layout import RunLayout
from raytrain.pipeline import stages
from raytrain.pipeline.context import open_run, refuse_another_identity
from raytrain.runs.record import read_record
from raytrain.telemetry.attempts import SupersededError
from raytrain.telemetry.console import Console
from raytrain.telemetry.progress import read_progress
from raytrain_core.errors import DataError, UsageError
from raytrain_core.storage import open_store
from tests.support.tiny_job import write_job

LAYOUT = RunLayout("tiny")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path / "cache"))
    return write_job(tmp_path), open_store(str(tmp_path / "storage"))


def opened(job_file: Path, store, *, fresh: bool = False):
    loaded = load_job(job_file)
    return open_run(loaded.job, store, LAYOUT, loaded.base_folder, Console(interactive=False), fresh=fresh)


def changed(job_file: Path, old: str, new: str) -> Path:
    text = job_file.read_text()
    assert old in text
    job_file.write_text(text.replace(old, new))
    return job_file


def test_a_mistake_found_while_preparing_may_be_corrected_under_the_same_name(place) -> None:
    job_file, store = place
    changed(job_file, "input: words", "input: wrods")
    with pytest.raises(DataError, match="wrods"), opened(job_file, store) as context:
        stages.prepare(context, stages.fetch_model(context))
    assert read_progress(store, LAYOUT).phase == "Failed"
    assert store.stat(LAYOUT.live_report) is None
    store.put(LAYOUT.live_report, b"a page from before")
    with pytest.raises(KeyboardInterrupt), opened(job_file, store):
        raise KeyboardInterrupt
    assert b"not finished: Interrupted" in store.get(LAYOUT.live_report)
    loaded = load_job(changed(job_file, "input: wrods", "input: words"))
    refuse_another_identity(store, LAYOUT, loaded.job)
    with opened(job_file, store) as context:
        stages.prepare(context, stages.fetch_model(context))
    assert read_record(store, LAYOUT).shard_set is not None
    with pytest.raises(UsageError, match="another identity"):
        refuse_another_identity(store, LAYOUT, load_job(changed(job_file, "seed: 5", "seed: 6")).job)


def test_rows_that_changed_since_the_start_are_refused(place) -> None:
    job_file, store = place
    with opened(job_file, store) as context:
        stages.prepare(context, stages.fetch_model(context))
    with (job_file.parent / "echo.jsonl").open("a") as file:
        file.write('{"words": "new row", "answer": "new"}\n')
    with (
        pytest.raises(DataError, match="its sources have changed since it started"),
        opened(job_file, store) as context,
    ):
        stages.prepare(context, stages.fetch_model(context))


def test_a_fresh_start_stops_the_older_driver_before_it_removes_anything(place) -> None:
    job_file, store = place

    def replace_the_older_run() -> None:
        with opened(job_file, store) as older:
            store.put(f"{LAYOUT.checkpoints}/step-000004-a01/manifest.json", b"{}")
            with opened(job_file, store, fresh=True):
                assert not list(store.list(f"{LAYOUT.checkpoints}/"))
                older.attempt.check()

    with pytest.raises(SupersededError):
        replace_the_older_run()
    assert read_progress(store, LAYOUT).attempt == 2


def test_an_interrupted_run_is_recorded_as_interrupted(place) -> None:
    job_file, store = place
    with pytest.raises(KeyboardInterrupt), opened(job_file, store):
        raise KeyboardInterrupt
    progress = read_progress(store, LAYOUT)
    assert progress.phase == "Interrupted"
    assert "resume" in progress.message


def test_a_resumed_run_continues_the_progress_of_the_previous_attempt(place) -> None:
    job_file, store = place

    def interrupt() -> None:
        with opened(job_file, store) as context:
            context.progress.update(step=7, tokens=700)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    with opened(job_file, store) as context:
        assert (context.progress.progress.step, context.progress.progress.tokens) == (7, 700)
