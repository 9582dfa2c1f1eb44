"""What `pip install raytrain` costs, for the base and for each extra, and how long `--help` takes.

    python -m benchmarks.installation [--extras NAME ...] [--out FILE]

The wheel is built, and each installation starts from an empty environment, with pip and without its
cache: seconds include the download. MiB are of all files that it added. `train` brings torch with
its CUDA libraries and needs 7 GB of disk meanwhile.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.output import emit
from benchmarks.workload import machine, spread

ROOT = Path(__file__).parents[1]
BASE = "base"
EXTRAS = ("operator", "gcs", "azure", "mlflow", "wandb", "notebook", "pii", "train")
BASE_MIB, HELP_SECONDS = 60.0, 0.3
ROUNDS = 9


def build_wheel(folder: Path) -> Path:
    """Builds the wheel with the setuptools of this environment, from a copy of this checkout."""
    copy = folder / "source"
    shutil.copytree(
        ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "demo", "tests", "__pycache__")
    )
    command: list[str | Path] = [sys.executable, "-m", "uv", "build", "--wheel", "--no-build-isolation", "--quiet"]
    subprocess.run([*command, "--out-dir", folder, copy], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, extra: str, folder: Path) -> dict[str, float]:
    """Installs the wheel with an extra into a new environment in `folder`."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    before = size_of(folder)
    what = str(wheel) if extra == BASE else f"{wheel}[{extra}]"
    began = time.perf_counter()
    pip: list[str | Path] = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--no-cache-dir"]
    subprocess.run([*pip, "--disable-pip-version-check", what], check=True)
    seconds = time.perf_counter() - began
    (packages,) = folder.glob("lib/python*/site-packages")
    mib = round((size_of(folder) - before) / 2**20, 1)
    return {"mib": mib, "seconds": round(seconds, 1), "packages": len(list(packages.glob("*.dist-info")))}


def size_of(folder: Path) -> int:
    """Returns the bytes of all files below a folder; links count nothing."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def help_seconds(program: Path, rounds: int = ROUNDS) -> list[float]:
    """Returns the wall time of each `raytrain --help` after the first, which reads from disk."""
    found = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        subprocess.run([program, "--help"], check=True, stdout=subprocess.DEVNULL)
        found.append(time.perf_counter() - began)
    return found[1:]


def measure(extras: Sequence[str]) -> dict[str, Any]:
    """Measures the base and `extras`, one environment after the other."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        wheel = build_wheel(Path(temporary, "wheel"))
        figures["wheel_mib"] = round(wheel.stat().st_size / 2**20, 2)
        for extra in (BASE, *extras):
            with tempfile.TemporaryDirectory(dir=temporary) as folder:
                figures[extra] = install(wheel, extra, Path(folder, "env"))
                if extra == BASE:
                    figures["help_seconds"] = spread(help_seconds(Path(folder, "env/bin/raytrain")))
    bars = {
        "base_mib": {"value": figures[BASE]["mib"], "bar": f"at most {BASE_MIB:.0f}"},
        "help_seconds": {"value": round(figures["help_seconds"]["median"], 3), "bar": f"at most {HELP_SECONDS}"},
    }
    return {"machine": machine(), "ratios": {}, "bars": bars, "figures": figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--extras", nargs="*", default=list(EXTRAS), choices=EXTRAS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    emit(measure(given.extras), given.out)


if __name__ == "__main__":
    main()
