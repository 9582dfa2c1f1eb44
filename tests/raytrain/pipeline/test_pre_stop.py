"""A pod that must end tells its driver, and waits for it."""

import subprocess
import sys
import time
from pathlib import Path

from raytrain.pipeline.pre_stop import drivers, leave

DRIVER = """
import signal, sys, time
def stop(*_):
    time.sleep(0.5)
    print("resumable")
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""


def start(folder, *arguments):
    """A process that looks like a driver: `python -m raytrain run ...` of a fake package."""
    package = folder / "raytrain"
    package.mkdir()
    (package / "__init__.py").touch()  # a namespace package would lose to an installed raytrain
    (package / "__main__.py").write_text(DRIVER)
    command = [sys.executable, "-m", "raytrain", *arguments]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def only(folder, process):
    """A /proc of this process alone: others of this machine are none of the test's business."""
    (folder / "proc").mkdir()
    (folder / "proc" / str(process.pid)).symlink_to(f"/proc/{process.pid}")
    return folder / "proc"


def test_the_driver_is_signalled_and_awaited(tmp_path):
    driver = start(tmp_path, "run", "/etc/raytrain/job.yaml")
    proc = only(tmp_path, driver)
    assert drivers(proc) == [driver.pid]
    began = time.monotonic()
    assert leave(30, proc)
    assert 0.4 < time.monotonic() - began < 20
    assert (driver.wait(5), driver.stdout.read()) == (130, "resumable\n")


def test_a_driver_that_does_not_end_is_not_waited_for_longer(tmp_path):
    driver = start(tmp_path, "run", "job.yaml")
    try:
        assert not leave(0.1, only(tmp_path, driver))
    finally:
        driver.kill()
        driver.wait()


def test_others_are_left_alone(tmp_path):
    other = start(tmp_path, "status", "run")
    try:
        assert leave(30, only(tmp_path, other))
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_without_a_driver_it_ends_at_once():
    assert leave(30, Path("/nowhere"))
