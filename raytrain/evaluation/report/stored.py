"""What a run left in storage, read and checked: the only module of the report that reads.

A part that is not there is none; a part that does not match its manifest is left out and named in `troubles`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from data_prep.errors import StorageError
from data_prep.storage import CorruptError, NotFoundError, Store
from data_prep.storage.commit import MANIFEST, read_manifest
from raytrain.evaluation.scores import Prediction, ScoreCard, read_card, read_predictions
from raytrain.spec.layout import RunLayout, parse_checkpoint


@dataclass(frozen=True, slots=True)
class Stage:
    """One task's scores at one stage, and for before and after the answers."""

    card: ScoreCard
    answers: list[Prediction] = field(default_factory=list)


@dataclass(slots=True)
class StoredRun:
    """A run's files, parsed. `stages` maps stage, then task."""

    document: str = ""
    progress: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, dict[str, Stage]] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    attempts: dict[int, dict[str, Any]] = field(default_factory=dict)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    model: dict[str, Any] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)


def read_run(store: Store, layout: RunLayout) -> StoredRun:
    """Everything the report needs of a run; StorageError if there is no such run or the store cannot be reached."""
    try:
        run = StoredRun(document=store.get(layout.document).decode(errors="replace"))
    except NotFoundError:
        raise StorageError(
            f"{store.uri}/{layout.document}: there is no run {layout.name} here",
            hint="Check the run's name and the storage (--storage or RAYTRAIN_STORAGE).",
        ) from None
    run.progress = _object(store, layout.progress, run.troubles)
    run.metrics = list(_lines(store, f"{layout.root}/metrics/", run.troubles))
    run.events = list(_lines(store, f"{layout.root}/events/", run.troubles))
    for stat in store.list(f"{layout.attempts}/"):
        name = stat.key.rpartition("/")[2].removesuffix(".json")
        if name[:1] == "a" and name[1:].isdigit():
            run.attempts[int(name[1:])] = _object(store, stat.key, run.troubles)
    for prefix in _committed(store, f"{layout.root}/scores/"):
        stage, _, task = prefix.removeprefix(f"{layout.root}/scores/").partition("/")
        if found := _stage(store, layout, stage, task, run.troubles):
            run.stages.setdefault(stage, {})[task] = found
    for prefix in _committed(store, f"{layout.checkpoints}/"):
        if parse_checkpoint(prefix):
            run.checkpoints.append(_body(store, prefix, run.troubles))
    run.model = _body(store, layout.model, run.troubles)
    return run


def _committed(store: Store, prefix: str) -> list[str]:
    return [s.key.removesuffix(f"/{MANIFEST}") for s in store.list(prefix) if s.key.endswith(f"/{MANIFEST}")]


def _body(store: Store, prefix: str, troubles: list[str]) -> dict[str, Any]:
    try:
        manifest = read_manifest(store, prefix)
    except CorruptError as error:
        troubles.append(error.message)
        return {}
    return manifest.body if manifest else {}


def _stage(store: Store, layout: RunLayout, stage: str, task: str, troubles: list[str]) -> Stage | None:
    try:
        card = read_card(store, layout, stage, task)
        if card is None:
            return None
        answers = read_predictions(store, layout, stage, task) if stage in ("before", "after") else None
        return Stage(card, answers or [])
    except (CorruptError, NotFoundError) as error:
        troubles.append(f"{error.message}; left out of this report.")
    return None


def _object(store: Store, key: str, troubles: list[str]) -> dict[str, Any]:
    try:
        value = json.loads(store.get(key))
    except NotFoundError:
        return {}
    except ValueError:
        troubles.append(f"{store.uri}/{key}: not JSON.")
        return {}
    return value if isinstance(value, dict) else {}


def _lines(store: Store, prefix: str, troubles: list[str]) -> Iterator[dict[str, Any]]:
    """The JSON lines of all segments, in order; a torn last line (a killed writer) is no trouble worth naming."""
    for stat in store.list(prefix):
        if not stat.key.endswith(".jsonl"):
            continue
        lines = store.get(stat.key).decode(errors="replace").rstrip("\n").split("\n")
        for number, line in enumerate(lines, 1):
            try:
                value = json.loads(line)
            except ValueError:
                if number < len(lines):
                    troubles.append(f"{store.uri}/{stat.key}, line {number}: not JSON, left out.")
                continue
            if isinstance(value, dict):
                yield value
