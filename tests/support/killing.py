"""Runs `raytrain run` as a process whose parts can be killed, and reads a run's results."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from raytrain.config.run_layout import RunLayout
from raytrain_core.storage import Store

LAYOUT = RunLayout("tiny")


@contextmanager
def driver(
    folder: Path, storage: str, log: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs the job in `folder`; afterwards ends every process that it started."""
    command = [sys.executable, "-m", "raytrain", "run", str(folder / "job.yaml"), "--storage", storage]
    own = {"RAYTRAIN_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | own | (environment or {}))
        try:
            yield process
        finally:
            family = family_of(process.pid)
            process.kill()
            process.wait()
            end(family)


def family_of(pid: int) -> list[psutil.Process]:
    """Returns all descendants of a process."""
    try:
        children: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return children


def end(family: list[psutil.Process], seconds: float = 20) -> None:
    """Waits for processes to end, as Ray's do after their driver, and kills those that do not."""

    def alive(member: psutil.Process) -> bool:
        try:
            return bool(member.is_running() and member.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    until = time.monotonic() + seconds
    while any(map(alive, family)) and time.monotonic() < until:
        time.sleep(0.1)
    for member in filter(alive, family):
        member.kill()


def named(process: subprocess.Popen[bytes], name: str) -> list[psutil.Process]:
    """Returns the processes of a run whose command line contains `name`."""
    found = []
    for member in family_of(process.pid):
        try:
            if name in " ".join(member.cmdline()):
                found.append(member)
        except psutil.NoSuchProcess:
            continue
    return found


def result(store: Store) -> dict[str, Any]:
    """Returns the weights' digest, every score and every step's loss of a finished run."""
    from raytrain.telemetry.segments import read_segments

    model = json.loads(store.get(f"{LAYOUT.model}/manifest.json"))
    weights = next(f["sha256"] for f in model["files"] if f["name"] == "model.safetensors")
    report = json.loads(store.get(f"{LAYOUT.report}/report.json"))
    scores = {t["name"]: (t["primary_metric"], t["validation"], t["samples"]) for t in report["tasks"]}
    losses = {line["step"]: line["loss"] for line in read_segments(store, LAYOUT, "metrics")}
    return {"weights": weights, "scores": scores, "losses": losses}
