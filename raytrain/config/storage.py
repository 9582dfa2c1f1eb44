"""Which storage a command means, which run, and where this machine keeps what it fetched."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from data_prep.config import Storage
from raytrain.config.job import FineTuneJob
from raytrain.config.load import load_job
from raytrain_core.errors import UsageError
from raytrain_core.storage import Store, open_store

VARIABLE = "RAYTRAIN_STORAGE"
DEFAULT = "./raytrain-storage"
CACHE_VARIABLE = "RAYTRAIN_CACHE"


@dataclass(frozen=True, slots=True)
class RunPlace:
    """A run by name under its storage."""

    name: str
    storage: Storage


def resolve(flag: str | None, job: FineTuneJob | None = None, *, base_folder: Path | None = None) -> Storage:
    """The storage to use: flag, else the document's, else RAYTRAIN_STORAGE, else ./raytrain-storage.

    A relative path in the document is relative to the document (`base_folder`), any other to the
    working folder. A flag replaces the document's storage as a whole, its endpoint and region too.
    """
    if flag is not None:
        if not flag.strip():
            raise UsageError("--storage is empty", hint="give a folder or a URI such as s3://bucket/prefix")
        return Storage(uri=flag)
    if job is not None and job.spec.storage is not None:
        storage = job.spec.storage
        if base_folder is not None and _is_relative_path(storage.uri):
            return storage.model_copy(update={"uri": str(base_folder / storage.uri)})
        return storage
    return Storage(uri=os.environ.get(VARIABLE) or DEFAULT)


def open_place(place: Storage) -> Store:
    """The store at a place; StorageError, UsageError."""
    return open_store(place.uri, endpoint=place.endpoint, region=place.region)


def locate(run: str, flag: str | None) -> RunPlace:
    """The run that a person named: by name under the storage, by URI (.../runs/NAME), or by its document.

    Raises UsageError when the text names no run; whether the run exists is not looked at.
    """
    if run.endswith((".yaml", ".yml")):
        loaded = load_job(run)
        return RunPlace(loaded.job.metadata.name, resolve(flag, loaded.job, base_folder=loaded.base_folder))
    if "/" not in run:
        return RunPlace(run, resolve(flag))
    root, found, name = run.rstrip("/").rpartition("/runs/")
    if not found and run.startswith("runs/"):
        root, found, name = ".", "/", run.rstrip("/").removeprefix("runs/")
    if not found or not name or "/" in name:
        raise UsageError(
            f"{run} names no run",
            hint="give its name (with --storage), its document, or its URI, e.g. s3://bucket/prefix/runs/NAME",
        )
    if flag is not None:
        raise UsageError(f"{run} says where the run is and so does --storage", hint="leave one of them out")
    return RunPlace(name, Storage(uri=root or "/"))


def cache_folder() -> Path:
    """Where fetched models and shards are kept: RAYTRAIN_CACHE, else ~/.cache/raytrain."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path("~/.cache/raytrain").expanduser())


def _is_relative_path(uri: str) -> bool:
    return not urlsplit(uri).scheme and not Path(uri).is_absolute()
