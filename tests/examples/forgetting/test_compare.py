"""The jobs of the comparison are derived from the quickstart's and differ only where intended."""

from pathlib import Path

import pytest

from examples.forgetting import compare, runs
from examples.quickstart.rows import PROBES, TASKS
from raytrain.config.load import load_job

QUICKSTART = load_job(runs.QUICKSTART).job


@pytest.fixture(scope="module")
def jobs():
    return {run.name: load_job(runs.JOBS / f"{run.name}.yaml").job for run in runs.RUNS}


@pytest.mark.parametrize("run", runs.RUNS, ids=lambda run: run.name)
def test_the_job_files_are_up_to_date(run):
    assert (runs.JOBS / f"{run.name}.yaml").read_text() == runs.job_yaml(run)


def test_there_are_no_other_job_files():
    assert {path.stem for path in runs.JOBS.iterdir()} == {run.name for run in runs.RUNS} | {"guards"}


def test_model_and_sources_are_those_of_the_quickstart(jobs):
    for job in jobs.values():
        assert (runs.JOBS / job.spec.model).resolve() == (runs.QUICKSTART.parent / QUICKSTART.spec.model).resolve()
        for theirs, ours in zip(QUICKSTART.spec.tasks, job.spec.tasks, strict=False):
            assert theirs.name == ours.name
            assert theirs.templates == ours.templates
            for split in theirs.source.splits or {"uri": None}:
                one, two = (t.source.splits[split] if t.source.splits else t.source.uri for t in (theirs, ours))
                assert (runs.QUICKSTART.parent / one).resolve() == (runs.JOBS / two).resolve()


def test_each_job_trains_on_its_tasks(jobs):
    trained = {name: [task.name for task in job.spec.trained_tasks] for name, job in jobs.items()}
    assert trained == {
        "alone": ["summaries"],
        "mixture": list(TASKS),
        "rehearse-others": [*TASKS, "other-skills"],
        "rehearse-all": [*TASKS, "all-skills"],
    }
    for job in jobs.values():
        assert set(PROBES) <= {task.name for task in job.spec.tasks if task.probe}
        assert job.spec.evaluation.select == "last"
    for name in ("rehearse-others", "rehearse-all"):
        assert sum(jobs[name].spec.mixture.weights.values()) == pytest.approx(1)


def test_training_differs_only_in_its_steps(jobs):
    assert jobs["mixture"].spec.training == QUICKSTART.spec.training
    assert jobs["rehearse-all"].spec.training == jobs["rehearse-others"].spec.training == QUICKSTART.spec.training
    alone = jobs["alone"].spec.training
    assert alone.steps < QUICKSTART.spec.training.steps / 2
    same = {"steps": 1, "warmup_steps": 1}
    assert alone.model_copy(update=same) == QUICKSTART.spec.training.model_copy(update=same)


def test_an_unknown_run_is_an_error(capsys):
    with pytest.raises(SystemExit) as stop:
        compare.main(["alown"])
    assert stop.value.code == 2
    assert "there is no run alown; the runs are alone," in capsys.readouterr().err


def test_a_missing_world_names_the_command_that_creates_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "QUICKSTART", Path(tmp_path))
    assert compare.main(["--out", str(tmp_path / "out")]) == 2
    assert "python -m examples.quickstart.world" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_stops_at_the_first_run_that_fails(tmp_path, monkeypatch):
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "world.json").touch()
    monkeypatch.setattr(compare, "QUICKSTART", Path(tmp_path))
    called = []

    class Done:
        returncode = 4

    monkeypatch.setattr(compare.subprocess, "run", lambda command, check: called.append(command) or Done)
    assert compare.main(["--out", str(tmp_path / "out"), "mixture", "alone"]) == 4
    assert len(called) == 1
    assert called[0][-3:] == [str(runs.JOBS / "mixture.yaml"), "--storage", str(tmp_path / "out")]
