"""The forgetting experiment: what guards against forgetting, as a sweep.

    python -m examples.forgetting.experiment [--world quickstart|real] [--plan|--publish]

`sweep.yaml` is the experiment; its job, `jobs/guards.yaml`, is derived from the quickstart's: a
third of its steps, one worker, the last checkpoint, and the skills to replay as a further task. The
finished leaderboard of the world `quickstart` and its picture are what `--publish` copies to
`results/` and docs, where `python -m examples.forgetting.page` reads it. The world `real` reads the
four tasks from public data sets in the folder RAYTRAIN_REAL_DATA (samsum, womens_clothing_reviews,
wnut17, codexglue_java_cs, each with training, validation and test rows); base model and probes stay
the same.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from examples.forgetting import page
from examples.forgetting.runs import HERE, JOBS, QUICKSTART, Job, as_yaml, derive_job
from examples.quickstart.world import MANIFEST

SWEEP = HERE / "sweep.yaml"
WORLDS = ("quickstart", "real")
REAL_DATA = "RAYTRAIN_REAL_DATA"
STEPS, WARMUP_STEPS, SCORED_ROWS = 400, 20, 100
"""Of a run: so that all of them take little more than half an hour on two cores."""
_REAL_SOURCES: dict[str, tuple[str, dict[str, str]]] = {
    "summaries": ("samsum", {"input": "dialogue", "target": "summary"}),
    "reviews": ("womens_clothing_reviews", {"input": "review_text", "target": "rating"}),
    "news": ("wnut17", {"tokens": "tokens", "tags": "ner_tags"}),
    "functions": ("codexglue_java_cs", {"input": "java", "target": "cs"}),
}


def guards(job: Job) -> None:
    """Adds the skills that some settings replay; in all others they are a probe."""
    spec = job["spec"]
    spec["tasks"].append(
        {
            "name": "other-skills",
            "type": "text",
            "source": {"uri": "./world/replay/without-probes.jsonl"},
            "templates": ["{input}"],  # these rows are complete prompts
            "templatesPerExample": 1,
            "metrics": ["exact_match"],
            "probe": True,
        }
    )
    spec["training"] |= {"steps": STEPS, "warmupSteps": WARMUP_STEPS, "checkpointEvery": STEPS}
    spec["evaluation"] |= {"examplesPerTask": SCORED_ROWS}
    spec["resources"]["training"]["workers"] = 1  # same steps as with two; two runs fit two cores


def real(folder: Path) -> Callable[[Job], None]:
    """Returns a change that reads the four tasks from public data sets, whose rows are longer."""

    def change(job: Job) -> None:
        guards(job)
        spec = job["spec"]
        for task in spec["tasks"]:
            if task["name"] not in _REAL_SOURCES:
                continue
            name, columns = _REAL_SOURCES[task["name"]]
            task |= {"source": {"uri": str(folder / name)}, "columns": columns, "onBadRow": "skip"}
            if "fields" in task:
                task["fields"] = {"from": "Java", "to": "C#"}
                task["templates"] = [text.replace("Python", "C#") for text in task["templates"]]
        spec["training"] |= {"packing": {"source": 400, "target": 112}, "maxInputTokens": 384}
        spec["evaluation"] |= {"maxNewTokens": 48}
        job["metadata"]["annotations"] = {}

    return change


def job_yaml() -> str:
    """Returns the job file of the sweep."""
    head = (
        "# The job of ../sweep.yaml: the quickstart's four tasks, and old skills that can be replayed.\n"
        "# Generated from ../../quickstart/job.yaml by `python -m examples.forgetting.experiment --write-job`.\n"
    )
    return head + as_yaml(derive_job("guards", guards, "../../quickstart"))


def write_real_sweep(folder: Path, out: Path) -> Path:
    """Writes job and sweep of the world `real` into `out`; returns the sweep's file."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "real.yaml").write_text(as_yaml(derive_job("guards-real", real(folder), str(QUICKSTART.parent))))
    sweep = SWEEP.read_text().replace("name: guards}", "name: guards-real}").replace("jobs/guards.yaml", "real.yaml")
    (out / "real-sweep.yaml").write_text(sweep)
    return out / "real-sweep.yaml"


def publish(out: Path) -> int:
    """Copies leaderboard and picture of the finished sweep to where the page reads them."""
    folder = out / "sweeps" / "guards"
    file = folder / "leaderboard.json"
    board = json.loads(file.read_text()) if file.exists() else {"waiting": True}
    if board["waiting"]:
        print(f"{file} is not that of a finished sweep\n  Run it: make experiment", file=sys.stderr)
        return 2
    del board["storage"]  # a place on the machine that ran it
    page.GUARDS.write_text(json.dumps(board, indent=1, ensure_ascii=False) + "\n")
    shutil.copy(folder / "leaderboard.svg", page.GUARDS_PICTURE)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code of `raytrain sweep`."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.forgetting.experiment",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--world", choices=WORLDS, default="quickstart")
    parser.add_argument("--out", type=Path, default=HERE / "out", help="storage of the runs (default: %(default)s)")
    parser.add_argument("--plan", action="store_true", help="check everything and list the runs")
    parser.add_argument("--publish", action="store_true", help="copy the finished leaderboard to results/ and docs")
    parser.add_argument("--write-job", action="store_true", help="write jobs/guards.yaml again and end")
    given = parser.parse_args(arguments)
    if given.write_job:
        (JOBS / "guards.yaml").write_text(job_yaml())
        return 0
    if given.publish:
        return publish(given.out)
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
    sweep = SWEEP if given.world == "quickstart" or folder is None else write_real_sweep(folder, out)
    command = [sys.executable, "-m", "raytrain", "sweep", str(sweep), "--storage", str(out)]
    return subprocess.run(command + ["--plan"] * given.plan, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
