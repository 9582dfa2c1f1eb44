"""What every step of a run works with: its job, its place in storage, its records, and the wish to stop."""

from __future__ import annotations

import contextlib
import logging
import platform
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raytrain.config.identity import diff, identity
from raytrain.config.job import FineTuneJob
from raytrain.config.locations import cache_folder, storage_location
from raytrain.config.run_layout import RunLayout
from raytrain.pipeline.interrupts import Interrupts
from raytrain.runs.record import RunRecord, read_record, write_record
from raytrain.telemetry.attempts import Attempt, SupersededError
from raytrain.telemetry.console import Console
from raytrain.telemetry.kubernetes_status import OwnObject, StatusMirror
from raytrain.telemetry.logs import RunLog
from raytrain.telemetry.progress import ProgressWriter, read_progress
from raytrain.telemetry.segments import SegmentWriter
from raytrain_core.errors import UsageError, UserError
from raytrain_core.storage import Store, open_store
from raytrain_core.storage.cache import Cache
from raytrain_core.storage.commit import read_manifest
from raytrain_core.storage.probe import probe
from raytrain_core.storage.scratch import sweep

_log = logging.getLogger(__name__)
_RESUMABLE = "stopped on request; the same command resumes"
_VERSIONS_OF = ("raytrain", "ray", "torch", "transformers", "tokenizers", "evaluate", "rouge-score-rs", "sacrebleu")


@dataclass(slots=True)
class Workspace:
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
        """The job."""
        return self.record.job

    def phase(self, name: str, text: str) -> None:
        """Begin a phase: `name` for progress.json, `text` for people."""
        self.interrupts.check()
        self.attempt.check()
        self.progress.update(phase=name, message=text)
        self.console.phase(text)
        _log.info(text)

    def tell(self, kind: str, message: str, **fields: Any) -> None:
        """Record an event; may be called from any thread."""
        self.events.append({"kind": kind, "message": message, **fields})
        _log.info("%s: %s", kind, message)

    def keep(self, record: RunRecord) -> None:
        """Store the record again: something more about the run is known."""
        self.attempt.check()
        write_record(self.store, self.layout, record)
        self.record = record


def open_job_store(job: FineTuneJob, storage: str | None, base_folder: Path) -> Store:
    """The store that this job's things are kept in."""
    return open_store(storage_location(storage, job, base_folder=base_folder))


def is_complete(store: Store, layout: RunLayout) -> bool:
    """Whether nothing is left to do."""
    progress = read_progress(store, layout)
    return progress is not None and progress.phase == "Complete" and read_manifest(store, layout.report) is not None


def refuse_another_identity(store: Store, layout: RunLayout, job: FineTuneJob) -> None:
    """UsageError with a diff if a run of this name exists and is another one."""
    existing = read_record(store, layout)
    if existing is None or existing.shard_set is None:  # nothing was prepared: a mistake may be corrected
        return
    if changes := diff(identity(existing.job), identity(job)):
        raise UsageError(
            f"{store.uri}/{layout.root} is a run with another identity:\n" + "\n".join(f"    {c}" for c in changes),
            hint="give the job another metadata.name, or start this run over with --fresh",
        )


def start_over(store: Store, layout: RunLayout) -> None:
    """Remove what a run left, except its attempts: an older driver that still lives must notice the newer one.

    Manifests go first, so that nothing is ever seen that is only half there.
    """
    keys = [s.key for s in store.list(f"{layout.root}/") if not s.key.startswith(f"{layout.attempts}/")]
    store.delete([key for key in keys if key.endswith("/manifest.json")])
    store.delete([key for key in keys if not key.endswith("/manifest.json")])


@contextlib.contextmanager
def enter(
    job: FineTuneJob, store: Store, layout: RunLayout, base_folder: Path, console: Console, *, fresh: bool = False
) -> Iterator[Workspace]:
    """Begin an attempt (with `fresh` over what the ones before left), and write down how it ended whatever happens."""
    probe(store)
    cache = Cache(cache_folder() / "shards")
    sweep(cache.folder)
    attempt = Attempt.begin(store, layout, _surroundings())
    if fresh:  # not before the attempt has begun: an older driver must stop writing first
        start_over(store, layout)
    stored, stood = read_record(store, layout), read_progress(store, layout)
    found = (stored.shard_set, stored.model_digest, stored.steps) if stored else ()
    record = RunRecord(job, base_folder.resolve(), *found)
    resumed: dict[str, Any] = {}
    if stood is not None:
        resumed = {"step": stood.step, "tokens": stood.tokens, "loss": stood.loss, "scores": stood.scores}
    interrupts = Interrupts(
        lambda: console.line("stopping at the next safe point; what is done is kept (again: stop at once)")
    )
    with (
        RunLog(store, layout, attempt.number),
        SegmentWriter(store, layout, "events", attempt.number) as events,
        StatusMirror(OwnObject.of_environment(), [t.name for t in job.spec.tasks if t.probe]) as mirror,
        ProgressWriter(attempt, steps=record.job.spec.training.steps, on_stored=mirror.show, **resumed) as progress,
        interrupts,
        console,
    ):
        work = Workspace(record, layout, store, cache, attempt, progress, events, console, interrupts)
        work.keep(record)
        work.tell("RunStarted", f"attempt {attempt.number} started on {socket.gethostname()}")
        try:
            yield work
        except KeyboardInterrupt:
            work.tell("Interrupted", _RESUMABLE)
            progress.update(phase="Interrupted", message=_RESUMABLE)
            raise
        except SupersededError as error:  # progress.json is the newer attempt's now
            work.tell("Superseded", error.message)
            raise
        except BaseException as error:
            message = error.message if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            work.tell("RunFailed", message)
            progress.update(phase="Failed", message=message)
            raise
        work.tell("RunFinished", "the report is written")
        progress.update(phase="Complete", message="the report is written", eta_seconds=0.0)


def _surroundings() -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    for package in _VERSIONS_OF:
        with contextlib.suppress(Exception):
            versions[package] = version(package)
    return {"platform": platform.platform(), "versions": versions}
