"""Weights & Biases: a run of the project WANDB_PROJECT (raytrain), online or WANDB_MODE=offline."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raytrain.telemetry.trackers.base import Ending, Steps

_STEP = "trained_steps"
_EXIT: dict[Ending, int] = {"finished": 0, "failed": 1, "killed": 130}


class WandBTracker:
    """A run at W&B.

    The x-axis is `trained_steps`: scores of a checkpoint arrive after later steps, which W&B's own
    step does not allow.
    """

    def __init__(self, run: str, known: str) -> None:
        import wandb

        self._package: Any = wandb
        project = os.environ.get("WANDB_PROJECT", "raytrain")
        quiet = self._package.Settings(silent=True, console="off")  # the run has its own logs and output
        self._run: Any = self._package.init(
            project=project,
            name=run,
            id=known or None,
            resume="allow",
            settings=quiet,
        )
        self._run.define_metric("*", step_metric=_STEP)
        self.id = str(self._run.id)
        self.link = "" if self._run.offline else str(self._run.url or "")

    def describe(self, job: Mapping[str, Any], text: str) -> None:
        """Makes the job the run's configuration."""
        self._run.config.update(dict(job) | {"job.yaml": text}, allow_val_change=True)

    def log(self, steps: Steps) -> None:
        """Logs the numbers of some steps."""
        for step, values in steps:
            self._run.log({**values, _STEP: step})

    def put_files(self, folder: Path, name: str) -> None:
        """Logs the files of a folder as an artifact."""
        artifact = self._package.Artifact(f"{self._run.name or self.id}-{name}", type=name)
        artifact.add_dir(str(folder))
        self._run.log_artifact(artifact)

    def register(self, name: str) -> None:
        """Does nothing: models are registered at MLflow alone."""

    def end(self, ending: Ending) -> None:
        """Ends the run with an exit code."""
        self._run.finish(exit_code=_EXIT[ending])
