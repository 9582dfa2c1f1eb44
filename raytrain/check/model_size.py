"""The size of the model, as far as it is known without downloading it."""

import json
import struct
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from raytrain.model.shape import FLAN, ModelShape
from raytrain.model.source import check_folder, local_path
from raytrain_core.errors import TrainingError
from raytrain_core.storage.bucket_uri import is_in_bucket

_FLAN = "google/"


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The model's local folder, number of parameters and shape, as far as they are known."""

    folder: Path | None
    parameters: int | None
    note: str
    shape: ModelShape | None = None


def size_of(uri: str, base_folder: Path) -> ModelSize:
    """Look at the model that a job names; TrainingError if it is a path without a T5 model."""
    if uri.startswith("run://") or is_in_bucket(uri):
        return ModelSize(None, None, "unknown: downloaded when the run starts")
    folder = local_path(uri, base_folder)
    if folder.is_dir():
        check_folder(folder, uri)
        parameters = count_parameters(folder)
        return ModelSize(folder, parameters, "counted in its files", _shape(folder, parameters))
    if uri.startswith((".", "/", "~", "file:")) or uri.removeprefix("hf://").partition("@")[0].count("/") > 1:
        raise TrainingError(f"model {uri}: no folder {folder}", hint="give a folder with config.json, or a hub id")
    name = uri.removeprefix("hf://").removeprefix(_FLAN).partition("@")[0]
    if name in FLAN:
        return ModelSize(None, FLAN[name].parameters, "as published", FLAN[name])
    return ModelSize(None, None, "unknown: downloaded from the hub when the run starts")


def _shape(folder: Path, parameters: int) -> ModelShape | None:
    """Reads the shape; the number of parameters tells whether the output layer is tied.

    None if config.json does not describe these files.
    """
    try:
        untied = ModelShape.from_config(json.loads((folder / "config.json").read_text()), tied=False)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return next((shape for shape in (untied, replace(untied, tied=True)) if shape.parameters == parameters), None)


def count_parameters(folder: Path) -> int:
    """Counts the parameters in the safetensors files of a folder by their headers.

    Raises TrainingError if one is broken.
    """
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(min(length, 100 << 20)))
            total += sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
        except (OSError, struct.error, ValueError, KeyError, TypeError):
            raise TrainingError(f"{path} is not a safetensors file, or is damaged") from None
    return total
