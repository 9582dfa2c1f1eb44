"""Runs of a sweep as processes: one sweep at a time, why a run failed, and how many fit."""

import os
import signal
import subprocess

import pytest

from raytrain.config.resources import Resources
from raytrain.sweeps.local_runs import LocalRuns, fitting, reason_of, shares_of
from raytrain_core.errors import UsageError
from raytrain_core.storage import StorageLocation, open_store
from tests.support.sweep_runs import tiny_sweep


def runs_in(folder, name="guards", at_once=1):
    store = open_store(str(folder))
    return LocalRuns(store, StorageLocation(uri=store.uri), folder, name, at_once=at_once)


def test_a_second_process_does_not_go_on_with_the_same_sweep(tmp_path):
    first, second = runs_in(tmp_path), runs_in(tmp_path)
    with first.alone(), pytest.raises(UsageError, match=r"process \d+ is running this sweep already"), second.alone():
        pass
    with second.alone():
        pass  # the first has ended


def test_sweeps_of_one_name_in_two_storages_share_no_files(tmp_path):
    here, there = runs_in(tmp_path / "here"), runs_in(tmp_path / "there")
    assert here.folder != there.folder
    with here.alone(), there.alone():
        pass


def test_processors_are_divided_among_the_runs(tmp_path, monkeypatch):
    """Otherwise each starts a thread for every processor, and a step takes seven times as long."""
    assert shares_of({3, 1, 5, 8, 9}, 2) == [{1, 5, 9}, {3, 8}]
    assert shares_of({3, 1}, 3) == [{1}, {3}, {1}]
    started, start = [], subprocess.Popen

    def idle(command, **options):
        started.append(start(["sleep", "60"], start_new_session=True))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", idle)
    runs, job = runs_in(tmp_path, at_once=2), tiny_sweep(tmp_path, "  parameters: {training.anchor: {values: [1]}}").job
    try:
        with runs.alone():
            for number in (0, 1):
                named = job.metadata.model_copy(update={"name": f"run-{number}"})
                runs.start(job.model_copy(update={"metadata": named}))
            shares = [os.sched_getaffinity(one.pid) for one in started]
            assert shares == shares_of(os.sched_getaffinity(0), 2)
            started[1].kill()
            started[1].wait()
            runs.start(job)
            assert os.sched_getaffinity(started[2].pid) == shares[1], "the share that became free"
    finally:
        for one in started:
            one.kill()
            one.wait()


def test_the_reason_of_a_failure_is_the_last_error_that_was_printed(tmp_path):
    log = tmp_path / "run.log"
    log.write_text("preparing\nerror: job.yaml:3:1: no such model\n  Look at the spelling\n")
    assert reason_of(2, log) == "job.yaml:3:1: no such model Look at the spelling"
    log.write_text("")
    assert reason_of(7, log) == "exit code 7"
    assert reason_of(-signal.SIGKILL, log) == "killed by SIGKILL (out of memory?)"


@pytest.mark.parametrize(("processors", "gpus", "most"), [(2, 0, 1), (8, 0, 4), (1, 0, 1), (64, 3, 3)])
def test_as_many_runs_as_the_machine_holds(processors, gpus, most):
    resources = Resources.model_validate(
        {"training": {"workers": 1, "cpus": 1}, "evaluation": {"actors": 1, "cpus": 1}}
    )
    assert fitting(resources, processors=processors, gpus=gpus) == most
