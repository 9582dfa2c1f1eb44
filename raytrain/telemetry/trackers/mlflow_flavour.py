"""What makes a Hugging Face folder a model of MLflow: the flavour python_function.

MLflow's own transformers flavour wraps a pipeline of the task text2text-generation, which
transformers 5 no longer has. `mlflow.pyfunc.load_model` and `mlflow models serve` work with these
files; the folder beside them remains what plain transformers reads.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from raytrain.telemetry.trackers import mlflow_loader

_LOADER = "raytrain_mlflow_loader"
_NEEDED = ("torch", "transformers", "tokenizers", "safetensors")


def flavour_files(run_id: str) -> Mapping[str, str]:
    """Returns the files by their names in the model's folder."""
    requirements = [requirement for name in _NEEDED if (requirement := _pinned(name))]
    return {
        "MLmodel": _MODEL.format(loader=_LOADER, python=platform.python_version(), run_id=run_id),
        "requirements.txt": "".join(f"{line}\n" for line in requirements),
        "python_env.yaml": _ENVIRONMENT.format(python=platform.python_version()),
        f"code/{_LOADER}.py": Path(mlflow_loader.__file__).read_text(encoding="utf-8"),
    }


def _pinned(name: str) -> str | None:
    try:
        return f"{name}=={version(name).partition('+')[0]}"  # without the build, which an index may not have
    except PackageNotFoundError:
        return None


_MODEL = """\
artifact_path: model
flavors:
  python_function:
    code: code
    env: {{virtualenv: python_env.yaml}}
    loader_module: {loader}
    python_version: {python}
run_id: {run_id}
"""
_ENVIRONMENT = """\
python: {python}
dependencies: [-r requirements.txt]
"""
