"""Compares two sets of prepared data: settings, tasks and rows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_prep.config import SPLITS, Split
from data_prep.quality.findings import DataRow
from data_prep.shards.leakage import Keys
from data_prep.shards.manifest import PreparedTask
from data_prep.shards.parts import load_keys
from data_prep.shards.text_reader import iter_text, rows_at
from raytrain.config.identity import diff, identity
from raytrain.datasets.resolve import Prepared
from raytrain_core.hashing import content_key, sample, splitmix64


@dataclass(frozen=True, slots=True)
class SplitChange:
    """Changes of a split; rows are equal if input and target are, and repeated rows count."""

    split: str
    rows: tuple[int, int]
    added: int
    removed: int
    other_target: int
    """Added rows whose input existed before with another target."""
    mean_tokens: tuple[tuple[float, float], tuple[float, float]]
    """Source and target, of the first and of the second."""
    examples: list[tuple[str, DataRow]]
    """`added` or `removed`, with a row."""


@dataclass(frozen=True, slots=True)
class TaskChange:
    """One task; `change` is added, removed, changed or same."""

    task: str
    change: str
    share: tuple[float | None, float | None]
    """Share of the mixture before and after; None for a probe or a missing task."""
    settings: list[str] = field(default_factory=list)
    splits: list[SplitChange] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DataDiff:
    """What changed from `first` to `second`, each given by name and digest."""

    first: tuple[str, str]
    second: tuple[str, str]
    settings: list[str]
    tasks: list[TaskChange]

    @property
    def same(self) -> bool:
        """Whether both are the same shard set, made for the same job."""
        return self.first[1] == self.second[1] and not self.settings


def compare(first: Prepared, second: Prepared, *, examples: int = 2) -> DataDiff:
    """Compares every task, with up to `examples` added and removed rows of each split."""
    was = {task.name: task for task in first.shard_set.tasks}
    now = {task.name: task for task in second.shard_set.tasks}
    tasks = [_task(name, was.get(name), now.get(name), first, second, examples) for name in was | now]
    heads = [(side.name, side.shard_set.digest) for side in (first, second)]
    return DataDiff(heads[0], heads[1], _settings(first, second), tasks)


def _settings(first: Prepared, second: Prepared) -> list[str]:
    """Compares the jobs if both are known, else the settings in the shard sets."""
    if first.job is not None and second.job is not None:
        return diff(identity(first.job), identity(second.job))
    was, now = ({f: getattr(side.shard_set, f) for f in ("mixture", "limits")} for side in (first, second))
    tokenizers = [{"tokenizer": side.shard_set.tokenizer.digest[:16]} for side in (first, second)]
    return diff(was | tokenizers[0], now | tokenizers[1])


def _task(  # noqa: PLR0917 - two of everything
    name: str, was: PreparedTask | None, now: PreparedTask | None, first: Prepared, second: Prepared, examples: int
) -> TaskChange:
    share = first.shard_set.rates.get(name), second.shard_set.rates.get(name)
    if was is None or now is None:
        return TaskChange(name, "added" if was is None else "removed", share)
    if was.digest == now.digest:
        return TaskChange(name, "same", share)
    settings = diff(_settings_of(was), _settings_of(now))
    either = [split for split in SPLITS if split in was.splits or split in now.splits]
    splits = [_split(name, split, was, now, first, second, examples) for split in either]
    return TaskChange(name, "changed", share, settings, splits)


def _settings_of(task: PreparedTask) -> Mapping[str, Any]:
    """What determines a task's shards, with files by name instead of position."""
    identity = dict(task.provenance["identity"])
    identity.pop("files", None)
    return identity | {"files": {f["name"]: f["sha256"][:16] for f in task.provenance["sources"]}}


def _split(  # noqa: PLR0917 - two of everything
    task: str, split: Split, was: PreparedTask, now: PreparedTask, first: Prepared, second: Prepared, examples: int
) -> SplitChange:
    inputs, pairs = zip(*(_keys(side, task, split) for side in (first, second)), strict=True)
    removed, added = _only(pairs[0], pairs[1]), _only(pairs[1], pairs[0])
    cases = [
        (what, row)
        for what, side, places in (("removed", first, removed), ("added", second, added))
        for row in _rows(side, task, split, places[sample(len(places), examples, content_key("diff", task, split))])
    ]
    return SplitChange(
        split=split,
        rows=(len(pairs[0]), len(pairs[1])),
        added=len(added),
        removed=len(removed),
        other_target=int(np.isin(inputs[1][added], inputs[0]).sum()),
        mean_tokens=(_means(was, split), _means(now, split)),
        examples=cases,
    )


def _keys(side: Prepared, task: str, split: Split) -> tuple[Keys, Keys]:
    """Hashes of every row: of its input, and of input and target."""
    prepared = side.shard_set.task(task).splits.get(split)
    if prepared is None:
        return np.empty(0, np.uint64), np.empty(0, np.uint64)
    inputs, answers = load_keys(prepared, side.store), [np.empty(0, np.uint64)]
    for texts in iter_text(prepared, side.store, side.cache):
        answers.append(np.array([content_key("answer", text) for text in texts.targets], np.uint64))
    return inputs, splitmix64(inputs) ^ np.concatenate(answers)


def _only(rows: Keys, others: Keys) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The rows that the others do not have, or have fewer times.

    The k-th of equal rows is compared with the k-th.
    """
    return np.flatnonzero(~np.isin(_counted(rows), _counted(others)))


def _counted(keys: Keys) -> Keys:
    """Combines each key with the number of equal ones before it."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    place = np.arange(len(keys))
    new = np.ones(len(keys), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    before = np.empty(len(keys), np.uint64)
    before[order] = (place - np.maximum.accumulate(np.where(new, place, 0))).astype(np.uint64)
    return splitmix64(keys + splitmix64(before))


def _rows(side: Prepared, task: str, split: Split, places: "np.ndarray[Any, np.dtype[np.int64]]") -> Iterator[DataRow]:
    if len(places):
        found = rows_at(side.shard_set.split(task, split), places.tolist(), side.store, side.cache)
        for row in found.values():
            yield DataRow(task, split, row.index, row.id, row.meta["input"], row.targets[0])


def _means(task: PreparedTask, split: Split) -> tuple[float, float]:
    prepared = task.splits.get(split)
    if prepared is None:
        return 0.0, 0.0
    return prepared.statistics["source_tokens"]["mean"], prepared.statistics["target_tokens"]["mean"]
