"""A run, read from its storage: status, numbers, report and models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

from raytrain.api.extras import missing_extras_named
from raytrain_core.storage import Store

if TYPE_CHECKING:
    import pandas as pd

    from raytrain.api.model import Model
    from raytrain.api.report import Report
    from raytrain.config.run_layout import RunLayout
    from raytrain.export.placing import Placed
    from raytrain.runs.logs import LogEntry
    from raytrain.runs.status import RunStatus
    from raytrain.serving.models import RunModels


class Run(ABC):
    """A run, whether it goes on, has ended, or was made elsewhere.

    `Job.run` and `Job.submit` return one, `open_run` finds one.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the run."""

    @abstractmethod
    def _open(self) -> tuple[Store, RunLayout]:
        """Returns where the run is stored."""

    @abstractmethod
    def wait(self, *, progress: bool = True, timeout: float | None = None) -> Self:
        """Waits until the run has ended, and shows its progress.

        Raises a UserError if it ended without a result, and ClusterError after `timeout` seconds.
        Interrupting the cell stops the waiting, not the run.
        """

    def status(self) -> RunStatus:
        """Returns how far the run is, and what to do next."""
        from raytrain.runs.status import read_status

        store, layout = self._open()
        return read_status(store, layout.name)

    def metrics(self) -> pd.DataFrame:
        """Returns the numbers of each training step: loss, learning rate, tokens/s, ...

        One row a step, by step. Steps that a later attempt repeated appear once. `loss/NAME` is the
        loss of one task per target token. Needs the extra `notebook`.
        """
        from raytrain.api.frames import metrics_frame
        from raytrain.telemetry.segments import read_segments

        with missing_extras_named():
            return metrics_frame(read_segments(*self._open(), "metrics"))

    def scores(self) -> pd.DataFrame:
        """Returns every score with its 95 % interval: one row per stage, task and metric.

        Stages are `before`, `step-NNNNNN` (validation rows) and `after`; fractions where `scale` is
        percent. Needs the extras `train` and `notebook`.
        """
        with missing_extras_named():
            from raytrain.api.frames import scores_frame
            from raytrain.evaluation.stored_cards import read_cards

            return scores_frame(read_cards(*self._open()))

    def logs(self, *, source: str | None = None, attempt: int | None = None) -> tuple[LogEntry, ...]:
        """Returns the logs of driver and workers, merged by time."""
        from raytrain.runs.logs import read

        return read(*self._open(), source=source, attempt=attempt)

    def report(self) -> Report:
        """Writes the report again and returns it; a notebook shows the page.

        Without the extra `train`, returns the report as the run itself wrote it; UsageError if
        there is none.
        """
        from raytrain.api.report import write_report

        return write_report(*self._open())

    @cached_property
    def _models(self) -> RunModels:
        from raytrain.serving.models import RunModels

        return RunModels(*self._open())

    @property
    def model(self) -> Model:
        """The model that the run trained; loaded on first use."""
        return self._model("after")

    @property
    def base_model(self) -> Model:
        """The model that the run began with; loaded on first use."""
        return self._model("before")

    def _model(self, which: Literal["before", "after"]) -> Model:
        from raytrain.api.model import Model

        with missing_extras_named():
            return Model(self._models, which)

    def export(self, to: str, **options: Any) -> Placed:
        """Takes the model out, with a model card, as `raytrain export`.

        `to` is a folder, a bucket or hf://org/name; `options` are those of
        `raytrain.export.run_export.export_run`.
        """
        with missing_extras_named():
            from raytrain.export.run_export import export_run

            return export_run(*self._open(), to=to, **options)
