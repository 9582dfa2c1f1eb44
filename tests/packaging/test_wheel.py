"""What the wheel holds, and that it is enough in an empty environment."""

import os
import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests.support import REPOSITORY

PACKAGES = ("raytrain", "raytrain_core", "data_prep")
CHARTS = "raytrain/operator/install/charts/"


def files_of(*names):
    """Files of the repository by their paths in it, without what Python leaves there."""
    found = set()
    for path in (REPOSITORY / name for name in names):
        found |= {file for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()}
    return {str(file.relative_to(REPOSITORY)) for file in found if "__pycache__" not in file.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy, so that nothing of an earlier build gets in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in files_of(*PACKAGES, "helm", "pyproject.toml", "setup.py", "README.md", "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((REPOSITORY / name).read_bytes())
    code = "from setuptools import build_meta; import sys; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_every_file_of_the_packages_is_in_it(contents):
    assert files_of(*PACKAGES) - set(contents) == set()
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(contents)


def test_both_charts_are_in_it_as_they_are_in_the_repository(contents):
    charts = {name.removeprefix(CHARTS): text for name, text in contents.items() if name.startswith(CHARTS)}
    assert charts == {name.removeprefix("helm/"): (REPOSITORY / name).read_bytes() for name in files_of("helm")}


def test_its_metadata_name_licence_and_extras(contents):
    (name,) = [name for name in contents if name.endswith(".dist-info/METADATA")]
    metadata = Parser().parsestr(contents[name].decode())
    assert metadata["License-Expression"] == "Apache-2.0"
    assert name.replace("METADATA", "licenses/LICENSE") in contents
    assert {"train", "serve", "operator", "plots", "pii"} <= set(metadata.get_all("Provides-Extra"))
    base = {re.split(r"[\[><=;]", line)[0] for line in metadata.get_all("Requires-Dist") if "extra ==" not in line}
    assert not base & {"torch", "ray", "transformers", "datasets", "numpy", "pyarrow", "kubernetes"}


def run(program, *arguments, folder):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAYTRAIN_", "PYTHON"))}
    environment = kept | {"HOME": str(folder), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [str(program), *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.ray
def test_a_sample_runs_from_the_wheel_alone(wheel, tmp_path):
    """The environment has the wheel and, by a path file, the libraries of this one."""
    uv = Path(sys.executable).with_name("uv")
    run(uv, "venv", "-q", "-p", sys.executable, "env", folder=tmp_path)
    run(uv, "pip", "install", "-q", "--no-deps", "--offline", "-p", "env/bin/python", str(wheel), folder=tmp_path)
    (libraries,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    (libraries / "libraries.pth").write_text(ours + "\n")
    program = tmp_path / "env" / "bin" / "raytrain"
    run(program, "init", "--sample", "project", folder=tmp_path)
    project = tmp_path / "project"
    run(program, "run", "job.yaml", folder=project)
    assert "# sample" in run(program, "report", "sample", folder=project).lower()
