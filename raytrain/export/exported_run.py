"""A run whose model is taken out."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from raytrain.config.run_layout import RunLayout
from raytrain.runs.record import RunRecord
from raytrain_core.storage import Store
from raytrain_core.storage.commit import Manifest

REPORT = "conversion-report.json"
"""How far a converted model gives what the run's model gives."""
_BESIDE = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")


@dataclass(frozen=True, slots=True)
class ExportedRun:
    """What a run left to be taken out, with its model in the local folder `model`."""

    store: Store
    layout: RunLayout
    record: RunRecord
    manifest: Manifest
    model: Path


def copy_beside(model: Path, out: Path) -> None:
    """Copies what every format needs beside its weights: the tokenizer, and how to decode."""
    for name in _BESIDE:
        if (model / name).is_file():
            shutil.copyfile(model / name, out / name)
