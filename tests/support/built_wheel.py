"""The wheel of this repository, and an environment that has nothing else of it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support import REPOSITORY

PACKAGES = ("raytrain", "raytrain_core", "data_prep")


def files_of(*names: str) -> set[str]:
    """Files of the repository by their paths in it, without what Python leaves there."""
    found: set[Path] = set()
    for path in (REPOSITORY / name for name in names):
        found |= {file for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()}
    return {str(file.relative_to(REPOSITORY)) for file in found if "__pycache__" not in file.parts}


def build_wheel(source: Path, out: Path) -> Path:
    """Builds the wheel from a copy in `source`, so that nothing of an earlier build gets in."""
    for name in files_of(*PACKAGES, "helm", "pyproject.toml", "setup.py", "README.md", "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((REPOSITORY / name).read_bytes())
    code = "from setuptools import build_meta; import sys; build_meta.build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", code, str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = out.glob("*.whl")
    return found


def installed(wheel: Path, folder: Path, *, extra: str) -> Path:
    """Installs the wheel with an extra in a new environment; returns the folder of its programs.

    The libraries of the extra `train` are found in the environment of the tests, by a path file.
    """
    uv = Path(sys.executable).with_name("uv")
    run([uv, "venv", "-q", "-p", sys.executable, "env"], folder)
    run([uv, "pip", "install", "-q", "-p", "env/bin/python", f"{wheel}[{extra}]"], folder)
    (libraries,) = (folder / "env" / "lib").glob("python*/site-packages")
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    (libraries / "libraries.pth").write_text(ours + "\n")
    return folder / "env" / "bin"


def run(command: list[str | Path], folder: Path, variables: Mapping[str, str] | None = None) -> str:
    """Runs a program in `folder`, away from this repository; returns what it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAYTRAIN_", "PYTHON"))}
    environment = {**kept, "HOME": str(folder), **(variables or {})}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
