"""Finds what a command refers to: the storage, the run, and the local cache."""

import os
from dataclasses import dataclass
from pathlib import Path

from raytrain.config.job import FineTuneJob
from raytrain.config.load import load_job
from raytrain_core.errors import UsageError
from raytrain_core.storage.location import StorageLocation, choose_location, location_of

CACHE_VARIABLE = "RAYTRAIN_CACHE"


@dataclass(frozen=True, slots=True)
class RunLocation:
    """Name and storage of a run."""

    name: str
    storage: StorageLocation


def storage_location(
    flag: str | None, job: FineTuneJob | None = None, *, base_folder: Path | None = None
) -> StorageLocation:
    """Returns the storage to use: flag, job, RAYTRAIN_STORAGE or ./raytrain-storage, in this order.

    See `raytrain_core.storage.location.choose_location`.
    """
    return choose_location(flag, job.spec.storage if job else None, base_folder=base_folder)


def locate_run(run: str, flag: str | None) -> RunLocation:
    """Returns the location of a run given by name, URI (.../runs/NAME) or job file.

    Raises UsageError if the text does not name a run; whether the run exists is not checked.
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
            f"{run} is not the name of a run",
            hint="give its name (with --storage), its job file, or its URI, e.g. s3://bucket/prefix/runs/NAME",
        )
    if flag is not None:
        raise UsageError(f"{run} already names the storage, and so does --storage", hint="leave out --storage")
    return RunLocation(name, location_of(root or "/"))


def cache_folder() -> Path:
    """The folder of downloaded models and shards: RAYTRAIN_CACHE, else ~/.cache/raytrain."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path("~/.cache/raytrain").expanduser())
