"""The size of the model, as far as it is known without downloading it."""

import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path

from raytrain.model.source import check_folder, local_path
from raytrain_core.errors import TrainingError
from raytrain_core.storage.bucket_uri import is_in_bucket

# The published checkpoints, by the number of their parameters.
_KNOWN = {
    "flan-t5-small": 76_961_152,
    "flan-t5-base": 247_577_856,
    "flan-t5-large": 783_150_080,
    "flan-t5-xl": 2_849_757_184,
    "flan-t5-xxl": 11_135_332_352,
}
_FLAN = "google/"


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The model's local folder and number of parameters, if they are known."""

    folder: Path | None
    parameters: int | None
    note: str


def size_of(uri: str, base_folder: Path) -> ModelSize:
    """Look at the model that a job names; TrainingError if it is a path without a T5 model."""
    if uri.startswith("run://") or is_in_bucket(uri):
        return ModelSize(None, None, "unknown: downloaded when the run starts")
    folder = local_path(uri, base_folder)
    if folder.is_dir():
        check_folder(folder, uri)
        return ModelSize(folder, count_parameters(folder), "counted in its files")
    if uri.startswith((".", "/", "~", "file:")) or uri.removeprefix("hf://").partition("@")[0].count("/") > 1:
        raise TrainingError(f"model {uri}: no folder {folder}", hint="give a folder with config.json, or a hub id")
    name = uri.removeprefix("hf://").removeprefix(_FLAN).partition("@")[0]
    if name in _KNOWN:
        return ModelSize(None, _KNOWN[name], "as published")
    return ModelSize(None, None, "unknown: downloaded from the hub when the run starts")


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
