"""Prepared data in numbers: lengths, what was cut or lost, and answers, split by split."""

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
"""A split with more different answers has no labels."""


@dataclass(frozen=True, slots=True)
class LengthSummary:
    """Tokens of a side before anything was cut, and the share of rows that were cut, 0..1."""

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
    """Share of the tokens that are kept."""
    altered_inputs: float
    """Share of the rows whose raw input does not come back from the tokenizer as it was."""
    altered_targets: float
    """As much of the answers."""
    duplicates: int
    answers: int
    """Different answers."""
    labels: dict[str, int] | None
    """How often each answer is given, most frequent first, where there are few; for ner rows with each entity type."""


def summarize(shard_set: ShardSet, store: Store, cache: PartCache, *, task: str | None = None) -> list[SplitSummary]:
    """Every split of every task (or of one), in the job's order; DataError for a task that is not there."""
    tasks = shard_set.tasks if task is None else (shard_set.task(task),)
    return [
        _summary(found, split, prepared, *_answers(found, prepared, store, cache))
        for found in tasks
        for split, prepared in found.splits.items()
    ]


def lengths(
    shard_set: ShardSet, task: str, split: Split, store: Store, cache: PartCache
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Source and target tokens of every row in its first wording, after cutting: int32, shape (examples,)."""
    reader = open_split(shard_set, task, split, store, cache)
    return reader.source_lengths[0], reader.target_lengths[0]


def _summary(
    task: PreparedTask, split: Split, prepared: PreparedSplit, answers: int, labels: dict[str, int] | None
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
        answers=answers,
        labels=labels,
    )


def _answers(
    task: PreparedTask, prepared: PreparedSplit, store: Store, cache: PartCache
) -> tuple[int, dict[str, int] | None]:
    """How many different answers there are, and how often each label comes."""
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
