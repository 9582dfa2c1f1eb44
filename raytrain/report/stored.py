"""Reads what a run left in storage; the only module of the report that does.

Missing parts are None or empty. Parts that do not match their manifest are left out and listed in
`problems`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from data_prep.shards.manifest import ShardSet
from raytrain.config.run_layout import RunLayout
from raytrain.evaluation.results import Prediction, ScoreCard, read_card, read_predictions
from raytrain.runs.record import RunRecord, read_record
from raytrain.telemetry import segments
from raytrain.telemetry.attempts import read_attempts
from raytrain.telemetry.progress import Progress, read_progress
from raytrain_core.errors import StorageError
from raytrain_core.storage import CorruptError, NotFoundError, Store
from raytrain_core.storage.commit import MANIFEST, read_manifest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stage:
    """One task's scores at one stage; the stages before and after come with their answers."""

    card: ScoreCard
    answers: list[Prediction] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StoredRun:
    """The parsed files of a run. `stages` maps stage, then task."""

    record: RunRecord
    job_yaml: str
    progress: Progress | None
    stages: dict[str, dict[str, Stage]]
    metrics: list[dict[str, Any]]
    events: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    model_step: int | None
    shards: ShardSet | None
    problems: list[str]
    reviews: dict[str, str] = field(default_factory=dict)
    """Exported choices of people by key, as they were read back."""


def read_run(store: Store, layout: RunLayout) -> StoredRun:
    """Reads everything the report needs.

    Raises StorageError if there is no such run or the store cannot be reached.
    """
    record = read_record(store, layout)
    if record is None:
        raise StorageError(
            f"{store.uri}/{layout.root}: there is no run {layout.name} here",
            hint="check the run's name and the storage (--storage or RAYTRAIN_STORAGE)",
        )
    problems: list[str] = []

    def read(reader: Callable[[], T], otherwise: T) -> T:
        try:
            return reader()
        except (CorruptError, NotFoundError) as error:
            problems.append(f"{error.message}; it is left out of this report.")
            return otherwise

    stages: dict[str, dict[str, Stage]] = {}
    prefix = f"{layout.root}/scores/"
    for stat in store.list(prefix):
        stage, _, rest = stat.key.removeprefix(prefix).partition("/")
        task, _, name = rest.partition("/")
        if name == MANIFEST:
            found = read(partial(_stage, store, layout, stage, task), None)
            if found is not None:
                stages.setdefault(stage, {})[task] = found
    model = read(lambda: read_manifest(store, layout.model), None)
    step = model.body.get("step") if model else None
    return StoredRun(
        record=record,
        job_yaml=store.get(layout.job).decode(errors="replace"),
        progress=read(lambda: read_progress(store, layout), None),
        stages=stages,
        metrics=read(lambda: segments.read_segments(store, layout, "metrics"), []),
        events=read(lambda: segments.read_segments(store, layout, "events"), []),
        attempts=read(lambda: read_attempts(store, layout), []),
        model_step=step if isinstance(step, int) else None,
        shards=read(partial(ShardSet.load, store, record.shard_set), None) if record.shard_set else None,
        problems=problems,
        reviews={stat.key: store.get(stat.key).decode() for stat in store.list(f"{layout.reviews}/")},
    )


def _stage(store: Store, layout: RunLayout, stage: str, task: str) -> Stage | None:
    card = read_card(store, layout, stage, task)
    if card is None:
        return None
    answers = read_predictions(store, layout, stage, task) if stage in ("before", "after") else None
    return Stage(card, answers or [])
