"""A run under a random schedule of kills, against the same run undisturbed: what is lost, and how soon it goes on.

    python -m benchmarks.chaos --minutes 10 --seed 1 --out benchmarks/results/chaos.json

The storage is a real S3 server behind a proxy that breaks a share of all requests. Every so often,
by the seed, a training worker, an evaluation actor or the driver is killed with -9, or the store is
gone for some seconds. A driver that is dead is started again with the same command. In the end
weights, scores and losses are held against those of a run that nobody touched; a difference is an
error (exit 1).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
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
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.killing import LAYOUT, driver, end, family_of, named, result
from tests.support.s3_server import s3_server
from tests.support.tiny_job import write_job

STEPS, CHECKPOINT_EVERY, SCORE_EVERY = 5000, 100, 300  # some 20 ms a step, so that kills find it at work
VICTIMS = {"worker": "RayTrainWorker", "actor": "EvaluationActor"}
FAULTS = ("slow-down", "reset", "lost-answer", "truncated", "flipped")
SHARE_BROKEN = 0.05
SETTLING = 5.0
"""Seconds in which a step may still be told of that was made before a kill."""
PATIENCE = 300.0
"""Seconds without a further step after which the run counts as stuck."""


@dataclass
class Story:
    """What was done to the run, and how it took it."""

    kills: dict[str, int] = field(default_factory=dict)
    recovery_seconds: dict[str, list[float]] = field(default_factory=dict)
    starts: int = 0

    def done(self, what: str) -> None:
        self.kills[what] = self.kills.get(what, 0) + 1

    def recovered(self, what: str, seconds: float) -> None:
        self.recovery_seconds.setdefault(what, []).append(seconds)


def step_of(store: Store) -> int:
    """The newest step that the run has told of."""
    try:
        progress = read_progress(store, LAYOUT)
    except StorageError:
        return 0
    return progress.step if progress else 0


def torment(folder: Path, proxy: FaultProxy, storage: str, store: Store, rng: random.Random, seconds: float) -> Story:
    """Run to the end, disturbing it for `seconds`; `store` looks past the proxy."""
    story, until, due = Story(), time.monotonic() + seconds, list[str]()
    while True:
        story.starts += 1
        with driver(folder, storage, folder / "chaos.log", {"AWS_ENDPOINT_URL": proxy.endpoint}) as process:
            if story.starts > 1:
                waited(story, "driver", store, process)
            while process.poll() is None:
                if time.monotonic() > until or step_of(store) == 0:
                    time.sleep(0.5)
                    continue
                time.sleep(rng.uniform(3, 15))
                there = {"driver", "store", *(kind for kind, name in VICTIMS.items() if named(process, name))}
                if not there & {*due}:  # every kind once before one comes again; actors are there while they score
                    due += rng.sample(("worker", "actor", "driver", "store"), 4)
                what = next(kind for kind in due if kind in there)
                due.remove(what)
                if what == "driver":
                    family = family_of(process.pid)
                    process.kill()
                    process.wait()
                    end(family)
                    story.done(what)
                elif what == "store":
                    story.done(what)
                    for method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
                        proxy.break_("reset", method)
                    time.sleep(rng.uniform(2, 10))
                    proxy.rules.clear()
                    waited(story, what, store, process)
                elif victims := named(process, VICTIMS[what]):
                    rng.choice(victims).kill()
                    story.done(what)
                    if what == "worker":
                        waited(story, what, store, process)
            if process.returncode == 0:
                return story


def waited(story: Story, what: str, store: Store, process: Any) -> None:
    """How long it takes until a step is told of that was made after the disturbance."""
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
    """Every step that was made, those that were made again too."""
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
        story = torment(folder, proxy, f"s3://{bucket}", store, random.Random(options.seed), 60 * options.minutes)
        proxy.heal()
        found = outcome(story, store, undisturbed, options)
    emit(found, options.out)
    figures = found["figures"]
    if figures["steps_lost"] or not all(figures[f"{what}_equal"] for what in ("weights", "scores", "losses")):
        sys.exit(1)


if __name__ == "__main__":
    main()
