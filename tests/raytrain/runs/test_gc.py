"""What `raytrain gc` takes, and what it never touches."""

import json
import os
import time
from pathlib import Path

import pytest

from data_prep.shards.manifest import ShardSet
from raytrain.cli import main
from raytrain.config.run_layout import RunLayout
from raytrain.datasets.resolve import load_data
from raytrain.datasets.verify import verify
from raytrain.runs import gc as garbage
from raytrain.runs.gc import GRACE, GarbageReport
from raytrain_core.errors import StorageError
from raytrain_core.storage import open_store
from raytrain_core.storage.commit import commit, read_manifest
from tests.support.tiny_job import prepared_data, write_job

LAYOUT = RunLayout("tiny")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAYTRAIN_STORAGE", raising=False)
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path / "cache"))
    return write_job(tmp_path)


def age(seconds: float = 2 * GRACE) -> None:
    """Make everything in the storage older."""
    then = time.time() - seconds
    for path in Path("raytrain-storage").rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def found(**options) -> dict[str, str]:
    return {one.key: one.reason for one in garbage.find_garbage(open_store("raytrain-storage"), **options).garbage}


def put(key: str, data: bytes = b"x") -> None:
    open_store("raytrain-storage").put(key, data)


def whole() -> bool:
    return not verify("tiny", "raytrain-storage", on_progress=lambda done, total: None).corrupt


def test_nothing_that_is_in_use_is_garbage(project: Path) -> None:
    prepared_data()
    age()
    assert found() == {}
    assert found(grace=0, unused_sets=True) == {}


