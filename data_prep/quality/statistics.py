"""Statistics of prepared data by split: lengths, truncation, lost text and labels."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.config import Split
from data_prep.shards.manifest import PreparedSplit, PreparedTask, ShardSet
from data_prep.shards.parts import PartCache
from data_prep.shards.reader import open_split
from data_prep.shards.text_reader import iter_text
from raytrain_core.storage import Store

MOST_LABELS = 30
"""A split with more distinct targets has no labels."""


@dataclass(frozen=True, slots=True)
class LengthSummary:
    """Token counts before truncation, and the share of rows truncated, 0..1."""

    mean: float
    p50: int
    p95: int
    max: int
    cut: float


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """A split of a task; shares are 0..1."""

    task: str
    type: str
    probe: bool
    split: str
    rows: int
    variants: int
    source: LengthSummary
    target: LengthSummary
    unknown_tokens: float
    """Share of the tokens that remain after truncation."""
    altered_inputs: float
    """Share of the rows whose raw input the tokenizer does not reproduce exactly."""
    altered_targets: float
    """The same for targets."""
    duplicates: int
    distinct_targets: int
    labels: dict[str, int] | None
    """How often each target occurs, most frequent first, if there are few; for ner, rows with each
    entity type."""


def summarize(shard_set: ShardSet, store: Store, cache: PartCache, *, task: str | None = None) -> list[SplitSummary]:
    """Summarises every split of every task (or of one) in the job's order.

    Raises DataError for an unknown task.
    """
    tasks = shard_set.tasks if task is None else (shard_set.task(task),)
    return [
        _summary(found, split, prepared, *_targets(found, prepared, store, cache))
        for found in tasks
        for split, prepared in found.splits.items()
    ]


def lengths(
    shard_set: ShardSet, task: str, split: Split, store: Store, cache: PartCache
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Returns source and target tokens of every row's first variant after truncation.

    Each is int32 with shape (examples,).
    """
    reader = open_split(shard_set, task, split, store, cache)
    return reader.source_lengths[0], reader.target_lengths[0]


def _summary(
    task: PreparedTask, split: Split, prepared: PreparedSplit, distinct_targets: int, labels: dict[str, int] | None
) -> SplitSummary:
    s: Mapping[str, Any] = prepared.statistics
    return SplitSummary(
        task=task.name,
        type=task.type,
        probe=task.probe,
        split=split,
        rows=prepared.examples,
        variants=prepared.variants,
        source=LengthSummary(**s["source_tokens"], cut=s["truncated_sources"]),
        target=LengthSummary(**s["target_tokens"], cut=s["truncated_targets"]),
        unknown_tokens=s["unknown_tokens"],
        altered_inputs=s["altered_inputs"],
        altered_targets=s["altered_targets"],
        duplicates=s["duplicates"],
        distinct_targets=distinct_targets,
        labels=labels,
    )


def _targets(
    task: PreparedTask, prepared: PreparedSplit, store: Store, cache: PartCache
) -> tuple[int, dict[str, int] | None]:
    """Returns the number of distinct targets, and how often each label occurs."""
    answers, kinds = Counter[str](), Counter[str]()
    for texts in iter_text(prepared, store, cache):
        answers.update(texts.targets)
        if task.type == "ner":
            kinds.update(kind for meta in texts.metas for kind in _entity_types(meta))
    labels = kinds if kinds else answers
    few = len(labels) <= MOST_LABELS and (bool(kinds) or len(answers) * 2 <= prepared.examples)
    return len(answers), dict(labels.most_common()) if few else None


def _entity_types(meta: Mapping[str, Any]) -> set[str]:
    return {str(kind) for kind, _ in meta.get("entities", ())} or {"none"}
