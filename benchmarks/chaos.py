"""A run under random kills, compared with the same run undisturbed: losses and recovery time.

    python -m benchmarks.chaos --minutes 10 --seed 1 --out benchmarks/results/chaos.json

The storage is a real S3 server behind a proxy that breaks a share of all requests. At times
that depend on the seed, a training worker, an evaluation actor or the driver is killed with -9, or
the store is unreachable for some seconds. A dead driver is restarted with the same command.
In the end weights, scores and losses are compared with those of an undisturbed run; a difference is
an error (exit code 1).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import workload
from benchmarks.output import emit
from raytrain.telemetry.progress import read_progress
from raytrain.telemetry.segments import read_segments
from raytrain_core.errors import StorageError
from raytrain_core.storage import StorageLocation, Store, open_store
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.killing import LAYOUT, driver, end, family_of, named, result
from tests.support.s3_server import s3_server
from tests.support.tiny_job import write_job

STEPS, CHECKPOINT_EVERY, SCORE_EVERY = 5000, 100, 300  # about 20 ms per step, so that kills hit a run at work
VICTIMS = {"worker": "RayTrainWorker", "actor": "EvaluationActor"}
FAULTS: tuple[Fault, ...] = ("slow-down", "reset", "lost-answer", "truncated", "flipped")
SHARE_BROKEN = 0.05
SETTLING = 5.0
"""Seconds in which steps made before a kill may still be reported."""
PATIENCE = 300.0
"""Seconds without a new step after which the run counts as stuck."""


@dataclass
class Story:
    """Kills of a run and its recovery times."""

    kills: dict[str, int] = field(default_factory=dict)
    recovery_seconds: dict[str, list[float]] = field(default_factory=dict)
    starts: int = 0

    def done(self, what: str) -> None:
        self.kills[what] = self.kills.get(what, 0) + 1

    def recovered(self, what: str, seconds: float) -> None:
        self.recovery_seconds.setdefault(what, []).append(seconds)


def step_of(store: Store) -> int:
    """Returns the newest step in the run's progress."""
    try:
        progress = read_progress(store, LAYOUT)
    except StorageError:
        return 0
    return progress.step if progress else 0


@dataclass
class Chaos:
    """Restarts a run until it completes and disturbs it meanwhile; `store` bypasses the proxy."""

    folder: Path
    proxy: FaultProxy
    storage: str
    store: Store
    rng: random.Random
    story: Story = field(default_factory=Story)
    due: list[str] = field(default_factory=list)

    def run(self, seconds: float) -> Story:
        """Runs to the end, with disturbances for `seconds`."""
        until = time.monotonic() + seconds
        environment = {"AWS_ENDPOINT_URL": self.proxy.endpoint}
        while True:
            self.story.starts += 1
            with driver(self.folder, self.storage, self.folder / "chaos.log", environment) as process:
                if self.story.starts > 1:
                    waited(self.story, "driver", self.store, process)
                while process.poll() is None:
                    if time.monotonic() > until or step_of(self.store) == 0:
                        time.sleep(0.5)
                        continue
                    time.sleep(self.rng.uniform(3, 15))
                    self._strike(self._next(process), process)
                if process.returncode == 0:
                    return self.story

    def _next(self, process: subprocess.Popen[bytes]) -> str:
        """Returns the next victim; every kind comes once before one repeats, if it is running."""
        running = {"driver", "store", *(kind for kind, name in VICTIMS.items() if named(process, name))}
        if not running & {*self.due}:
            self.due += self.rng.sample(("worker", "actor", "driver", "store"), 4)
        what = next(kind for kind in self.due if kind in running)
        self.due.remove(what)
        return what

    def _strike(self, what: str, process: subprocess.Popen[bytes]) -> None:
        if what == "driver":
            family = family_of(process.pid)
            process.kill()
            process.wait()
            end(family)
            self.story.done(what)
        elif what == "store":
            self.story.done(what)
            for method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
                self.proxy.break_("reset", method)
            time.sleep(self.rng.uniform(2, 10))
            self.proxy.rules.clear()
            waited(self.story, what, self.store, process)
        elif victims := named(process, VICTIMS[what]):
            self.rng.choice(victims).kill()
            self.story.done(what)
            if what == "worker":
                waited(self.story, what, self.store, process)


def waited(story: Story, what: str, store: Store, process: subprocess.Popen[bytes]) -> None:
    """Records the time until a step made after the disturbance is reported."""
    began = time.monotonic()
    time.sleep(SETTLING)
    before = step_of(store)
    while process.poll() is None and step_of(store) <= before < STEPS:
        if time.monotonic() - began > PATIENCE:
            raise SystemExit(
                f"stuck: no further step for {PATIENCE:.0f} s after {what} was disturbed, at step {before}"
            )
        time.sleep(0.1)
    if step_of(store) > before:
        story.recovered(what, round(time.monotonic() - began, 1))


def lines_of(store: Store) -> list[dict[str, Any]]:
    """Returns every step, repeated ones included."""
    keys = [stat.key for stat in store.list(f"{LAYOUT.root}/metrics/")]
    return [json.loads(line) for key in keys for line in store.get(key).decode().splitlines() if line]


def outcome(story: Story, disturbed: Store, undisturbed: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    found = result(disturbed)
    made, kept = len(lines_of(disturbed)), len(read_segments(disturbed, LAYOUT, "metrics"))
    times = {
        what: {"median": statistics.median(all_of), "max": max(all_of), "times": len(all_of)}
        for what, all_of in story.recovery_seconds.items()
    }
    return {
        "machine": workload.machine(),
        "ratios": {},
        "figures": {
            "seed": options.seed,
            "minutes": options.minutes,
            "steps": STEPS,
            "checkpoint_every": CHECKPOINT_EVERY,
            "requests_broken_share": SHARE_BROKEN,
            "disturbed": story.kills,
            "starts_of_the_driver": story.starts,
            "seconds_to_the_next_step": times,
            "steps_made_again": made - kept,
            "steps_lost": STEPS - kept,
            "weights_equal": found["weights"] == undisturbed["weights"],
            "scores_equal": found["scores"] == undisturbed["scores"],
            "losses_equal": found["losses"] == undisturbed["losses"],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the run is disturbed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raytrain-chaos-")))
        write_job(folder, steps=STEPS, checkpoint_every=CHECKPOINT_EVERY, every=SCORE_EVERY)
        calm = folder / "calm"
        with driver(folder, str(calm), folder / "calm.log") as process:
            if process.wait() != 0:
                raise SystemExit((folder / "calm.log").read_text()[-3000:])
        undisturbed = result(open_store(str(calm)))
        (folder / "s3").mkdir()
        server = stack.enter_context(s3_server(folder / "s3"))
        proxy = stack.enter_context(fault_proxy(server.endpoint))
        os.environ.update(server.environment)
        bucket = server.make_bucket("chaos")
        proxy.chaos(options.seed, SHARE_BROKEN, FAULTS)
        store = open_store(StorageLocation(uri=f"s3://{bucket}", endpoint=server.endpoint))
        story = Chaos(folder, proxy, f"s3://{bucket}", store, random.Random(options.seed)).run(60 * options.minutes)
        proxy.heal()
        found = outcome(story, store, undisturbed, options)
    emit(found, options.out)
    figures = found["figures"]
    if figures["steps_lost"] or not all(figures[f"{what}_equal"] for what in ("weights", "scores", "losses")):
        sys.exit(1)


if __name__ == "__main__":
    main()
