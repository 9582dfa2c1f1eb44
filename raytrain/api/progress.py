"""Shows how far a run is that another process runs."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from raytrain.telemetry.console import Console

if TYPE_CHECKING:
    from raytrain.cluster.jobs import ClusterStatus
    from raytrain.runs.status import RunStatus


class ProgressView:
    """Shows each phase on a line of its own, and the steps of training; use as a context manager.

    Shows warnings alone without `progress`.
    """

    def __init__(self, *, progress: bool) -> None:
        self._progress, self._console = progress, Console()
        self._phase = ""

    def show(self, found: RunStatus | ClusterStatus) -> None:
        """Shows a status."""
        if not self._progress:
            return
        if found.phase != self._phase:
            self._phase = found.phase
            self._console.phase(found.phase)
        if found.phase in ("Training", "Running"):
            self._console.update(found.step, found.steps, "" if found.loss is None else f"loss {found.loss:.3f}")

    def warn(self, text: str) -> None:
        """Shows a warning."""
        self._console.warning(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._console.close()
