"""The status of a run, read from storage alone; the run itself is not contacted."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from raytrain.config.locations import RunLocation
from raytrain.config.run_layout import RunLayout
from raytrain.runs.checkpoints import committed_checkpoints, is_scored
from raytrain.runs.record import read_record
from raytrain.telemetry.bottleneck import Bottleneck
from raytrain.telemetry.bottleneck import find_bottleneck as bottleneck_of
from raytrain.telemetry.progress import FINAL, Progress, TaskScore, read_progress
from raytrain.telemetry.segments import read_segments
from raytrain_core.errors import StorageError, UsageError
from raytrain_core.storage import Store, open_store
from raytrain_core.storage.commit import MANIFEST
from raytrain_core.text import did_you_mean

SILENT_AFTER = 120.0  # seconds; an active run updates progress.json every few


@dataclass(frozen=True, slots=True)
class EvaluationStatus:
    """How far the scoring of checkpoints is behind training."""

    scored: int | None
    """The newest step whose checkpoint was scored on all tasks."""
    waiting: list[int]
    """Steps of committed checkpoints that are not scored yet."""
    actors: str
    """The resources of the evaluation actors, according to the job."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run at a glance; unknown values are None."""

    run: str
    storage: str
    phase: str
    step: int
    steps: int | None
    share: float | None
    """Fraction of the steps that is done, 0 to 1."""
    tokens: int
    tokens_per_second: float | None
    eta_seconds: float | None
    loss: float | None
    checkpoint_step: int | None
    attempts: int
    restarts: dict[str, int]
    scores: dict[str, TaskScore]
    message: str
    dashboard: str | None
    report: str | None
    updated: str | None
    silent_seconds: float | None
    next_action: str
    evaluation: EvaluationStatus | None = None
    links: dict[str, str] = field(default_factory=dict)
    """The pages of the run at its trackers."""
    unreadable: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Returns plain data for `-o json`."""
        return asdict(self)


def run_names(store: Store) -> list[str]:
    """Returns the names of the runs in a store, sorted."""
    names = {stat.key.split("/")[1] for stat in store.list("runs/") if stat.key.count("/") >= 2}
    return sorted(names)


def require_run(store: Store, name: str) -> RunLayout:
    """Returns the layout of a run; raises UsageError with a suggestion if there is no such run."""
    layout = RunLayout(name)
    if store.stat(layout.job) is not None or store.stat(layout.progress) is not None:
        return layout
    names = run_names(store)
    known = f"existing runs: {', '.join(names[:20])}" if names else "there are no runs in this storage"
    raise UsageError(
        f"there is no run {name} under {store.uri}{did_you_mean(name, names)}",
        hint=f"{known}; choose another storage with --storage or RAYTRAIN_STORAGE",
    )


def open_run(place: RunLocation) -> tuple[Store, RunLayout]:
    """Returns the store and the layout of a run; raises UsageError if there is no such run."""
    store = open_store(place.storage)
    return store, require_run(store, place.name)


def read_status(store: Store, name: str, *, now: datetime | None = None) -> RunStatus:
    """Reads the status of a run; raises UsageError if there is no such run. `now` is for tests."""
    layout = require_run(store, name)
    unreadable: list[str] = []
    progress = read_progress(store, layout)
    checkpoints = committed_checkpoints(store, layout)
    checkpoint = checkpoints[0].step if checkpoints else None
    silent = None if progress is None else _silence(progress.updated, now or datetime.now(UTC))
    restarts = _restarts(store, layout, unreadable)
    attempts = sum(1 for _ in store.list(f"{layout.attempts}/"))
    if progress is None:
        progress = Progress(run=name, attempt=attempts, message="has not reported anything yet")
    return RunStatus(
        run=name,
        storage=store.uri,
        phase=progress.phase,
        step=progress.step,
        steps=progress.steps,
        share=progress.step / progress.steps if progress.steps else None,
        tokens=progress.tokens,
        tokens_per_second=progress.tokens_per_second,
        eta_seconds=None if progress.phase in FINAL else progress.eta_seconds,
        loss=progress.loss,
        checkpoint_step=checkpoint,
        attempts=attempts,
        restarts=restarts,
        scores=progress.scores,
        message=progress.message,
        dashboard=None if progress.phase in FINAL else progress.dashboard,
        report=progress.report,
        updated=progress.updated or None,
        silent_seconds=silent,
        next_action=next_action(progress.phase, name, checkpoint, silent),
        evaluation=_evaluation(store, layout, [c.step for c in checkpoints], done=progress.phase in FINAL),
        links=progress.links,
        unreadable=unreadable,
    )


def follow_status(store: Store, name: str, *, every: float) -> Iterator[RunStatus]:
    """Yields the status whenever the run has reported something new, until the run has ended."""
    last = None
    while True:
        found = read_status(store, name)
        if last is None or found.updated != last:
            yield found
        if found.phase in FINAL:
            return
        last = found.updated
        time.sleep(every)


def find_bottleneck(store: Store, layout: RunLayout) -> Bottleneck:
    """Returns what limits the latest steps of a run; raises UsageError if it has made no step."""
    found = bottleneck_of(read_segments(store, layout, "metrics"))
    if found is None:
        raise UsageError(
            f"run {layout.name} has not completed a step yet", hint="metrics are stored every ten seconds of training"
        )
    return found


def _evaluation(store: Store, layout: RunLayout, checkpoints: list[int], *, done: bool) -> EvaluationStatus | None:
    """Derives the state of evaluation from object names; returns None if the run has no job yet."""
    try:
        record = read_record(store, layout)
    except StorageError:  # another version's job: everything else can still be said
        return None
    if record is None:
        return None
    spec, scored = record.job.spec, Counter[int]()
    for stat in store.list(f"{layout.root}/scores/step-"):
        stage, _, rest = stat.key.removeprefix(f"{layout.root}/scores/step-").partition("/")
        if rest.count("/") == 1 and rest.endswith(f"/{MANIFEST}"):
            scored[int(stage)] += 1
    whole = [step for step, tasks in scored.items() if tasks >= len(spec.tasks) and step > 0]
    last = max(whole, default=0)
    every, last_step = spec.evaluation.every, spec.training.last_step
    due = {step for step in checkpoints if step > last and is_scored(step, every=every, last_step=last_step)}
    each = spec.resources.evaluation
    actors = f"{each.actors} actor{'s' if each.actors != 1 else ''} of {each.cpus:g} CPU"
    actors += f", {each.gpus:g} GPU" if each.gpus else ""
    return EvaluationStatus(last or None, [] if done else sorted(due), actors)


def next_action(phase: str, name: str, checkpoint: int | None, silent: float | None) -> str:
    """Recommends what to do next, in one sentence."""
    resumes = "resumes it" if checkpoint is None else f"resumes it from step {checkpoint}"
    if phase == "Complete":
        return f"read the report (`raytrain report {name}`), try the model (`raytrain predict {name} --task TASK TEXT`)"
    if phase in ("Failed", "Interrupted"):
        return f"run `raytrain run` with the same job file, which {resumes}"
    if silent is not None and silent > SILENT_AFTER:
        return f"it has not reported for a while; if it has stopped, `raytrain run` with the same job file {resumes}"
    return "wait; the run is in progress"


def _restarts(store: Store, layout: RunLayout, unreadable: list[str]) -> dict[str, int]:
    """Counts restarts by kind of event."""
    counted: Counter[str] = Counter()
    for stat in store.list(f"{layout.root}/events/"):
        for line in store.get(stat.key).decode(errors="replace").split("\n"):
            if not line:  # only line feeds end a line: messages may contain U+2028 and the like
                continue
            try:
                kind = str(json.loads(line)["kind"])
            except (ValueError, KeyError, TypeError):
                unreadable.append(stat.key)
                continue
            if kind.endswith("Restarted"):
                counted[kind] += 1
    return dict(sorted(counted.items()))


def _silence(updated: object, now: datetime) -> float | None:
    try:
        then = datetime.fromisoformat(str(updated))
    except ValueError:
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max((now - then).total_seconds(), 0.0)
