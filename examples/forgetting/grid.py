"""The experiment: one task or four, with nothing against forgetting, with rehearsal, or held by an anchor.

    python -m examples.forgetting.grid [--world quickstart|real] [--seeds 17 18 19] [CELL ...]

Every cell is an ordinary `raytrain run` under `out/`: one that is done is not done again, one that
was interrupted goes on. What it scored is added to `results/WORLD.json`, from which `python -m
examples.forgetting.page` draws the figures.

The base model is the quickstart's in both worlds, and so are the skills that may be forgotten: it
was taught them, and no cell trains on them. In the world `quickstart` the four tasks are generated;
in `real` they are public sets that lie in the folder RAYTRAIN_REAL_DATA (samsum,
womens_clothing_reviews, wnut17, codexglue_java_cs, each with rows for training, validation and
test).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from examples.forgetting.arms import HERE, QUICKSTART, Job, alone, as_yaml, made, mixture, replay
from examples.quickstart.world import MANIFEST

RESULTS = HERE / "results"
WORLDS = ("quickstart", "real")
SEEDS = (17, 18, 19)
REAL_DATA = "RAYTRAIN_REAL_DATA"
ANCHOR = 10.0
REAL_STEPS = 625

Change = Callable[[Job], None]


def _held(job: Job) -> None:
    job["spec"]["training"]["anchor"] = ANCHOR


_REHEARSED = replay("without-probes.jsonl", "other-skills")
CELLS: dict[str, tuple[Change, ...]] = {
    "alone": (alone,),
    "alone-replay": (alone, _REHEARSED),
    "alone-anchor": (alone, _held),
    "mixture": (mixture,),
    "mixture-replay": (mixture, _REHEARSED),
    "mixture-anchor": (mixture, _held),
}
"""What each cell changes of the quickstart's job, in this order."""

_REAL_SOURCES: dict[str, tuple[str, dict[str, str]]] = {
    "summaries": ("samsum", {"input": "dialogue", "target": "summary"}),
    "reviews": ("womens_clothing_reviews", {"input": "review_text", "target": "rating"}),
    "news": ("wnut17", {"tokens": "tokens", "tags": "ner_tags"}),
    "functions": ("codexglue_java_cs", {"input": "java", "target": "cs"}),
}


def real(folder: Path) -> Change:
    """The quickstart's four tasks with rows of public sets; real rows are longer."""

    def change(job: Job) -> None:
        spec = job["spec"]
        for task in spec["tasks"]:
            if task["name"] not in _REAL_SOURCES:
                continue
            name, columns = _REAL_SOURCES[task["name"]]
            task |= {"source": {"uri": str(folder / name)}, "columns": columns, "onBadRow": "skip"}
            if "fields" in task:
                task["fields"] = {"from": "Java", "to": "C#"}
                task["templates"] = [text.replace("Python", "C#") for text in task["templates"]]
        spec["training"] |= {"packing": {"source": 400, "target": 112}, "maxInputTokens": 384, "steps": REAL_STEPS}
        spec["evaluation"] |= {"examplesPerTask": 100, "maxNewTokens": 48}
        job["metadata"]["annotations"] = {}

    return change


def cell(world: str, name: str, seed: int, folder: Path | None = None) -> Job:
    """The job of one run; `folder` holds the public sets of the world `real`."""

    def change(job: Job) -> None:
        if world == "real":
            assert folder is not None
            real(folder)(job)
        for step in CELLS[name]:
            step(job)
        job["spec"]["mixture"]["seed"] = job["spec"]["training"]["seed"] = seed
        job["spec"]["resources"]["training"]["workers"] = 1  # two make the same steps; so two runs fit two cores

    return made(f"{world}-{name}-{seed}", change, str(QUICKSTART.parent))


def scores(storage: Path, run: str) -> dict[str, Any]:
    """What a finished run says of each task it scored: test rows, before and after."""
    from raytrain.config.run_layout import RunLayout
    from raytrain.report.gather import gather
    from raytrain_core.storage import open_store

    data = gather(open_store(str(storage)), RunLayout(run))
    found = {}
    for task in data.tasks:
        before, after = task.primary_metric.before, task.primary_metric.after
        if before is None or after is None:
            raise SystemExit(f"{run}: {task.name} was not scored: {'; '.join(data.missing)}")
        found[task.name] = {
            "metric": task.primary_metric.label,
            "trained": not task.probe,
            "rows": task.scored,
            "before": round(before.value, 4),
            "after": round(after.value, 4),
        }
    return found


def main(arguments: list[str] | None = None) -> int:
    """Command line; the exit code is that of the first run that failed."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.forgetting.grid",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cells", nargs="*", metavar="CELL", help=f"default: {', '.join(CELLS)}")
    parser.add_argument("--world", choices=WORLDS, default="quickstart")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=HERE / "out", help="storage of the runs (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="(default: %(default)s)")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.cells) - set(CELLS)):
        parser.error(f"there is no cell {', '.join(unknown)}; there are {', '.join(CELLS)}")
    if not (QUICKSTART.parent / "world" / MANIFEST).exists():
        print("the quickstart's world is not there\n  Make it: python -m examples.quickstart.world", file=sys.stderr)
        return 2
    folder = Path(os.environ[REAL_DATA]).resolve() if os.environ.get(REAL_DATA) else None
    if given.world == "real" and (folder is None or not folder.is_dir()):
        print(f"the world `real` needs the folder of the public sets\n  Set {REAL_DATA}.", file=sys.stderr)
        return 2
    out = given.out.resolve()
    for seed in given.seeds:  # one seed of everything first: a grid that is cut off can be read already
        for name in given.cells or CELLS:
            job = cell(given.world, name, seed, folder)
            print(f"== {job['metadata']['name']}", flush=True)
            if code := _run(job, out, given.results / f"{given.world}.json", {"cell": name, "seed": seed}):
                return code
    return 0


def _run(job: Job, out: Path, results: Path, key: dict[str, Any]) -> int:
    kept: list[dict[str, Any]] = json.loads(results.read_text())["runs"] if results.exists() else []
    if any({name: run[name] for name in key} == key for run in kept):
        return 0
    run = job["metadata"]["name"]
    path = out / "grid" / f"{run}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_yaml(job))
    began = time.monotonic()
    command = [sys.executable, "-m", "raytrain", "run", str(path), "--storage", str(out)]
    if code := subprocess.run(command, check=False).returncode:
        return code
    entry = key | {
        "steps": job["spec"]["training"]["steps"],
        "seconds": round(time.monotonic() - began),
        "tasks": scores(out, run),
    }
    order = list(CELLS)
    runs = sorted([*kept, entry], key=lambda one: (order.index(one["cell"]), one["seed"]))
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps({"runs": runs}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