def test_an_empty_storage_has_no_garbage(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gc", "--yes"]) == 0
    assert "no garbage found" in capsys.readouterr().out


def test_garbage_is_listed_first_and_deleted_only_on_request(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = prepared_data()
    put(f"shards/parts/{'a' * 64}.arrow", b"12345")
    assert main(["gc"]) == 0
    assert "no garbage found" in capsys.readouterr().out  # it is too young
    put(f"shards/parts/{'b' * 64}.arrow")
    assert main(["gc"]) == 0
    message = "shards are left alone because a preparation may be in progress"
    assert f"{message}: shards/parts/{'a' * 64}" in capsys.readouterr().out
    open_store("raytrain-storage").delete([f"shards/parts/{'b' * 64}.arrow"])
    age()
    assert main(["gc", "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(g["key"], g["bytes"], g["reason"]) for g in shown["garbage"]] == [
        (f"shards/parts/{'a' * 64}.arrow", 5, "a part that no prepared task names")
    ]
    assert not shown["deleted"]
    assert main(["gc"]) == 0
    assert "1 objects, 5 B can be deleted; run again with --yes to delete them" in capsys.readouterr().out
    assert main(["gc", "--yes"]) == 0
    assert "deleted 1 objects" in capsys.readouterr().out
    assert found() == {}
    assert whole()
    assert prepared_data() == shards


def test_from_the_set_down_to_the_parts(project: Path) -> None:
    first = prepared_data()
    echo = Path("echo.jsonl").read_text().splitlines()
    Path("echo.jsonl").write_text("\n".join(echo[:-3]) + "\n")
    second = prepared_data()  # the run goes on with this one
    age()
    assert found() == {}  # a shard set stands for itself
    only_first = {part.key for part in first.task("echo").all_parts()} - {
        p.key for p in second.task("echo").all_parts()
    }
    assert only_first
    assert set(found(unused_sets=True)) == {
        ShardSet.key(first.digest),
        first.task("echo").key(first.task("echo").digest),
        *only_first,
    }
    open_store("raytrain-storage").delete([ShardSet.key(first.digest)])
    assert set(found()) == {first.task("echo").key(first.task("echo").digest), *only_first}
    assert main(["gc", "--yes"]) == 0
    assert found(grace=0) == {}
    assert whole()


def test_what_a_preparation_leaves_behind_goes_after_the_grace_period(project: Path) -> None:
    record = {"keys": {"key": f"shards/parts/{'c' * 64}.npy"}}
    put(f"shards/units/{'d' * 64}/train-000000.json", json.dumps(record).encode())
    put(f"shards/parts/{'c' * 64}.npy")
    age()
    put(f"shards/units/{'d' * 64}/train-000001.json", b"{}")  # someone goes on with it
    assert found() == {}
    age()
    assert set(found()) == {
        f"shards/units/{'d' * 64}/train-000000.json",
        f"shards/units/{'d' * 64}/train-000001.json",
        f"shards/parts/{'c' * 64}.npy",
    }


def test_a_live_preparation_is_left_alone(project: Path) -> None:
    """Garbage is collected repeatedly during a preparation that reuses earlier results."""
    with pytest.raises(KeyboardInterrupt):
        prepared_data(on_progress=interrupt_when("stars"))
    left = {stat.key for stat in open_store("raytrain-storage").list("shards/")}
    assert any(key.startswith("shards/tasks/") for key in left)  # echo was ready, but there is no set
    put(f"shards/parts/{'a' * 64}.arrow")
    age()
    assert {key for key in left if not key.startswith("shards/sources/")} < set(found())
    store, deleted = open_store("raytrain-storage"), list[str]()

    def on_progress(progress: object) -> None:
        if any(stat.modified > time.time() - GRACE for stat in store.list("shards/parts/")):
            deleted.extend(one.key for one in garbage.delete_garbage(store, garbage.find_garbage(store)).garbage)

    shards = prepared_data(on_progress=on_progress)
    assert deleted == []
    assert whole()
    assert load_data("tiny", "raytrain-storage").shard_set == shards
    age()
    assert set(found()) == {f"shards/parts/{'a' * 64}.arrow"}


def interrupt_when(task: str):
    """Stop the preparation when it has begun with a task."""

    def on_progress(progress) -> None:
        if progress.task == task and progress.done > 60:
            raise KeyboardInterrupt

    return on_progress


def test_what_became_needed_meanwhile_is_not_deleted(project: Path) -> None:
    shards = prepared_data(record=False)
    age()
    store = open_store("raytrain-storage")
    seen = garbage.find_garbage(store, unused_sets=True)
    assert ShardSet.key(shards.digest) in {one.key for one in seen.garbage}
    prepared_data()  # a run begins with it
    assert garbage.delete_garbage(store, seen, unused_sets=True).garbage == []
    assert whole()


def test_a_manifest_that_cannot_be_read_stops_it(project: Path) -> None:
    shards = prepared_data()
    key = shards.task("echo").key(shards.task("echo").digest)
    store = open_store("raytrain-storage")
    put(key, store.get(key)[:200])
    age()
    with pytest.raises(StorageError, match="nothing is collected"):
        garbage.find_garbage(store)
    assert main(["gc", "--yes"]) == 4


def checkpoint(step: int, attempt: int = 1) -> str:
    prefix = LAYOUT.checkpoint(step, attempt)
    commit(open_store("raytrain-storage"), prefix, {"model.safetensors": b"weights"}, {"step": step})
    return prefix


def test_of_a_run_only_what_no_manifest_names(project: Path) -> None:
    prepared_data()
    kept = [checkpoint(step) for step in range(4, 40, 4)]
    put(f"{LAYOUT.checkpoint(40, 1)}/model.safetensors")  # half-written
    put(f"{kept[0]}/stray")
    put(f"{LAYOUT.scores('after', 'echo')}/predictions.parquet")
    put(LAYOUT.progress, b'{"run": "tiny", "attempt": 1, "phase": "Training"}')
    put(LAYOUT.log(1, "driver"))
    age()
    assert found() == {
        f"{LAYOUT.checkpoint(40, 1)}/model.safetensors": "incomplete: it has no manifest",
        f"{kept[0]}/stray": "not a file of its manifest",
        f"{LAYOUT.scores('after', 'echo')}/predictions.parquet": "incomplete: it has no manifest",
    }
    put(f"{LAYOUT.checkpoint(40, 1)}/optimizer.safetensors")  # it is being written now
    assert f"{LAYOUT.checkpoint(40, 1)}/model.safetensors" not in found()


def test_a_finished_run_keeps_its_newest_checkpoints_and_the_chosen_one(project: Path) -> None:
    job_file = Path("job.yaml")
    job_file.write_text(job_file.read_text().replace("keepCheckpoints: 20", "keepCheckpoints: 2"))
    prepared_data()
    store = open_store("raytrain-storage")
    prefixes = {step: checkpoint(step) for step in (4, 8, 12, 16)}
    old = checkpoint(16, attempt=0)
    body = {"step": 4, "checkpoint": prefixes[4]}
    commit(store, LAYOUT.model, {"model.safetensors": b"weights"}, body)
    put(LAYOUT.progress, b'{"run": "tiny", "attempt": 1, "phase": "Interrupted"}')
    age()
    assert found() == {}
    put(LAYOUT.progress, b'{"run": "tiny", "attempt": 1, "phase": "Complete"}')
    age()
    going = {key.rpartition("/")[0] for key in found()}
    assert going == {prefixes[8], old}
    assert main(["gc", "--yes"]) == 0
    assert read_manifest(store, prefixes[8]) is None
    assert all(read_manifest(store, prefixes[step]) is not None for step in (4, 12, 16))
    assert whole()


@pytest.mark.s3
def test_ages_in_a_bucket(s3_uri: str) -> None:
    store = open_store(s3_uri)
    store.put(f"shards/parts/{'a' * 64}.arrow", b"12345")
    (stat,) = store.list("shards/")
    assert stat.modified == pytest.approx(time.time(), abs=120)
    found = store.stat(stat.key)
    assert found is not None
    assert found.modified == stat.modified
    assert garbage.find_garbage(store) == GarbageReport([], preparing=stat.key)
    later = garbage.find_garbage(store, now=time.time() + 2 * GRACE)
    assert [one.key for one in later.garbage] == [stat.key]
