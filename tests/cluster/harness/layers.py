"""Layers of the images, laid out in the cache folder: locked dependencies and our code.

uv hard-links installed files from its cache: laying out six gigabytes takes seconds and no space.
"""

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.harness.console import Echo
from tests.cluster.harness.paths import cache_folder
from tests.cluster.harness.processes import run
from tests.support import REPOSITORY

PYTHON = "3.11"
"""Python version of the base image."""

_HOME = Path("opt/raytrain")  # the virtual environment in the image, below /
_CODE = ("raytrain_core", "data_prep", "raytrain", "pyproject.toml", "README.md", "LICENSE")
_NEVER = ("python", "activate", "deactivate", "pydoc.bat")  # already in the image's own environment


@dataclass(frozen=True)
class Layer:
    """A folder tree to overlay on the image's root, and the digest of its recipe."""

    folder: Path
    digest: str
    what: str


def environment(target: str, echo: Echo) -> Layer:
    """Returns the layer of a target's locked dependencies, compiled."""
    lock = REPOSITORY / "requirements" / f"{target}.txt"
    layer = _layer(f"{target}-dependencies", lock.read_bytes())
    if not layer.folder.exists():
        echo(f"image {target}: installing its dependencies (a minute, once)")
        with _filling(layer) as python:
            _uv("pip", "sync", "--quiet", "--link-mode", "hardlink", "--require-hashes", "--python", python, lock)
    return layer


def code() -> Layer:
    """Returns the layer of our packages, installed from a wheel as in the Dockerfile."""
    files = sorted(path for name in _CODE for path in _files(REPOSITORY / name))
    hasher = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        hasher.update(f"{path.relative_to(REPOSITORY)}\0{len(content)}\0".encode() + content)
    layer = _layer("code", hasher.digest())
    if not layer.folder.exists():
        with _filling(layer) as python, tempfile.TemporaryDirectory(prefix="raytrain-code-") as scratch:
            source = Path(scratch) / "source"
            for path in files:
                copy = source / path.relative_to(REPOSITORY)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            wheels = Path(scratch) / "wheels"
            _uv("build", "--quiet", "--offline", "--wheel", "--no-build-isolation", "--python", sys.executable,
                "--out-dir", wheels, source)  # fmt: skip
            _uv("pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, *wheels.glob("*.whl"))
    return layer


def program(name: str, source: Path) -> Layer:
    """Returns the layer of one program, in the folder of the run's own programs."""
    layer = _layer(f"program-{name}", source.read_bytes())
    if not layer.folder.exists():
        layer.folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{layer.what}-", dir=layer.folder.parent))
        scratch.chmod(0o755)  # it becomes the image's root
        (scratch / _HOME / "bin").mkdir(parents=True)
        shutil.copyfile(source, scratch / _HOME / "bin" / name)
        (scratch / _HOME / "bin" / name).chmod(0o755)
        scratch.rename(layer.folder)
    return layer


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [found for found in path.rglob("*") if found.is_file() and "__pycache__" not in found.parts]


def _layer(name: str, content: bytes) -> Layer:
    recipe = hashlib.sha256(f"{name} {PYTHON} 1\0".encode() + content).hexdigest()
    return Layer(cache_folder() / "layers" / f"{name}-{recipe[:12]}", f"sha256:{recipe}", name)


@contextmanager
def _filling(layer: Layer) -> Iterator[Path]:
    """Yields the Python of a new virtual environment; then turns its packages into the layer."""
    layer.folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{layer.what}-", dir=layer.folder.parent))
    try:
        venv = scratch / "environment"
        _uv("venv", "--quiet", "--relocatable", "--no-python-downloads", "--python", PYTHON, venv)
        python = venv / "bin/python"
        yield python
        packages = venv / f"lib/python{PYTHON}/site-packages"
        # unchecked: files in an image never change
        run(python, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", packages, check=False)
        tree = scratch / "tree"
        home = tree / _HOME
        home.mkdir(parents=True)
        for left in packages.glob("_virtualenv.*"):
            left.unlink()
        (venv / "lib").rename(home / "lib")
        (home / "bin").mkdir()
        for program in (venv / "bin").iterdir():
            if not program.name.startswith(_NEVER):
                program.rename(home / "bin" / program.name)
        tree.rename(layer.folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _uv(*arguments: str | Path) -> None:
    run(Path(sys.executable).with_name("uv"), *arguments)
