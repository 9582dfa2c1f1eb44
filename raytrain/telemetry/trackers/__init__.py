"""Optional trackers: TensorBoard, MLflow, Weights & Biases.

A run is one run at each tracker, however many attempts it takes: its id there is kept in the run's
storage (`record`). What a tracker gets is read from the run's storage, so one that was down gets
everything once it is back (`raytrain.pipeline.tracking`).
"""

from raytrain.telemetry.trackers.base import NAMES, Ending, Steps, Tracker
from raytrain.telemetry.trackers.open import import_packages, open_tracker, require_packages
from raytrain.telemetry.trackers.record import TrackerRecord, read_tracker, write_tracker

__all__ = [
    "NAMES",
    "Ending",
    "Steps",
    "Tracker",
    "TrackerRecord",
    "import_packages",
    "open_tracker",
    "read_tracker",
    "require_packages",
    "write_tracker",
]
