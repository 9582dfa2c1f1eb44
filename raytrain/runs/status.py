"""How a run is doing, read from what it leaves in storage; nothing is asked of the run itself."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from raytrain.config.locations import RunLocation
from raytrain.config.run_layout import RunLayout
from raytrain.runs.checkpoints import committed_checkpoints, is_scored
from raytrain.runs.record import read_record
from raytrain.telemetry.bottleneck import Bounds, bounds
from raytrain.telemetry.progress import FINAL, Progress, TaskScore, read_progress
from raytrain.telemetry.segments import read_segments
from raytrain_core.errors import StorageError, UsageError
from raytrain_core.storage import Store, open_store
from raytrain_core.storage.commit import MANIFEST
from raytrain_core.text import did_you_mean

SILENT_AFTER = 120.0  # seconds without a word from a run that should be speaking every few


@dataclass(frozen=True, slots=True)
class EvaluationStatus:
    """How far the scoring of checkpoints is behind the training."""

    scored: int | None
    """The newest step whose checkpoint was scored on every task."""
    waiting: list[int]
    """Steps of committed checkpoints that are still to be scored."""
    actors: str
    """What scoring may take, as the job says."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run at a glance; None is what nobody knows (yet)."""

    run: str
    storage: str
    phase: str
    step: int
    steps: int | None
    share: float | None
    """Steps done of all steps, 0..1."""
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
    updated: str | None
    silent_seconds: float | None
    next_action: str
    evaluation: EvaluationStatus | None = None
    unreadable: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Plain data for `-o json`."""
        return asdict(self)


def run_names(store: Store) -> list[str]:
    """Names of the runs in a store, sorted."""
    names = {stat.key.split("/")[1] for stat in store.list("runs/") if stat.key.count("/") >= 2}
    return sorted(names)


def require_run(store: Store, name: str) -> RunLayout:
    """The layout of a run that exists; UsageError naming the nearest one if it does not."""
    layout = RunLayout(name)
    if store.stat(layout.job) is not None or store.stat(layout.progress) is not None:
        return layout
    names = run_names(store)
    known = f"the runs there are {', '.join(names[:20])}" if names else "there are no runs there"
    raise UsageError(
        f"there is no run {name} under {store.uri}{did_you_mean(name, names)}",
        hint=f"{known}; another storage is named by --storage or RAYTRAIN_STORAGE",
    )


def open_run(place: RunLocation) -> tuple[Store, RunLayout]:
    """The store and the layout of a run that exists; UsageError if it does not."""
    store = open_store(place.storage)
    return store, require_run(store, place.name)


def gather(store: Store, name: str, *, now: datetime | None = None) -> RunStatus:
    """Read a run's state. UsageError if there is no such run; `now` is for tests."""
    layout = require_run(store, name)
    unreadable: list[str] = []
    progress = read_progress(store, layout)
    checkpoints = committed_checkpoints(store, layout)
    checkpoint = checkpoints[0].step if checkpoints else None
    silent = None if progress is None else _silence(progress.updated, now or datetime.now(UTC))
    restarts = _restarts(store, layout, unreadable)
    attempts = sum(1 for _ in store.list(f"{layout.attempts}/"))
    if progress is None:
        progress = Progress(run=name, attempt=attempts, message="has not said anything yet")
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
        updated=progress.updated or None,
        silent_seconds=silent,
        next_action=next_action(progress.phase, name, checkpoint, silent),
        evaluation=_evaluation(store, layout, [c.step for c in checkpoints], done=progress.phase in FINAL),
        unreadable=unreadable,
    )


def why(store: Store, layout: RunLayout) -> Bounds:
    """Where the latest steps of a run spent their time; UsageError if it has made none."""
    found = bounds(read_segments(store, layout, "metrics"))
    if found is None:
        raise UsageError(
            f"run {layout.name} has made no step yet", hint="metrics are stored every ten seconds of training"
        )
    return found


def _evaluation(store: Store, layout: RunLayout, checkpoints: list[int], *, done: bool) -> EvaluationStatus | None:
    """Read from the names in storage alone; None where the run has no job yet."""
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
    wanted = spec.resources.evaluation
    actors = f"{wanted.actors} actor{'s' if wanted.actors != 1 else ''} of {wanted.cpus:g} CPU"
    actors += f", {wanted.gpus:g} GPU" if wanted.gpus else ""
    return EvaluationStatus(last or None, [] if done else sorted(due), actors)


def next_action(phase: str, name: str, checkpoint: int | None, silent: float | None) -> str:
    """What a person does next, in one sentence."""
    resumes = "resumes it" if checkpoint is None else f"resumes it from step {checkpoint}"
    if phase == "Complete":
        return (
            f"look at the report (`raytrain report {name}`), ask the model (`raytrain predict {name} --task TASK TEXT`)"
        )
    if phase in ("Failed", "Interrupted"):
        return f"`raytrain run` with the same job {resumes}"
    if silent is not None and silent > SILENT_AFTER:
        return f"it has said nothing for a while; if it runs no more, `raytrain run` with the same job {resumes}"
    return "wait; it is going on"


def _restarts(store: Store, layout: RunLayout, unreadable: list[str]) -> dict[str, int]:
    """How often something was started again, by kind of event."""
    counted: Counter[str] = Counter()
    for stat in store.list(f"{layout.root}/events/"):
        for line in store.get(stat.key).decode(errors="replace").split("\n"):
            if not line:  # only a line feed ends a line: messages may hold U+2028 and its kin
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
