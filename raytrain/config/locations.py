"""Which storage a command means, which run, and where this machine keeps what it fetched."""

import os
from dataclasses import dataclass
from pathlib import Path

from raytrain.config.job import FineTuneJob
from raytrain.config.load import load_job
from raytrain_core.errors import UsageError
from raytrain_core.storage.location import StorageLocation, choose_location

CACHE_VARIABLE = "RAYTRAIN_CACHE"


@dataclass(frozen=True, slots=True)
class RunLocation:
    """A run by name under its storage."""

    name: str
    storage: StorageLocation


def storage_location(
    flag: str | None, job: FineTuneJob | None = None, *, base_folder: Path | None = None
) -> StorageLocation:
    """Returns the storage to use: the flag, else the job's, else RAYTRAIN_STORAGE, else ./raytrain-storage.

    See `raytrain_core.storage.location.choose_location`.
    """
    return choose_location(flag, job.spec.storage if job else None, base_folder=base_folder)


def locate_run(run: str, flag: str | None) -> RunLocation:
    """The run that a person named: by name under the storage, by URI (.../runs/NAME), or by its job.

    Raises UsageError when the text names no run; whether the run exists is not looked at.
    """
    if run.endswith((".yaml", ".yml")):
        loaded = load_job(run)
        return RunLocation(loaded.job.metadata.name, storage_location(flag, loaded.job, base_folder=loaded.base_folder))
    if "/" not in run:
        return RunLocation(run, storage_location(flag))
    root, found, name = run.rstrip("/").rpartition("/runs/")
    if not found and run.startswith("runs/"):
        root, found, name = ".", "/", run.rstrip("/").removeprefix("runs/")
    if not found or not name or "/" in name:
        raise UsageError(
            f"{run} names no run",
            hint="give its name (with --storage), its job, or its URI, e.g. s3://bucket/prefix/runs/NAME",
        )
    if flag is not None:
        raise UsageError(f"{run} says where the run is and so does --storage", hint="leave one of them out")
    return RunLocation(name, StorageLocation(uri=root or "/"))


def cache_folder() -> Path:
    """Where fetched models and shards are kept: RAYTRAIN_CACHE, else ~/.cache/raytrain."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path("~/.cache/raytrain").expanduser())
