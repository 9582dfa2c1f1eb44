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
    """The job file at `path`; raises ConfigError, which names every problem by line and column."""
    from raytrain.config.load import load_job

    return load_job(path).job


def run(
    job: FineTuneJob | str | Path, *, storage: str | None = None, base_folder: Path | None = None, fresh: bool = False
) -> RunOutcome:
    """Run a job here, or resume it, or find it done: what `raytrain run` does.

    `job` is a job or the path of one. Relative paths in it start at `base_folder`: by default
    the job file's own folder, or the working folder for a job made in Python. Raises a
    `raytrain_core.errors.UserError` for a mistake in the job, the data or the surroundings.
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
