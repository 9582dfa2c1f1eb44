"""A model that came from an earlier run: what it learned there is scored as probes, from the rows prepared then."""

from pathlib import Path

import pytest

from raytrain.config.load import load_job
from raytrain.config.run_layout import RunLayout
from raytrain.runs.lineage import earlier_tasks
from raytrain.runs.record import RunRecord, write_record
from raytrain_core.storage import open_store
from tests.support.tiny_job import prepared_data, write_job


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Where the run `tiny` (tasks echo and stars, probe first) has its record and its rows."""
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


def test_its_tasks_and_probes_are_probes_now(store):
    found, troubles = earlier_tasks(store, job_from("run://tiny", "other"))
    assert troubles == []
    assert [(e.run, e.task.name, e.task.probe, e.prepared.probe) for e in found] == [
        ("tiny", "echo", True, True),
        ("tiny", "stars", True, True),
        ("tiny", "first", True, True),
    ]
    assert all(e.prepared.splits["test"].examples for e in found)


def test_a_task_that_the_job_has_itself_is_its_own(store):
    found, _ = earlier_tasks(store, job_from("run://tiny", "stars"))
    assert [e.task.name for e in found] == ["echo", "first"]


def test_other_models_have_no_history(store):
    assert earlier_tasks(store, job_from("./model", "other")) == ([], [])
    assert earlier_tasks(store, job_from("run://nobody", "other")) == ([], [])


def test_a_chain_of_runs_is_followed_and_a_ring_ends(store):
    middle = job_from("run://tiny", "middle")
    middle = middle.model_copy(update={"metadata": middle.metadata.model_copy(update={"name": "middle"})})
    write_record(store, RunLayout("middle"), RunRecord(middle, Path(), shard_set=None))
    found, troubles = earlier_tasks(store, job_from("run://middle", "other"))
    assert [e.task.name for e in found] == ["echo", "stars", "first"]
    assert troubles == ["what run middle learned is not scored, its rows are not there any more"]
    ring = job_from("run://next", "other")
    assert earlier_tasks(store, ring) == ([], [])


def test_rows_that_are_gone_are_said_and_no_error(store):
    store.delete([stat.key for stat in store.list("shards/sets/")])
    found, (trouble,) = earlier_tasks(store, job_from("run://tiny", "other"))
    assert found == []
    assert trouble.startswith("what run tiny learned is not scored, its rows are not there any more: ")
