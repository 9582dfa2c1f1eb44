"""Kill -9 of the driver, of a training worker and of an evaluation actor: the end is that of an undisturbed run."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tiny_job import write_job

from data_prep.storage import open_store
from raytrain.spec.layout import RunLayout

pytestmark = [pytest.mark.ray, pytest.mark.slow]

LAYOUT = RunLayout("tiny")
STEPS, EVERY = 300, 20
PATIENCE = 300.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    write_job(folder, steps=STEPS, checkpoint_every=EVERY, every=100)
    return folder


@contextmanager
def driver(folder: Path, storage: Path):
    """`raytrain run` as a process of its own; whatever it started is gone afterwards."""
    command = [sys.executable, "-m", "raytrain", "run", str(folder / "job.yaml"), "--storage", str(storage)]
    environment = os.environ | {"RAYTRAIN_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    with (storage.parent / f"{storage.name}.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            yield process
        finally:
            family = _family(process.pid)
            process.kill()
            process.wait()
            end(family)


def _family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def end(family: list[psutil.Process], seconds: float = 20) -> None:
    """Ray's processes follow their driver; whichever has not after a while is killed. A zombie has ended."""

    def alive(member: psutil.Process) -> bool:
        try:
            return member.is_running() and member.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    until = time.monotonic() + seconds
    while any(map(alive, family)) and time.monotonic() < until:
        time.sleep(0.1)
    for member in filter(alive, family):
        member.kill()


def wait_until(condition, process: subprocess.Popen, what: str):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := condition():
            return found
        assert process.poll() is None, f"the driver ended ({process.returncode}) before {what}"
        time.sleep(0.05)
    raise AssertionError(f"waited {PATIENCE} s for {what}")


def checkpoint_at(storage: Path, step: int):
    return lambda: list(storage.glob(f"runs/tiny/checkpoints/step-{step:06d}-a*/manifest.json"))


def named(process: subprocess.Popen, name: str):
    def find():
        for member in _family(process.pid):
            try:
                if name in " ".join(member.cmdline()):
                    return member
            except psutil.NoSuchProcess:
                continue
        return None

    return find


def finish(process: subprocess.Popen, storage: Path) -> None:
    code = process.wait(PATIENCE)
    assert code == 0, (storage.parent / f"{storage.name}.log").read_text()[-4000:]


def result(storage: Path) -> dict:
    """What the end of a run is compared by: the weights, every score and every step's loss."""
    from raytrain.telemetry.segments import read

    store = open_store(str(storage))
    model = json.loads(store.get(f"{LAYOUT.model}/manifest.json"))
    weights = next(f["sha256"] for f in model["files"] if f["name"] == "model.safetensors")
    report = json.loads(store.get(f"{LAYOUT.report}/report.json"))
    scores = {t["name"]: (t["headline"], t["validation"], t["samples"]) for t in report["tasks"]}
    losses = {line["step"]: line["loss"] for line in read(store, LAYOUT, "metrics")}
    return {"weights": weights, "scores": scores, "losses": losses}


@pytest.fixture(scope="module")
def undisturbed(folder) -> dict:
    storage = folder / "undisturbed"
    with driver(folder, storage) as process:
        finish(process, storage)
    return result(storage)


def test_driver(folder, undisturbed) -> None:
    storage = folder / "driver-killed"
    with driver(folder, storage) as process:
        wait_until(checkpoint_at(storage, 3 * EVERY), process, "a checkpoint")
        family = _family(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        end(family)
    assert not (storage / "runs/tiny/report/manifest.json").exists()
    with driver(folder, storage) as process:
        finish(process, storage)
    assert result(storage) == undisturbed
    assert (storage / "runs/tiny/attempts/a02.json").exists()


@pytest.mark.parametrize(("name", "step"), [("RayTrainWorker", 3 * EVERY), ("EvaluationActor", 5 * EVERY)])
def test_worker_and_actor(folder, undisturbed, name, step) -> None:
    storage = folder / f"{name}-killed"
    with driver(folder, storage) as process:
        wait_until(checkpoint_at(storage, step), process, "a checkpoint")
        victim = wait_until(named(process, name), process, f"a process named {name}")
        victim.kill()
        finish(process, storage)
    assert result(storage) == undisturbed
    assert not (storage / "runs/tiny/attempts/a02.json").exists()
