"""Opens a tracker by its name."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from raytrain.telemetry.trackers.base import Tracker
from raytrain_core.errors import UsageError
from raytrain_core.extras import how_to_install

_PACKAGES = {"tensorboard": ("tensorboardX", "train"), "mlflow": ("mlflow", "mlflow"), "wandb": ("wandb", "wandb")}


def require_packages(names: Sequence[str]) -> None:
    """Raises UsageError if the package of a tracker is not installed."""
    for name in names:
        package, extra = _PACKAGES[name]
        if find_spec(package) is None:
            raise UsageError(
                f"training.trackers: {name} needs the package {package}, which is not installed",
                hint=f"{how_to_install(extra)} (in the image, too), or remove {name} from the list",
            )


def import_packages(names: Sequence[str]) -> None:
    """Imports the trackers' packages now, so that nothing waits for that later."""
    for name in names:
        import_module(_PACKAGES[name][0])


def open_tracker(name: str, *, run: str, known: str, folder: Path) -> Tracker:
    """Finds the run with the id `known` at a tracker, or creates it ("").

    TensorBoard writes into `folder`. Raises whatever the tracker's package does.
    """
    if name == "mlflow":
        from raytrain.telemetry.trackers.mlflow import MLflowTracker

        return MLflowTracker(run, known)
    if name == "wandb":
        from raytrain.telemetry.trackers.wandb import WandBTracker

        return WandBTracker(run, known)
    from raytrain.telemetry.trackers.tensorboard import TensorBoardTracker

    return TensorBoardTracker(folder)
