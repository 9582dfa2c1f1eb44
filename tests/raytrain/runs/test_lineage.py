"""A base model that came from an earlier run: the tasks of that run are scored as probes."""

from pathlib import Path

import pytest

from raytrain.config.load import load_job
from raytrain.config.run_layout import RunLayout
from raytrain.runs.lineage import inherited_probes
from raytrain.runs.record import RunRecord, write_record
from raytrain_core.storage import open_store
from tests.support.tiny_job import prepared_data, write_job


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A storage with record and rows of the run `tiny` (tasks echo and stars, probe first)."""
    write_job(tmp_path)
    monkeypatch.chdir(tmp_path)
    prepared_data()
    return open_store("raytrain-storage")


def job_from(model, *names):
    """A job with one task of each name that starts from `model`."""
    text = Path("job.yaml").read_text().replace("model: ./model", f"model: {model}").replace("name: tiny", "name: next")
    job = load_job_text(text)
    tasks = [job.spec.tasks[0].model_copy(update={"name": name}) for name in names]
    return job.model_copy(update={"spec": job.spec.model_copy(update={"tasks": tasks})})


def load_job_text(text):
    path = Path("next.yaml")
    path.write_text(text)
    return load_job(path).job


def test_tasks_and_probes_of_the_earlier_run_become_probes(store):
    probes, warnings = inherited_probes(store, job_from("run://tiny", "other"))
    assert warnings == []
    assert [(p.run, p.task.name, p.task.probe, p.prepared.probe) for p in probes] == [
        ("tiny", "echo", True, True),
        ("tiny", "stars", True, True),
        ("tiny", "first", True, True),
    ]
    assert all(p.prepared.splits["test"].examples for p in probes)


def test_a_task_of_the_job_hides_the_earlier_one_of_that_name(store):
    probes, _ = inherited_probes(store, job_from("run://tiny", "stars"))
    assert [p.task.name for p in probes] == ["echo", "first"]


def test_other_models_have_no_history(store):
    assert inherited_probes(store, job_from("./model", "other")) == ([], [])
    assert inherited_probes(store, job_from("run://nobody", "other")) == ([], [])


def test_a_chain_of_runs_is_followed_and_a_cycle_ends(store):
    middle = job_from("run://tiny", "middle")
    middle = middle.model_copy(update={"metadata": middle.metadata.model_copy(update={"name": "middle"})})
    write_record(store, RunLayout("middle"), RunRecord(middle, Path(), shard_set=None))
    probes, warnings = inherited_probes(store, job_from("run://middle", "other"))
    assert [p.task.name for p in probes] == ["echo", "stars", "first"]
    assert warnings == ["the tasks of run middle are not scored, because their rows no longer exist"]
    cycle = job_from("run://next", "other")
    assert inherited_probes(store, cycle) == ([], [])


def test_missing_rows_are_a_warning_and_no_error(store):
    store.delete([stat.key for stat in store.list("shards/sets/")])
    probes, (warning,) = inherited_probes(store, job_from("run://tiny", "other"))
    assert probes == []
    assert warning.startswith("the tasks of run tiny are not scored, because their rows no longer exist: ")
