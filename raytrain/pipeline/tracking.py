"""Feeds the job's trackers from what the run stores.

Each tracker has a thread, which looks into the run's storage every few seconds and sends what has
not arrived yet. So no step waits for a tracker, one that was down gets everything once it is back,
and a resumed run goes on where the last attempt stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from raytrain.config.load import to_yaml
from raytrain.pipeline.tracked_run import TrackedRun
from raytrain.telemetry.attempts import SupersededError
from raytrain.telemetry.redaction import mask_secrets, masked
from raytrain.telemetry.trackers import (
    Ending,
    Tracker,
    TrackerRecord,
    import_packages,
    open_tracker,
    read_tracker,
    require_packages,
    write_tracker,
)
from raytrain_core.errors import UsageError
from raytrain_core.storage.local import LocalStore

if TYPE_CHECKING:
    from raytrain.config.job import FineTuneJob
    from raytrain.pipeline.context import RunContext
    from raytrain_core.storage import Store

_EVERY = 10.0  # seconds between two looks into the storage
_DRAIN_SECONDS = 10.0
"""How long the end of a run waits for a tracker that does not answer."""
_UPLOAD_SECONDS = 300.0
"""How long it waits for one that takes the report and the model."""


def check_trackers(job: FineTuneJob, store: Store) -> None:
    """Raises UsageError for a tracker that cannot work here."""
    training = job.spec.training
    require_packages(training.trackers)
    if "tensorboard" in training.trackers and not isinstance(store, LocalStore):
        raise UsageError(
            f"training.trackers: tensorboard writes local files, but the storage is {store.uri}",
            hint="use mlflow or wandb, or leave tensorboard out: the report charts the run's own metrics",
        )


@contextmanager
def tracking(context: RunContext, *, every: float = _EVERY) -> Iterator[None]:
    """Feeds the trackers while the context is open, and tells them how it ended."""
    import_packages(context.job.spec.training.trackers)
    feeds = [TrackerFeed(name, context, every=every) for name in context.job.spec.training.trackers]
    for feed in feeds:
        feed.start()
    ending: Ending | None = "failed"
    try:
        yield
        ending = "finished"
    except KeyboardInterrupt:
        ending = "killed"
        raise
    except SupersededError:  # the run at the tracker now belongs to the newer attempt
        ending = None
        raise
    finally:
        for feed in feeds:
            feed.end(ending)
        for feed in feeds:
            feed.join()


class TrackerFeed:
    """The thread that feeds one tracker."""

    def __init__(self, name: str, context: RunContext, *, every: float = _EVERY) -> None:
        self._name, self._context, self._every = name, context, every
        self._run = TrackedRun(context.store, context.layout)
        self._record = TrackerRecord()
        self._tracker: Tracker | None = None
        self._ended = threading.Event()
        self._ending: Ending | None = None
        self._failures, self._failing = 0, False
        self._thread = threading.Thread(target=self._loop, name=f"tracker-{name}", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def end(self, ending: Ending | None) -> None:
        """Asks the thread to send the rest and to end; with None it sends nothing more."""
        self._ending = ending
        self._ended.set()

    def join(self) -> None:
        """Waits for the end of the thread: not long for a tracker that does not answer."""
        self._thread.join(_DRAIN_SECONDS)
        if self._thread.is_alive() and not self._failing and self._tracker is not None:
            self._context.console.line(f"{self._name} takes the report and the model ...")
            self._thread.join(_UPLOAD_SECONDS)
        if self._thread.is_alive():
            self._tell(f"{self._name} did not take everything in time; the run's storage has it all")
        elif self._failing:
            self._tell(f"{self._name} did not answer {self._failures} times; the run's storage has everything")

    def _loop(self) -> None:
        while True:
            last = self._ended.wait(self._every if self._tracker else min(self._every, 0.5))
            self._try(self._finish if last else self._send)
            if last:
                return
            if self._failing:
                self._ended.wait(self._every)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
            self._failing = False
        except Exception as error:  # of any kind: the run must go on
            self._failures += 1
            if not self._failing:
                self._tell(f"{self._name} does not answer (the run goes on): {_first_line(error)}")
            self._failing = True

    def _tell(self, message: str) -> None:
        self._context.emit("TrackerFailed", mask_secrets(message), tracker=self._name)

    def _send(self) -> None:
        """Sends the steps and scores that have not arrived yet."""
        tracker = self._open()
        if not self._record.described:
            job = masked(self._context.record.written.model_dump(mode="json", by_alias=True))
            tracker.describe(job, to_yaml(job))
            self._save(replace(self._record, described=True))
        for position, steps in self._run.steps_after(self._record.segment, self._record.step):
            tracker.log(steps)
            last = steps[-1][0] if steps else self._record.step
            self._save(replace(self._record, segment=position, step=max(last, self._record.step)))
        for place, step, values in self._run.scores_without(self._record.scores):
            tracker.log([(step, values)])
            self._save(replace(self._record, scores=(*self._record.scores, place)))

    def _finish(self) -> None:
        """Sends the rest with report and model, and how the attempt ended."""
        if self._ending is None:
            return
        self._send()
        tracker = self._open()
        with self._run.report_files() as report:
            if report is not None:
                tracker.put_files(report, "report")
        self._send_model(tracker)
        tracker.end(self._ending)

    def _send_model(self, tracker: Tracker) -> None:
        if not self._record.model:
            with self._run.model_files() as model:
                if model is None:
                    return
                tracker.put_files(model, "model")
                self._save(replace(self._record, model=True))
        name = self._context.job.spec.training.register_model
        if name and name != self._record.registered:
            tracker.register(name)
            self._save(replace(self._record, registered=name))

    def _open(self) -> Tracker:
        """Finds or creates the run at the tracker, and keeps its id."""
        if self._tracker is not None:
            return self._tracker
        store, layout = self._context.store, self._context.layout
        self._record = read_tracker(store, layout, self._name)
        folder = store.path(f"{layout.root}/tensorboard") if isinstance(store, LocalStore) else Path()
        self._tracker = open_tracker(self._name, run=layout.name, known=self._record.id, folder=folder)
        self._save(replace(self._record, id=self._tracker.id, link=self._tracker.link))
        if self._tracker.link:
            self._context.progress.link(self._name, self._tracker.link)
            self._context.console.line(f"{self._name}: {self._tracker.link}")
        return self._tracker

    def _save(self, record: TrackerRecord) -> None:
        if self._context.attempt.superseded():
            raise SupersededError("a newer attempt tells the tracker")
        write_tracker(self._context.store, self._context.layout, self._name, record)
        self._record = record


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
