"""The page in the run's folder that fills up while the run goes on."""

import json
import threading

import pytest

from raytrain.pipeline.live_report import LiveReport, write_last_page
from raytrain.telemetry.attempts import Attempt
from raytrain_core.errors import StorageError
from raytrain_core.storage import open_store
from tests.raytrain.report.conftest import RunFolder


class Full:
    """A store that can be read, but not written."""

    def __init__(self, store):
        self._store, self.uri = store, store.uri

    def __getattr__(self, name):
        return getattr(self._store, name)

    def put(self, key, data, *, if_absent=False):
        raise StorageError("no space left")


@pytest.fixture
def run(tmp_path):
    return RunFolder(open_store(str(tmp_path / "storage")), rows=8, stages=("before",))


@pytest.fixture
def attempt(run):
    run.write()
    progress = {"run": run.name, "attempt": 1, "phase": "Training", "step": 400, "steps": run.steps}
    run.store.put(run.layout.progress, json.dumps(progress).encode())
    return Attempt.begin(run.store, run.layout)


def write_once(run, attempt, *, store=None):
    """Pokes once and waits for the page; returns the URIs that were told."""
    told, written = [], threading.Event()

    def on_written(uri):
        told.append(uri)
        written.set()

    with LiveReport(store or run.store, run.layout, attempt, on_written=on_written, seconds=0.0) as live:
        live.poke()
        written.wait(30)
    return told


def page(run):
    return run.store.get(run.layout.live_report).decode()


def test_the_page_fills_up_and_its_address_is_told(run, attempt):
    assert write_once(run, attempt) == [f"{run.store.uri}/runs/{run.name}/report.html"]
    first = page(run)
    assert "not finished: Training" in first
    assert 'data-live="30.0"' in first
    RunFolder(run.store, rows=8, stages=("checkpoints",)).write()
    write_once(run, attempt)
    assert page(run) != first
    assert "data-live" not in page(run)  # that run is complete: nothing more will come


def test_a_superseded_attempt_leaves_the_page_alone(run, attempt):
    Attempt.begin(run.store, run.layout)
    with LiveReport(run.store, run.layout, attempt, on_written=pytest.fail, seconds=0.0) as live:
        live.poke()
        assert live._background.flush()
    assert run.store.stat(run.layout.live_report) is None


def test_a_store_that_fails_is_logged_and_raises_nothing(run, attempt, caplog):
    with LiveReport(Full(run.store), run.layout, attempt, on_written=pytest.fail, seconds=0.0) as live:
        live.poke()
        assert not live._background.flush()
    assert "live report could not be stored and will be retried: no space left" in caplog.text


def test_an_attempt_that_ends_without_a_report_says_so_on_its_page(run, attempt, caplog):
    write_last_page(run.store, run.layout, attempt)
    assert run.store.stat(run.layout.live_report) is None, "nothing was scored, so there was no page"
    write_once(run, attempt)
    progress = {"run": run.name, "attempt": 1, "phase": "Failed", "step": 400, "steps": run.steps}
    run.store.put(run.layout.progress, json.dumps(progress).encode())
    write_last_page(run.store, run.layout, attempt)
    assert "not finished: Failed" in page(run)
    assert "data-live" not in page(run)
    write_last_page(Full(run.store), run.layout, attempt)
    assert "still shows it as it was before its end: no space left" in caplog.text
    Attempt.begin(run.store, run.layout)
    run.store.put(run.layout.live_report, b"of the newer attempt")
    write_last_page(run.store, run.layout, attempt)
    assert page(run) == "of the newer attempt"
