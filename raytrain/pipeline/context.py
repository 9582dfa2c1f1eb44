"""What all stages of a run share: the job, its storage, the attempt, telemetry and interrupts."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import platform
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raytrain.config.identity import diff, identity
from raytrain.config.job import FineTuneJob
from raytrain.config.locations import cache_folder, storage_location
from raytrain.config.run_layout import RunLayout
from raytrain.pipeline.interrupts import Interrupts
from raytrain.pipeline.live_report import write_last_page
from raytrain.runs.record import RunRecord, read_record, write_record
from raytrain.telemetry.attempts import Attempt, SupersededError
from raytrain.telemetry.console import Console
from raytrain.telemetry.kubernetes_status import OwnObject, StatusMirror
from raytrain.telemetry.logs import RunLog
from raytrain.telemetry.progress import Phase, ProgressWriter, read_progress
from raytrain.telemetry.segments import SegmentWriter
from raytrain_core.errors import UsageError, UserError
from raytrain_core.storage import Store, open_store
from raytrain_core.storage.cache import Cache
from raytrain_core.storage.commit import read_manifest
from raytrain_core.storage.probe import probe
from raytrain_core.storage.scratch import sweep

_log = logging.getLogger(__name__)
_RESUMABLE = "stopped on request; run the same command again to resume"
_REPORT_WRITTEN = "the report is written"
_WARNINGS = {
    *(
        "CheckpointUnusable",
        "ScoresUnusable",
        "CheckpointStale",
        "CheckpointsNotRemoved",
        "StepSkipped",
        "WorkerRestarted",
    ),
    *("WorkerHangs", "TrainingOnCpu", "NodeLeaving", "WorkersChange", "DataChanged", "ModelMoved"),
    *("ActorWaiting", "ActorRestarted", "ActorLost", "CheckpointSkipped", "TrackerFailed"),
}
"""Event kinds that are printed as warnings at once."""
_VERSIONS_OF = ("raytrain", "ray", "torch", "transformers", "tokenizers", "evaluate", "rouge-score-rs", "sacrebleu")


@dataclass(slots=True)
class RunContext:
    """One attempt at a run.

    `attempt.check` is the guard of every commit: it raises once a newer attempt exists.
    """

    record: RunRecord
    layout: RunLayout
    store: Store
    cache: Cache
    attempt: Attempt
    progress: ProgressWriter
    events: SegmentWriter
    console: Console
    interrupts: Interrupts

    @property
    def job(self) -> FineTuneJob:
        """The job that is run."""
        return self.record.job

    def phase(self, name: str, text: str) -> None:
        """Begins a phase: `name` goes into progress.json, `text` to the console and the log.

        Raises KeyboardInterrupt if the run was asked to stop, and SupersededError if a newer
        attempt exists.
        """
        self.interrupts.check()
        self.attempt.check()
        self.progress.update(phase=name, message=text)
        self.console.phase(text)
        _log.info(text)

    def emit(self, kind: str, message: str, **fields: Any) -> None:
        """Records an event, and prints it if it is a warning; may be called from any thread."""
        self.events.append({"kind": kind, "message": message, **fields})
        _log.info("%s: %s", kind, message)
        if kind == "CheckpointCommitted":
            self.progress.update(checkpointed=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        if kind in _WARNINGS:
            self.console.warning(message)

    def save(self, record: RunRecord) -> None:
        """Stores the record, which now says more about the run."""
        self.attempt.check()
        write_record(self.store, self.layout, record)
        self.record = record


def open_job_store(job: FineTuneJob, storage: str | None, base_folder: Path) -> Store:
    """Opens the storage of this job; `storage` (from the command line) takes precedence."""
    return open_store(storage_location(storage, job, base_folder=base_folder))


def is_complete(store: Store, layout: RunLayout) -> bool:
    """Whether the run has finished and its report is committed."""
    progress = read_progress(store, layout)
    return progress is not None and progress.phase == "Complete" and read_manifest(store, layout.report) is not None


def refuse_another_identity(store: Store, layout: RunLayout, job: FineTuneJob) -> None:
    """Raises UsageError with a diff if a run of this name exists and has another identity."""
    existing = read_record(store, layout)
    if existing is None or existing.shard_set is None:  # nothing was prepared: a mistake may be corrected
        return
    if changes := diff(identity(existing.job), identity(job)):
        raise UsageError(
            f"{store.uri}/{layout.root} is a run with another identity:\n" + "\n".join(f"    {c}" for c in changes),
            hint="give the job another metadata.name, or start this run over with --fresh",
        )


def start_over(store: Store, layout: RunLayout) -> None:
    """Removes everything a run left, except for its attempts and its owner's mark.

    A driver that still runs must notice the newer attempt. Manifests are deleted first, so that
    readers never see a partial artifact.
    """
    kept = (f"{layout.attempts}/", layout.owner)
    keys = [s.key for s in store.list(f"{layout.root}/") if not s.key.startswith(kept)]
    store.delete([key for key in keys if key.endswith("/manifest.json")])
    store.delete([key for key in keys if not key.endswith("/manifest.json")])


@contextlib.contextmanager
def open_run(
    job: FineTuneJob, store: Store, layout: RunLayout, base_folder: Path, console: Console, *, fresh: bool = False
) -> Iterator[RunContext]:
    """Begins an attempt and records how it ends; `fresh` removes what earlier attempts left."""
    limits = probe(store)
    cache = Cache(cache_folder() / "shards")
    sweep(cache.folder)
    attempt = Attempt.begin(store, layout, _environment_info())
    if fresh:  # not before the attempt has begun: an older driver must stop writing first
        start_over(store, layout)
    record, reached = _record_of(job, base_folder, read_record(store, layout)), _reached(store, layout)
    interrupts = Interrupts(
        lambda: console.line("stopping at the next safe point; finished work is kept (press again to stop now)")
    )
    with (
        RunLog(store, layout, attempt.number),
        SegmentWriter(store, layout, "events", attempt.number) as events,
        StatusMirror(OwnObject.of_environment(), [t.name for t in job.spec.tasks if t.probe]) as mirror,
        ProgressWriter(attempt, steps=record.job.spec.training.steps, on_stored=mirror.show, **reached) as progress,
        interrupts,
        console,
    ):
        context = RunContext(record, layout, store, cache, attempt, progress, events, console, interrupts)
        context.save(record)
        context.emit("RunStarted", f"attempt {attempt.number} started on {socket.gethostname()}")
        for limit in limits:
            console.line(f"storage {store.uri}: {limit}")
        with _recording_end(context):
            yield context


@contextlib.contextmanager
def _recording_end(context: RunContext) -> Iterator[None]:
    """Records how the run ends, as an event and in progress.json."""
    try:
        yield
    except KeyboardInterrupt:
        context.emit("Interrupted", _RESUMABLE)
        _end(context, "Interrupted", _RESUMABLE)
        raise
    except SupersededError as error:  # progress.json now belongs to the newer attempt
        context.emit("Superseded", error.message)
        raise
    except BaseException as error:
        message = error.message if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        context.emit("RunFailed", message)
        _end(context, "Failed", message)
        raise
    context.emit("RunFinished", _REPORT_WRITTEN)
    context.progress.update(phase="Complete", message=_REPORT_WRITTEN, eta_seconds=0.0)


def _end(context: RunContext, phase: Phase, message: str) -> None:
    """Stores how the attempt ended and, if the storage can be reached, the run's page with it."""
    context.progress.update(phase=phase, message=message)
    if context.progress.flush() and context.events.flush():
        write_last_page(context.store, context.layout, context.attempt)


def _record_of(job: FineTuneJob, base_folder: Path, stored: RunRecord | None) -> RunRecord:
    """Returns the record of this attempt, with the facts that earlier attempts recorded."""
    if stored is None:
        return RunRecord(job, base_folder.resolve())
    return dataclasses.replace(stored, written=job, base_folder=base_folder.resolve())


def _reached(store: Store, layout: RunLayout) -> dict[str, Any]:
    """Returns how far earlier attempts came, as the fields with which progress.json continues."""
    progress = read_progress(store, layout)
    if progress is None:
        return {}
    return {
        "step": progress.step,
        "tokens": progress.tokens,
        "loss": progress.loss,
        "scores": progress.scores,
        "links": progress.links,
    }


def _environment_info() -> dict[str, Any]:
    """Returns the platform and the versions of the packages that influence results."""
    versions = {"python": platform.python_version()}
    for package in _VERSIONS_OF:
        with contextlib.suppress(Exception):
            versions[package] = version(package)
    return {"platform": platform.platform(), "versions": versions}
