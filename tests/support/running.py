"""Runs a job file in this process, as `raytrain run` does."""

from pathlib import Path

from raytrain.config.load import load_job
from raytrain.pipeline.outcome import RunOutcome
from raytrain.pipeline.run import run


def run_job_file(path: Path, *, storage: str) -> RunOutcome:
    loaded = load_job(path)
    return run(loaded.job, storage=storage, base_folder=loaded.base_folder)
