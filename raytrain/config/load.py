"""A FineTuneJob from its file or from Python data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytrain.config.job import FineTuneJob
from raytrain_core.config.loader import from_mapping, load_config


@dataclass(frozen=True, slots=True)
class LoadedJob:
    """A job, the file it came from, and the folder that its relative paths start at."""

    job: FineTuneJob
    path: Path
    base_folder: Path


def load_job(path: str | Path) -> LoadedJob:
    """Read and check the job file at `path`; ConfigError names every problem by line and column."""
    job = load_config(path, FineTuneJob)
    return LoadedJob(job, Path(path), Path(path).resolve().parent)


def job_from(mapping: Mapping[str, Any]) -> FineTuneJob:
    """The job as Python data, checked like a file; names in camelCase or snake_case."""
    return from_mapping(mapping, FineTuneJob, name="job")
