"""The experiment's sweep is valid and changes what it says; the page shows its stored results."""

from pathlib import Path

import pytest

from examples.forgetting import experiment, page
from raytrain.config.load import load_job
from raytrain.sweeps.plan import load_sweep

FOUR = ["summaries", "reviews", "news", "functions"]
PUBLIC = Path("/somewhere/public")


@pytest.fixture(scope="module")
def plan():
    return load_sweep(experiment.SWEEP)


def test_the_job_file_is_up_to_date():
    assert (experiment.JOBS / "guards.yaml").read_text() == experiment.job_yaml()


def test_every_setting_trains_on_the_four_tasks_and_never_on_the_probes(plan):
    settings, merged = plan.settings()
    assert len(settings) == 9
    assert merged == []
    for setting in settings:
        trained = [task.name for task in plan.job_of(setting, 17).spec.trained_tasks]
        assert trained == FOUR + (["other-skills"] if "replay" in setting.chosen else [])
    assert list(plan.trained) == FOUR
    assert set(plan.probes) == {"questions", "spanish"}


def test_each_guard_is_there_and_nothing_else_changes(plan):
    base = plan.job.spec
    found = {setting.label: plan.job_of(setting, None).spec for setting in plan.settings()[0]}
    assert found["replay 20 %"].mixture.replay.share == 0.2
    assert found["anchor 10"].training.anchor == 10
    assert found["lora rank 16"].training.lora.rank == 16
    assert found["learningRate 0.0002"].training.learning_rate == 2e-4
    assert found["interpolation 0.5"].training.interpolation == 0.5
    for spec in found.values():
        assert spec.training.steps == base.training.steps
        assert spec.evaluation == base.evaluation


def test_the_real_world_has_the_same_base_model_and_probes(plan, tmp_path):
    written = experiment.write_real_sweep(PUBLIC, tmp_path)
    real = load_sweep(written)
    assert real.name == "guards-real"
    assert real.sweep.spec.parameters == plan.sweep.spec.parameters
    made = load_job(experiment.JOBS / "guards.yaml").job.spec
    assert Path(real.job.spec.model).resolve() == (experiment.JOBS / made.model).resolve()
    for task in real.job.spec.trained_tasks:
        assert task.source.uri.startswith(str(PUBLIC))
    assert [task.name for task in real.job.spec.tasks if task.probe] == ["questions", "spanish", "other-skills"]


def test_missing_public_data_names_the_variable_to_set(tmp_path, monkeypatch, capsys):
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "world.json").touch()
    monkeypatch.setattr(experiment, "QUICKSTART", tmp_path / "job.yaml")
    monkeypatch.delenv(experiment.REAL_DATA, raising=False)
    assert experiment.main(["--world", "real"]) == 2
    assert f"Set {experiment.REAL_DATA}" in capsys.readouterr().err


def test_the_page_and_its_pictures_are_up_to_date():
    text = page.PAGE.read_text()
    assert page.filled(text) == text
    for path, svg in page.pictures().items():
        assert path.read_text() == svg
        assert path.name in text
