"""TensorBoard, through tensorboardX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raytrain.telemetry.trackers.base import Ending, Steps


class TensorBoardTracker:
    """Writes event files into a folder; the report and the model are beside it in the storage."""

    id = "events"
    link = ""

    def __init__(self, folder: Path) -> None:
        import tensorboardX

        package: Any = tensorboardX  # untyped
        self._writer: Any = package.SummaryWriter(str(folder), flush_secs=10)

    def describe(self, job: Mapping[str, Any], text: str) -> None:
        """Writes the job as text."""
        self._writer.add_text("job", f"```yaml\n{text}\n```")

    def log(self, steps: Steps) -> None:
        """Writes the numbers of some steps."""
        for step, values in steps:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def put_files(self, folder: Path, name: str) -> None:
        """Does nothing: they are in the run's storage."""

    def register(self, name: str) -> None:
        """Does nothing: there is no registry."""

    def end(self, ending: Ending) -> None:
        """Writes how the attempt ended, and what is still buffered."""
        self._writer.add_text("ending", ending)
        self._writer.close()
