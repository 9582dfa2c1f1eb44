"""The jobs of the comparison: made from the quickstart's, and different in what they should be."""

from pathlib import Path

import pytest

import raytrain
from examples.forgetting import arms, compare
from examples.quickstart.rows import PROBES, TASKS

QUICKSTART = raytrain.load(arms.QUICKSTART)


@pytest.fixture(scope="module")
def jobs():
    return {arm.name: raytrain.load(arms.JOBS / f"{arm.name}.yaml") for arm in arms.ARMS}


@pytest.mark.parametrize("arm", arms.ARMS, ids=lambda arm: arm.name)
def test_the_jobs_are_those_made_from_the_quickstarts(arm):
    assert (arms.JOBS / f"{arm.name}.yaml").read_text() == arms.job_yaml(arm)


def test_no_job_lies_beside_them():
    assert {path.stem for path in arms.JOBS.iterdir()} == {arm.name for arm in arms.ARMS}


def test_the_model_and_the_sources_are_the_quickstarts(jobs):
    for job in jobs.values():
        assert (arms.JOBS / job.spec.model).resolve() == (arms.QUICKSTART.parent / QUICKSTART.spec.model).resolve()
        for theirs, ours in zip(QUICKSTART.spec.tasks, job.spec.tasks, strict=False):
            assert theirs.name == ours.name and theirs.templates == ours.templates
            for split in theirs.source.splits or {"uri": None}:
                one, two = (t.source.splits[split] if t.source.splits else t.source.uri for t in (theirs, ours))
                assert (arms.QUICKSTART.parent / one).resolve() == (arms.JOBS / two).resolve()


def test_each_job_trains_on_what_it_says(jobs):
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


def test_training_differs_in_steps_only(jobs):
    assert jobs["mixture"].spec.training == QUICKSTART.spec.training
    assert jobs["rehearse-all"].spec.training == jobs["rehearse-others"].spec.training == QUICKSTART.spec.training
    alone = jobs["alone"].spec.training
    assert alone.steps < QUICKSTART.spec.training.steps / 2
    same = {"steps": 1, "warmup_steps": 1}
    assert alone.model_copy(update=same) == QUICKSTART.spec.training.model_copy(update=same)


def test_an_unknown_run_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        compare.main(["alown"])
    assert stop.value.code == 2
    assert "there is no run alown; there are alone," in capsys.readouterr().err


def test_without_the_world_it_says_how_to_make_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "QUICKSTART", Path(tmp_path))
    assert compare.main(["--out", str(tmp_path / "out")]) == 2
    assert "python -m examples.quickstart.world" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_first_failing_run_ends_it(tmp_path, monkeypatch):
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "world.json").touch()
    monkeypatch.setattr(compare, "QUICKSTART", Path(tmp_path))
    called = []

    class Done:
        returncode = 4

    monkeypatch.setattr(compare.subprocess, "run", lambda command, check: called.append(command) or Done)
    assert compare.main(["--out", str(tmp_path / "out"), "mixture", "alone"]) == 4
    assert len(called) == 1 and called[0][-3:] == [str(arms.JOBS / "mixture.yaml"), "--storage", str(tmp_path / "out")]
