"""Loads a FineTuneJob from its file."""

from dataclasses import dataclass
from pathlib import Path

from raytrain.config.job import FineTuneJob
from raytrain_core.config.loader import load_config


@dataclass(frozen=True, slots=True)
class LoadedJob:
    """A job with its file and the folder that its relative paths are relative to."""

    job: FineTuneJob
    path: Path
    base_folder: Path


def load_job(path: str | Path) -> LoadedJob:
    """Loads and validates a job file; ConfigError lists every problem with line and column."""
    job = load_config(path, FineTuneJob)
    return LoadedJob(job, Path(path), Path(path).resolve().parent)
