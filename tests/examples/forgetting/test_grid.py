"""The experiment's cells differ only where intended; its page shows its results."""

import json
from pathlib import Path

import pytest

from examples.forgetting import grid, page
from tests.support.job_mapping import job_from

PUBLIC = Path("/somewhere/public")


def job(world, cell, seed=17):
    return job_from(grid.cell(world, cell, seed, PUBLIC))


@pytest.mark.parametrize("world", grid.WORLDS)
def test_each_cell_trains_on_its_tasks_and_never_on_the_probes(world):
    four, rehearsed = ["summaries", "reviews", "news", "functions"], ["other-skills"]
    expected = {
        "alone": four[:1],
        "alone-replay": four[:1] + rehearsed,
        "alone-anchor": four[:1],
        "mixture": four,
        "mixture-replay": four + rehearsed,
        "mixture-anchor": four,
    }
    for cell, trained in expected.items():
        spec = job(world, cell).spec
        assert [task.name for task in spec.trained_tasks] == trained
        assert {"questions", "spanish"} <= {task.name for task in spec.tasks if task.probe}
        assert (spec.training.anchor > 0) == cell.endswith("anchor")
        assert spec.training.steps == job(world, cell.split("-")[0]).spec.training.steps


def test_a_seed_changes_only_the_order():
    one, other = grid.cell("quickstart", "mixture", 17), grid.cell("quickstart", "mixture", 18)
    assert one["spec"]["mixture"].pop("seed") != other["spec"]["mixture"].pop("seed")
    assert one["spec"]["training"].pop("seed") != other["spec"]["training"].pop("seed")
    assert one["spec"] == other["spec"]
    assert one["metadata"]["name"] != other["metadata"]["name"]


def test_the_real_world_has_the_same_base_model_and_probes():
    made, real = (grid.cell(world, "mixture", 17, PUBLIC)["spec"] for world in grid.WORLDS)
    assert made["model"] == real["model"]
    for one, other in zip(made["tasks"], real["tasks"], strict=True):
        if one.get("probe"):
            assert one == other
        else:
            assert other["source"]["uri"].startswith(str(PUBLIC))


def test_missing_public_data_names_the_variable_to_set(tmp_path, monkeypatch, capsys):
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "world.json").touch()
    monkeypatch.setattr(grid, "QUICKSTART", tmp_path / "job.yaml")
    monkeypatch.delenv(grid.REAL_DATA, raising=False)
    assert grid.main(["--world", "real"]) == 2
    assert f"Set {grid.REAL_DATA}" in capsys.readouterr().err


def test_a_cell_with_results_is_not_run_again(tmp_path, monkeypatch):
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "world.json").touch()
    monkeypatch.setattr(grid, "QUICKSTART", tmp_path / "job.yaml")
    monkeypatch.setattr(
        grid, "derive_job", lambda name, change, root: {"metadata": {"name": name}, "spec": {"training": {"steps": 3}}}
    )
    monkeypatch.setattr(grid, "scores", lambda storage, run: {})
    called = []

    class Done:
        returncode = 0

    def run(command, check):
        called.append(Path(command[4]).stem)
        if len(called) == 3:
            raise KeyboardInterrupt
        return Done

    monkeypatch.setattr(grid.subprocess, "run", run)
    given = [
        "--out",
        str(tmp_path / "out"),
        "--results",
        str(tmp_path),
        "--seeds",
        "17",
        "18",
        "--",
        "alone",
        "mixture",
    ]
    with pytest.raises(KeyboardInterrupt):
        grid.main(given)
    assert grid.main(given) == 0
    expected = ["quickstart-alone-17", "quickstart-mixture-17", "quickstart-alone-18"]
    assert called == [*expected, expected[-1], "quickstart-mixture-18"]
    kept = json.loads((tmp_path / "quickstart.json").read_text())["runs"]
    assert [(run["cell"], run["seed"]) for run in kept] == [
        ("alone", 17),
        ("alone", 18),
        ("mixture", 17),
        ("mixture", 18),
    ]


def test_the_page_and_its_pictures_are_up_to_date():
    text = page.PAGE.read_text()
    assert page.filled(text) == text
    for path, svg in page.pictures().items():
        assert path.read_text() == svg
        assert path.name in text
