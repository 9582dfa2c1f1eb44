"""Items made by Ray tasks: the same shards as anywhere, and a mistake is said in its own words."""

import csv
import gzip
import json

import pytest

from data_prep.config import Mixture
from data_prep.prepare import PrepLimits, prepare
from data_prep.shards import task_sources
from data_prep.text.tokenizer_folder import read_tokenizer
from raytrain.config.load import load_job
from raytrain.config.resources import Resources
from raytrain.pipeline import ray_preparation
from raytrain.pipeline.ray_preparation import RayTasks, preparation_workers
from raytrain_core.errors import ClusterError, DataError, StorageError
from raytrain_core.storage import open_store
from tests.support import REPOSITORY
from tests.support.data_prep_bench import make_task
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
        tokenizer=read_tokenizer(job_file.parent / "model"),
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


def write_undividable(folder):
    """Files read from their beginning: compressed, CSV over several lines, one document."""
    rows = [{"input": f"text {i}\nand more", "target": f"t{i}"} for i in range(6000)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "rows.json").write_text(json.dumps([row | {"input": f"j {row['input']}"} for row in rows]))
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["input", "target"])
        writer.writeheader()
        writer.writerows(row | {"input": f"c {row['input']}"} for row in rows)


def test_large_files_that_cannot_be_divided_are_read_by_tasks_too(ray_here, job_file, tmp_path, monkeypatch):
    write_undividable(tmp_path)
    task = make_task(source={"uri": "*rows*"}, limit=9000)  # with a limit, files are read twice

    def prepare_with(store, workers):
        tokenizer = read_tokenizer(job_file.parent / "model")
        limits, options = PrepLimits(48, 16), {"base_folder": tmp_path, "workers": workers}
        return prepare([task], Mixture(), store=store, tokenizer=tokenizer, limits=limits, **options)

    expected = prepare_with(open_store(str(tmp_path / "here")), None)
    for limit in ("_LARGEST", "_LARGEST_PACKED"):
        monkeypatch.setattr(ray_preparation, limit, 0)
    monkeypatch.setattr("data_prep.shards.read_ahead.read_span", None)  # the driver reads none
    for count in (1, 2, 7):
        assert prepare_with(open_store(str(tmp_path / f"there {count}")), RayTasks(count)) == expected


def test_a_large_file_that_is_damaged_is_told_in_its_own_words(ray_here, job_file, tmp_path, monkeypatch):
    write_undividable(tmp_path)
    packed = (tmp_path / "rows.jsonl.gz").read_bytes()
    (tmp_path / "rows.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    monkeypatch.setattr(ray_preparation, "_LARGEST_PACKED", 0)
    with pytest.raises(DataError, match=r"rows\.jsonl\.gz"):
        prepare(
            [make_task(source={"uri": "rows.jsonl.gz"})],
            Mixture(),
            store=open_store(str(tmp_path / "store")),
            tokenizer=read_tokenizer(job_file.parent / "model"),
            limits=PrepLimits(48, 16),
            base_folder=tmp_path,
            workers=RayTasks(2),
        )


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
