"""Kubernetes-native multitask fine-tuning of FLAN-T5 on Ray Train.

From Python, the same job as typed objects:

    import raytrain

    job = raytrain.load("job.yaml")          # or raytrain.FineTuneJob(...)
    outcome = raytrain.run(job)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["FineTuneJob", "load", "run"]

if TYPE_CHECKING:
    from raytrain.config import FineTuneJob
    from raytrain.pipeline.outcome import RunOutcome


def load(path: str | Path) -> FineTuneJob:
    """Loads a job file; ConfigError lists every problem with line and column."""
    from raytrain.config.load import load_job

    return load_job(path).job


def run(
    job: FineTuneJob | str | Path, *, storage: str | None = None, base_folder: Path | None = None, fresh: bool = False
) -> RunOutcome:
    """Runs a job on this machine, or resumes it, as `raytrain run` does.

    `job` is a job or the path of a job file. Relative paths in it are relative to `base_folder`: by
    default the folder of the job file, or the working folder for a job created in Python. Raises a
    `raytrain_core.errors.UserError` for errors in the job, the data or the environment.
    """
    from raytrain.config.load import load_job
    from raytrain.pipeline.run import run as run_job

    if isinstance(job, str | Path):
        loaded = load_job(job)
        job, base_folder = loaded.job, base_folder or loaded.base_folder
    return run_job(job, storage=storage, base_folder=base_folder or Path(), fresh=fresh)


def __getattr__(name: str) -> Any:
    if name == "FineTuneJob":  # on demand: `raytrain --help` needs no pydantic
        from raytrain.config import FineTuneJob

        return FineTuneJob
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
