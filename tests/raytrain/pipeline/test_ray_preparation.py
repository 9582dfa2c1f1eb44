"""Items made by Ray tasks: the same shards as anywhere, and a mistake is said in its own words."""

import pytest

from data_prep.prepare import PrepLimits, prepare
from data_prep.shards import task_sources
from data_prep.text.tokenizer import Tokenizer
from raytrain.config.job import Resources
from raytrain.config.load import load_job
from raytrain.pipeline.ray_preparation import RayTasks, preparation_workers
from raytrain_core.errors import ClusterError, StorageError
from raytrain_core.storage import open_store
from tests.support import REPOSITORY
from tests.support.gated_store import RefusingStore
from tests.support.tiny_job import write_job

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def ray_here():
    import ray

    environment = {"env_vars": {"PYTHONPATH": str(REPOSITORY)}}  # where the stores of the tests are
    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_cpus=2, runtime_env=environment, **options)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def job_file(tmp_path_factory):
    return write_job(tmp_path_factory.mktemp("job"))


def prepared(job_file, store, workers, **options):
    job = load_job(job_file).job
    return prepare(
        job.spec.tasks,
        job.spec.mixture,
        store=store,
        tokenizer=Tokenizer.from_folder(job_file.parent / "model"),
        limits=PrepLimits(48, 16),
        base_folder=job_file.parent,
        workers=workers,
        **options,
    )


def test_the_same_shards_as_in_one_process(ray_here, job_file, tmp_path, monkeypatch):
    monkeypatch.setattr(task_sources, "ROWS_OF_A_UNIT", 10)
    here, there = open_store(str(tmp_path / "here")), open_store(str(tmp_path / "there"))
    seen = []
    assert prepared(job_file, there, RayTasks(2), on_progress=seen.append) == prepared(job_file, here, None)
    assert seen[-1].done == seen[-1].total == 180
    for stat in here.list("shards/"):
        if not stat.key.startswith("shards/sources/"):
            assert there.get(stat.key) == here.get(stat.key)
    assert not list(there.list("shards/units/"))


def test_errors_are_those_of_the_task(ray_here, job_file, tmp_path):
    full = RefusingStore(tmp_path / "full", "shards/units/", StorageError("the disk is full", hint="Free some space."))
    with pytest.raises(StorageError, match=r"^the disk is full") as caught:
        prepared(job_file, full, RayTasks(1))
    assert caught.value.hint == "Free some space."
    bug = RefusingStore(tmp_path / "bug", "shards/units/", ZeroDivisionError("by zero"))
    with pytest.raises(ClusterError, match="a Ray task of the preparation failed: by zero"):
        prepared(job_file, bug, RayTasks(1))


def test_without_a_cluster_processes_of_this_machine_do_it(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(3))
    for cpus, count in ((1, 0), (2, 2), (3.5, 3), (64, 3)):
        resources = Resources.model_validate({"preparation": {"cpus": cpus}})
        with preparation_workers(resources) as workers:
            assert workers.count == count
