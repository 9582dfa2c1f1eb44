"""`raytrain status` shows how far scoring is behind training, from names in storage alone."""

import json

import pytest

from raytrain.cli import render
from raytrain.config.load import load_job
from raytrain.config.run_layout import RunLayout, stage_of_step
from raytrain.runs.record import RunRecord, write_record
from raytrain.runs.status import read_status
from raytrain_core.storage import open_store
from raytrain_core.storage.commit import commit
from tests.support.tiny_job import write_job

TASKS = ("echo", "stars", "first")
EVERY, LAST = 6, 12


class Run:
    """A run with a checkpoint every second step; every second one and the last should be scored."""

    def __init__(self, folder):
        text = write_job(folder, every=EVERY, steps=LAST).read_text()
        (folder / "job.yaml").write_text(text.replace("evaluation: {actors: 1}", "evaluation: {actors: 2, cpus: 0.5}"))
        self.job = load_job(folder / "job.yaml").job
        self.store, self.layout = open_store(str(folder / "storage")), RunLayout("tiny")
        write_record(self.store, self.layout, RunRecord(self.job, folder))

    def checkpoint(self, step):
        commit(self.store, self.layout.checkpoint(step, 1), {"x": b"x"}, {"step": step})

    def scores(self, step, *tasks):
        for task in tasks:
            commit(self.store, self.layout.scores(stage_of_step(step), task), {"x": b"x"}, {})

    def says(self, phase="Training"):
        progress = {"run": "tiny", "attempt": 1, "phase": phase, "updated": "2026-01-01T00:00:00+00:00"}
        self.store.put(self.layout.progress, json.dumps(progress).encode())
        found = read_status(self.store, "tiny")
        (line,) = [line for line in render.status(found).splitlines() if line.startswith("scored")]
        return found.evaluation, " ".join(line.split())


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_nothing_scored_yet(run):
    found, line = run.says()
    assert (found.scored, found.waiting) == (None, [])
    assert line == "scored none yet; 2 actors of 0.5 CPU"


def test_a_checkpoint_waits_until_all_its_tasks_are_scored(run):
    run.checkpoint(EVERY)
    run.scores(EVERY, *TASKS[:2])
    found, line = run.says()
    assert (found.scored, found.waiting) == (None, [EVERY])
    assert line == "scored none yet; 1 checkpoint waiting to be scored; 2 actors of 0.5 CPU"
    run.scores(EVERY, TASKS[2])
    found, line = run.says()
    assert (found.scored, found.waiting) == (EVERY, [])
    assert line == f"scored step {EVERY}; 2 actors of 0.5 CPU"


def test_only_those_that_are_to_be_scored_wait_and_the_last_always(run):
    for step in (EVERY - 2, EVERY, EVERY + 2, LAST):
        run.checkpoint(step)
    assert run.says()[0].waiting == [EVERY, LAST]
    run.scores(EVERY, *TASKS)
    found, line = run.says()
    assert found.waiting == [LAST]
    assert "1 checkpoint waiting to be scored" in line


def test_a_checkpoint_that_was_skipped_does_not_wait(run):
    """A newer one was scored: the older will not be."""
    run.checkpoint(EVERY)
    run.checkpoint(LAST)
    run.scores(LAST, *TASKS)
    assert run.says()[0].waiting == []


def test_of_a_run_that_has_ended_nothing_waits(run):
    run.checkpoint(EVERY)
    assert run.says("Complete")[0].waiting == []
