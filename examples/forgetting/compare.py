"""Runs the jobs of the comparison and draws one picture of what they gained and forgot.

    python -m examples.forgetting.compare [--out FOLDER] [RUN ...]

Every run is an ordinary `raytrain run`: a finished one is skipped, an interrupted one resumes.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from examples.forgetting.runs import HERE, JOBS, RUNS
from examples.quickstart.world import HERE as QUICKSTART
from examples.quickstart.world import MANIFEST


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code of the first run that failed, or 0."""
    names = [run.name for run in RUNS]
    parser = argparse.ArgumentParser(prog="python -m examples.forgetting.compare", description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"runs to compare (default: {', '.join(names)})")
    parser.add_argument(
        "--out", type=Path, default=HERE / "out", help="folder for storage and pictures (default: %(default)s)"
    )
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.runs) - set(names)):
        parser.error(f"there is no run {', '.join(unknown)}; the runs are {', '.join(names)}")
    if not (QUICKSTART / "world" / MANIFEST).exists():
        print(
            "the quickstart's world does not exist\n  Create it: python -m examples.quickstart.world", file=sys.stderr
        )
        return 2
    requested = given.runs or names
    for name in requested:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", "raytrain", "run", str(JOBS / f"{name}.yaml"), "--storage", str(given.out)]
        if code := subprocess.run(command, check=False).returncode:
            return code
    for path in draw(given.out, requested):
        print(path)
    return 0


def draw(storage: Path, names: list[str]) -> list[Path]:
    """Writes contrast.html, .svg and .md of these finished runs into the storage folder."""
    from raytrain.config.run_layout import RunLayout
    from raytrain.report.compare_runs import read_compared_run
    from raytrain.report.side_by_side import render_side_by_side
    from raytrain_core.storage import open_store

    store = open_store(str(storage))
    runs = [read_compared_run(store, RunLayout(run.name), run.label) for run in RUNS if run.name in names]
    rendered = render_side_by_side(runs)
    written = []
    for kind in ("html", "svg", "markdown"):
        path = storage / f"contrast.{'md' if kind == 'markdown' else kind}"
        path.write_text(getattr(rendered, kind), encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    sys.exit(main())
