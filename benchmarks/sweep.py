"""What a sweep adds to each of its runs: the same jobs one after another by hand, and as a sweep.

    python -m benchmarks.sweep [--rounds 3] [--out FILE]

A tiny job and a setting of it: by `raytrain run` twice, and by one `raytrain sweep` that runs them
one at a time, in turn, each in storage of its own. Every run starts a Ray of its own in both. Such
starts differ by seconds from time to time, so what the sweep adds is not only their difference: it
is also taken from the sweep alone, as the time in which it was there and no run was (its own
start, the moments between runs, the leaderboard).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.output import emit
from benchmarks.workload import machine, spread
from raytrain.config.load import to_yaml
from raytrain.sweeps.jobs import as_written
from raytrain.sweeps.plan import load_sweep
from tests.support.sweep_runs import write_sweep

BAR_SECONDS = 3.0
SPEC = "  maxConcurrent: 1\n  parameters:\n    training.anchor: {values: [3]}"
_LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Seconds:
    """Of a command: from its start to its end, and how long of that it had no child process."""

    whole: float
    childless: float


def write(folder: Path) -> tuple[list[Path], Path]:
    """Writes everything to run; returns the jobs, and the sweep over them."""
    file = write_sweep(folder, SPEC)
    plan = load_sweep(file)
    jobs = [plan.job_of(setting, None) for setting in plan.settings()[0]]
    paths = [folder / f"{job.metadata.name}.yaml" for job in jobs]
    for path, job in zip(paths, jobs, strict=True):
        path.write_text(to_yaml(as_written(job)))
    return paths, file


def timed(command: Sequence[str]) -> Seconds:
    """Runs a command and watches its child processes; SystemExit if it fails."""
    import psutil

    with tempfile.TemporaryFile("w+") as log:
        began = looked = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=log)
        seen, childless = psutil.Process(process.pid), 0.0
        while process.poll() is None:
            time.sleep(_LOOK_SECONDS)
            now = time.perf_counter()
            childless += 0.0 if _has_child(seen) else now - looked
            looked = now
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}\n{log.read()[-3000:]}")
        return Seconds(time.perf_counter() - began, childless)


def _has_child(process: Any) -> bool:
    import psutil

    try:
        return any(child.status() != psutil.STATUS_ZOMBIE for child in process.children())
    except psutil.NoSuchProcess:
        return False


def measure(jobs: Sequence[Path], sweep: Path, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of one run, by hand and in the sweep, and what the sweep adds, by round.

    Storage is below `folder`.
    """
    raytrain = [sys.executable, "-m", "raytrain"]
    found = dict[str, list[float]](alone=[], in_sweep=[], overhead=[])
    for number in range(rounds):
        storage = [f"--storage={folder / how}-{number}" for how in ("alone", "sweep")]
        by_hand = [timed([*raytrain, "run", str(job), storage[0]]).whole for job in jobs]
        swept = timed([*raytrain, "sweep", str(sweep), storage[1]])
        found["alone"].append(sum(by_hand) / len(jobs))
        found["in_sweep"].append(swept.whole / len(jobs))
        found["overhead"].append(swept.childless / len(jobs))
    return found


def result(found: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Returns ratio, bar and figures."""
    alone, swept = found["alone"], found["in_sweep"]
    overhead = spread(found["overhead"])
    return {
        "ratios": {"sweep_vs_alone": spread([ours / theirs for ours, theirs in zip(swept, alone, strict=True)])},
        "bars": {"overhead_seconds": {"value": overhead["max"], "bar": f"at most {BAR_SECONDS:.0f}"}},
        "figures": {
            "run_alone_seconds": spread(alone),
            "run_in_sweep_seconds": spread(swept),
            "difference_seconds": spread([ours - theirs for ours, theirs in zip(swept, alone, strict=True)]),
            "overhead_seconds": overhead,
        },
    }


def main() -> None:
    """Reads the arguments, measures, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="raytrain-bench-sweep-") as folder:
        jobs, sweep = write(Path(folder))
        found = measure(jobs, sweep, Path(folder), given.rounds)
    emit({"machine": machine(), **result(found)}, given.out)


if __name__ == "__main__":
    main()
