"""A sweep of real runs on this machine that is killed with -9, and goes on."""

import json
import signal
import subprocess
import sys
import time

import pytest

from raytrain.sweeps.plan import load_sweep
from raytrain.sweeps.state import open_state
from raytrain_core.storage import open_store
from tests.support.sweep_runs import write_sweep

SPEC = "  maxConcurrent: 2\n  parameters:\n    training.anchor: {values: [1, 3, 10]}"

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_a_sweep_that_was_killed_goes_on_and_ends_with_a_leaderboard(tmp_path):
    file, storage = write_sweep(tmp_path, SPEC), tmp_path / "storage"
    plan, store = load_sweep(file), open_store(str(storage))
    command = [sys.executable, "-m", "raytrain", "sweep", str(file), "--storage", str(storage)]

    def ended():
        return [run.name for run in open_state(store, plan).runs if run.state == "complete"]

    with (tmp_path / "first.log").open("w") as log:
        first = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + 600
        while not ended() and first.poll() is None and time.monotonic() < until:
            time.sleep(0.2)
        first.send_signal(signal.SIGKILL)
        first.wait()
    before = ended()
    assert 0 < len(before) < 4, (tmp_path / "first.log").read_text()[-3000:]
    models = {name: (storage / f"runs/{name}/model/manifest.json").stat().st_mtime_ns for name in before}

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(ended()) == 4
    for name, written in models.items():
        assert (storage / f"runs/{name}/model/manifest.json").stat().st_mtime_ns == written, "it was run twice"
    board = json.loads((storage / "sweeps/guards/leaderboard.json").read_text())
    assert {line["label"] for line in board["lines"]} == {"as written", "anchor 1", "anchor 3", "anchor 10"}
    assert not any(line["problem"] for line in board["lines"])
    assert (storage / "sweeps/guards/leaderboard.svg").exists()
