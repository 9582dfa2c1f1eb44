"""What every tracker can do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

NAMES = ("tensorboard", "mlflow", "wandb")
Ending = Literal["finished", "failed", "killed"]
"""How an attempt ended; killed: on request."""
Steps = Sequence[tuple[int, Mapping[str, float]]]
"""Numbers by name, by step."""


class Tracker(Protocol):
    """One run at a tracker. Every call may block and may raise."""

    @property
    def id(self) -> str:
        """The tracker's id of the run, by which a later attempt finds it."""

    @property
    def link(self) -> str:
        """The page of the run; empty without one."""

    def describe(self, job: Mapping[str, Any], text: str) -> None:
        """Tells the job, as fields and as the text of its file; may be repeated after an error."""

    def log(self, steps: Steps) -> None:
        """Logs the numbers of some steps."""

    def put_files(self, folder: Path, name: str) -> None:
        """Keeps the files of a folder with the run, under a name."""

    def register(self, name: str) -> None:
        """Adds the files `model` to the tracker's model registry as the next version of `name`."""

    def end(self, ending: Ending) -> None:
        """Records how the attempt ended."""


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Returns the fields of a job by their paths, from the top, as text."""
    found: dict[str, str] = {}
    for name, value in document.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{path}.")
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            found |= flat({str(number): item for number, item in enumerate(value)}, f"{path}.")
        elif value is not None:
            found[path] = value if isinstance(value, str) else str(value)
    return found
