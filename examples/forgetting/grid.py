"""The forgetting experiment: one task or four, each plain, with replay, or with an anchor.

    python -m examples.forgetting.grid [--world quickstart|real] [--seeds 17 18 19] [CELL ...]

Every cell is an ordinary `raytrain run` with its storage in `out/`: a finished one is skipped, an
interrupted one resumes. Its scores are added to `results/WORLD.json`, from which `python -m
examples.forgetting.page` draws the figures.

Both worlds use the quickstart's base model and its probes: skills that the base model was
pre-trained on and that no cell trains on. The world `quickstart` generates the four tasks; `real`
reads public data sets from the folder RAYTRAIN_REAL_DATA (samsum, womens_clothing_reviews, wnut17,
codexglue_java_cs, each with training, validation and test rows).
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

from examples.forgetting.runs import HERE, QUICKSTART, Job, alone, as_yaml, derive_job, mixture, replay
from examples.quickstart.world import MANIFEST

RESULTS = HERE / "results"
WORLDS = ("quickstart", "real")
SEEDS = (17, 18, 19)
REAL_DATA = "RAYTRAIN_REAL_DATA"
ANCHOR = 10.0
REAL_STEPS = 625

Change = Callable[[Job], None]


def _anchored(job: Job) -> None:
    job["spec"]["training"]["anchor"] = ANCHOR


_REHEARSED = replay("without-probes.jsonl", "other-skills")
CELLS: dict[str, tuple[Change, ...]] = {
    "alone": (alone,),
    "alone-replay": (alone, _REHEARSED),
    "alone-anchor": (alone, _anchored),
    "mixture": (mixture,),
    "mixture-replay": (mixture, _REHEARSED),
    "mixture-anchor": (mixture, _anchored),
}
"""The changes that each cell applies to the quickstart's job, in this order."""

_REAL_SOURCES: dict[str, tuple[str, dict[str, str]]] = {
    "summaries": ("samsum", {"input": "dialogue", "target": "summary"}),
    "reviews": ("womens_clothing_reviews", {"input": "review_text", "target": "rating"}),
    "news": ("wnut17", {"tokens": "tokens", "tags": "ner_tags"}),
    "functions": ("codexglue_java_cs", {"input": "java", "target": "cs"}),
}


def real(folder: Path) -> Change:
    """Returns a change that reads the four tasks from public data sets, whose rows are longer."""

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
    """Returns the job of one run; `folder` holds the public data sets of the world `real`."""

    def change(job: Job) -> None:
        if world == "real":
            assert folder is not None
            real(folder)(job)
        for step in CELLS[name]:
            step(job)
        job["spec"]["mixture"]["seed"] = job["spec"]["training"]["seed"] = seed
        job["spec"]["resources"]["training"]["workers"] = 1  # same steps as with two; two runs fit two cores

    return derive_job(f"{world}-{name}-{seed}", change, str(QUICKSTART.parent))


def scores(storage: Path, run: str) -> dict[str, Any]:
    """Returns the primary metric of every task on its test rows, before and after training.

    Raises SystemExit if a task has no scores.
    """
    from raytrain.config.run_layout import RunLayout
    from raytrain.report.gather import gather
    from raytrain_core.storage import open_store

    data = gather(open_store(str(storage)), RunLayout(run))
    found = {}
    for task in data.tasks:
        before, after = task.primary_metric.before, task.primary_metric.after
        if before is None or after is None:
            raise SystemExit(f"{run}: {task.name} has no scores: {'; '.join(data.missing)}")
        found[task.name] = {
            "metric": task.primary_metric.label,
            "trained": not task.probe,
            "rows": task.scored,
            "before": round(before.value, 4),
            "after": round(after.value, 4),
        }
    return found


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code of the first run that failed, or 0."""
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
        parser.error(f"there is no cell {', '.join(unknown)}; the cells are {', '.join(CELLS)}")
    if not (QUICKSTART.parent / "world" / MANIFEST).exists():
        print(
            "the quickstart's world does not exist\n  Create it: python -m examples.quickstart.world", file=sys.stderr
        )
        return 2
    folder = Path(os.environ[REAL_DATA]).resolve() if os.environ.get(REAL_DATA) else None
    if given.world == "real" and (folder is None or not folder.is_dir()):
        print(f"the world `real` needs a folder of public data sets\n  Set {REAL_DATA} to its path.", file=sys.stderr)
        return 2
    out = given.out.resolve()
    for seed in given.seeds:  # all cells of one seed first: an unfinished grid is readable
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
