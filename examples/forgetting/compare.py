"""Run the jobs of the comparison one after the other and draw one picture of what they gained and forgot.

    python -m examples.forgetting.compare [--out FOLDER] [RUN ...]

Every run is an ordinary `raytrain run`: one that is done is not done again, one that was
interrupted goes on.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from examples.forgetting.arms import ARMS, HERE, JOBS
from examples.quickstart.world import HERE as QUICKSTART
from examples.quickstart.world import MANIFEST


def main(arguments: list[str] | None = None) -> int:
    """Command line; the exit code is that of the first run that failed."""
    names = [arm.name for arm in ARMS]
    parser = argparse.ArgumentParser(prog="python -m examples.forgetting.compare", description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"which runs to compare (default: {', '.join(names)})")
    parser.add_argument("--out", type=Path, default=HERE / "out", help="storage and pictures (default: %(default)s)")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.runs) - set(names)):
        parser.error(f"there is no run {', '.join(unknown)}; there are {', '.join(names)}")
    if not (QUICKSTART / "world" / MANIFEST).exists():
        print("the quickstart's world is not there\n  Make it: python -m examples.quickstart.world", file=sys.stderr)
        return 2
    wanted = given.runs or names
    for name in wanted:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", "raytrain", "run", str(JOBS / f"{name}.yaml"), "--storage", str(given.out)]
        if code := subprocess.run(command, check=False).returncode:
            return code
    for path in draw(given.out, wanted):
        print(path)
    return 0


def draw(storage: Path, names: list[str]) -> list[Path]:
    """Write contrast.html, contrast.svg and contrast.md of these finished runs into the storage's folder."""
    from raytrain.config.run_layout import RunLayout
    from raytrain.report.gather import gather
    from raytrain.report.side_by_side import ComparedRun, render_side_by_side
    from raytrain_core.storage import open_store

    store = open_store(str(storage))
    runs = [ComparedRun(arm.label, gather(store, RunLayout(arm.name))) for arm in ARMS if arm.name in names]
    rendered = render_side_by_side(runs)
    written = []
    for kind in ("html", "svg", "markdown"):
        path = storage / f"contrast.{'md' if kind == 'markdown' else kind}"
        path.write_text(getattr(rendered, kind), encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    sys.exit(main())
