"""Kills of driver, training worker and evaluation actor do not change the results of a run."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from raytrain_core.storage import open_store
from tests.support import REPOSITORY
from tests.support.killing import driver, end, family_of, named, result
from tests.support.tiny_job import write_job

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STEPS, EVERY = 300, 20
PATIENCE = 300.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    write_job(folder, steps=STEPS, checkpoint_every=EVERY, every=100)
    return folder


def running(folder: Path, storage: Path, environment=None):
    return driver(folder, str(storage), log_of(storage), environment)


def log_of(storage: Path) -> Path:
    return storage.parent / f"{storage.name}.log"


def wait_until(condition, process: subprocess.Popen, what: str):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if found := condition():
            return found
        assert process.poll() is None, f"the driver ended ({process.returncode}) before {what}"
        time.sleep(0.05)
    raise AssertionError(f"waited {PATIENCE} s for {what}")


def checkpoint_at(storage: Path, step: int):
    return lambda: list(storage.glob(f"runs/tiny/checkpoints/step-{step:06d}-a*/manifest.json"))


def finish(process: subprocess.Popen, storage: Path) -> None:
    code = process.wait(PATIENCE)
    assert code == 0, log_of(storage).read_text()[-4000:]


def result_in(storage: Path) -> dict:
    return result(open_store(str(storage)))


@pytest.fixture(scope="module")
def undisturbed(folder) -> dict:
    storage = folder / "undisturbed"
    with running(folder, storage) as process:
        finish(process, storage)
    return result_in(storage)


def test_driver(folder, undisturbed) -> None:
    storage = folder / "driver-killed"
    with running(folder, storage) as process:
        wait_until(checkpoint_at(storage, 3 * EVERY), process, "a checkpoint")
        family = family_of(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        end(family)
    assert not (storage / "runs/tiny/report/manifest.json").exists()
    with running(folder, storage) as process:
        finish(process, storage)
    assert result_in(storage) == undisturbed
    assert (storage / "runs/tiny/attempts/a02.json").exists()


@pytest.mark.parametrize(("name", "step"), [("RayTrainWorker", 3 * EVERY), ("EvaluationActor", 5 * EVERY)])
def test_worker_and_actor(folder, undisturbed, name, step) -> None:
    storage = folder / f"{name}-killed"
    with running(folder, storage) as process:
        wait_until(checkpoint_at(storage, step), process, "a checkpoint")
        [victim, *_] = wait_until(lambda: named(process, name), process, f"a process named {name}")
        victim.kill()
        finish(process, storage)
    assert result_in(storage) == undisturbed
    assert not (storage / "runs/tiny/attempts/a02.json").exists()


def clock(hours: float) -> dict[str, str]:
    """The environment of Python processes whose clock is wrong by so much."""
    return {"PYTHONPATH": str(REPOSITORY / "tests/support/wrong_clock"), "CLOCK_OFFSET": str(3600 * hours)}


def test_clocks_that_jump(folder, undisturbed) -> None:
    """The newest checkpoint is the one with the highest step, however clocks and files jump."""
    storage = folder / "clocks"
    with running(folder, storage, clock(1)) as process:
        wait_until(checkpoint_at(storage, 3 * EVERY), process, "a checkpoint")
        process.kill()
        process.wait()
    for hours, path in enumerate(sorted(storage.rglob("*"), reverse=True)):  # what came first is the newest
        os.utime(path, (1e9 + 3600 * hours,) * 2)
    with running(folder, storage, clock(-1)) as process:
        finish(process, storage)
    assert result_in(storage) == undisturbed
    segments = (storage / "runs/tiny/metrics").glob("a02-*.jsonl")
    steps = [json.loads(line)["step"] for path in segments for line in path.read_text().splitlines()]
    assert min(steps) > 3 * EVERY  # it went on from there, not from before
