"""Runs that are found by their place in a storage."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from raytrain.api.progress import ProgressView
from raytrain.api.run import Run
from raytrain.config.locations import locate_run, storage_location
from raytrain.runs import status as run_status
from raytrain.telemetry.progress import FINAL
from raytrain_core.errors import ClusterError, TrainingError
from raytrain_core.storage import Store, open_store

if TYPE_CHECKING:
    from raytrain.config.run_layout import RunLayout

_POLL_SECONDS = 2.0


class StoredRun(Run):
    """A run in a storage."""

    def __init__(self, store: Store, layout: RunLayout) -> None:
        self._store, self._layout = store, layout

    @property
    def name(self) -> str:
        """The name of the run."""
        return self._layout.name

    def _open(self) -> tuple[Store, RunLayout]:
        return self._store, self._layout

    def wait(self, *, progress: bool = True, timeout: float | None = None) -> Self:
        """Waits until the run has ended, and shows its progress.

        Raises TrainingError if it ended without a result, ClusterError after `timeout` seconds.
        Interrupting the cell stops the waiting, not the run.
        """
        found, deadline, told = self.status(), time.monotonic() + (timeout or 0.0), False
        with ProgressView(progress=progress) as view:
            while found.phase not in FINAL:
                view.show(found)
                if not told and (found.silent_seconds or 0.0) > run_status.SILENT_AFTER:
                    told = True
                    view.warn(f"run {self.name}: {found.next_action}")
                if timeout is not None and time.monotonic() >= deadline:
                    raise ClusterError(f"{self.name} is still {found.phase} after {timeout:g} s")
                time.sleep(_POLL_SECONDS)
                found = self.status()
        if found.phase != "Complete":
            raise TrainingError(f"run {self.name} ended as {found.phase}: {found.message}", hint=found.next_action)
        return self

    def __repr__(self) -> str:
        return f"Run({self.name!r}, storage={self._store.uri!r})"


def open_run(run: str, storage: str | None = None) -> StoredRun:
    """Finds a run by its name, its URI (.../runs/NAME) or its job file.

    `storage` is a folder or a prefix in a bucket; by default the job's, RAYTRAIN_STORAGE, or
    ./raytrain-storage. Raises UsageError with the closest name if there is no such run.
    """
    return StoredRun(*run_status.open_run(locate_run(str(run), storage)))


def list_runs(storage: str | None = None) -> list[str]:
    """Returns the names of the runs in a storage, sorted."""
    return run_status.run_names(open_store(storage_location(storage)))
