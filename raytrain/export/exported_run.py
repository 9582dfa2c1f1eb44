"""A run whose model is taken out."""

from dataclasses import dataclass
from pathlib import Path

from raytrain.config.run_layout import RunLayout
from raytrain.runs.record import RunRecord
from raytrain_core.storage import Store
from raytrain_core.storage.commit import Manifest


@dataclass(frozen=True, slots=True)
class ExportedRun:
    """What a run left to be taken out, with its model in the local folder `model`."""

    store: Store
    layout: RunLayout
    record: RunRecord
    manifest: Manifest
    model: Path
