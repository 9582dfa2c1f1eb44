"""How long `make demo` takes, part by part, from nothing.

    python -m benchmarks.demo [--out FILE]

The world (rows, tokenizer, base model) and the run go to a temporary folder. The parts of the run
are between its own events. Scoring of checkpoints goes on while training does, and is part of it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.output import emit
from benchmarks.workload import machine
from raytrain.config.run_layout import RunLayout
from raytrain.telemetry.segments import read_segments
from raytrain_core.storage import open_store

QUICKSTART = Path(__file__).parents[1] / "examples/quickstart"
BAR_SECONDS = 300.0
_ENDS = {  # a part ends with the last of these events before the next part's
    "prepare": "Prepared",
    "score_base_model_and_start_workers": "TrainingStarted",
    "train": "CheckpointCommitted",
    "last_scores_and_export": "ModelExported",
    "score_tuned_model_and_report": "RunFinished",
}


def parts_of(events: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Returns the seconds of each part of a run, from its events."""
    times: dict[str, datetime] = {}
    for event in sorted(events, key=lambda event: str(event["time"])):
        times[str(event["kind"])] = datetime.fromisoformat(str(event["time"]))
    found, before = {}, times["RunStarted"]
    for part, kind in _ENDS.items():
        found[part] = round((times[kind] - before).total_seconds(), 1)
        before = times[kind]
    return found


def measure(folder: Path) -> dict[str, Any]:
    """Makes the world and runs the job of the quickstart, all in `folder`."""
    job = folder / "job.yaml"
    shutil.copy(QUICKSTART / "job.yaml", job)
    seconds = {}
    for name, command in (
        ("world", ["examples.quickstart.world", "--out", str(folder / "world")]),
        ("run", ["raytrain", "run", str(job), "--storage", str(folder / "storage")]),
    ):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", *command], check=True, env=os.environ)
        seconds[name] = round(time.perf_counter() - began, 1)
    store, layout = open_store(str(folder / "storage")), RunLayout("quickstart")
    parts = parts_of(list(read_segments(store, layout, "events")))
    weights = hashlib.sha256((folder / "storage/runs/quickstart/model/model.safetensors").read_bytes()).hexdigest()
    start = round(seconds["run"] - sum(parts.values()), 1)
    return {
        "seconds": round(sum(seconds.values()), 1),
        "parts": {"world": seconds["world"], "start_and_end": start, **parts},
        "weights_sha256": weights,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder))
    bars = {"seconds": {"value": figures["seconds"], "bar": f"at most {BAR_SECONDS:.0f}"}}
    emit({"machine": machine(), "ratios": {}, "bars": bars, "figures": figures}, given.out)


if __name__ == "__main__":
    main()
