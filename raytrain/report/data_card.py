"""The data section of the report: what was prepared for every task, from the run's shard set."""

from collections.abc import Iterator, Mapping, Set
from typing import Any

from data_prep.config import Source
from data_prep.shards.manifest import PreparedSplit, PreparedTask, ShardSet
from data_prep.tally import Tally, effect_of, meaning_of
from raytrain.report.formatting import format_count, join_names
from raytrain.report.model import Data, DataCard, RowEvents, SplitCard
from raytrain.report.stored import StoredRun

DATA_NOTE = "raytrain.dev/data-note"


def describe_data(run: StoredRun) -> Data:
    """Describes mixture, note and prepared tasks; there are none before the data is prepared."""
    job, shards = run.record.job, run.shards
    mixture = job.spec.mixture.model_dump(mode="json", by_alias=True, exclude_none=True)
    if job.spec.mixture.strategy != "temperature":
        mixture.pop("temperature")
    sources = {task.name: task.source for task in job.spec.tasks}
    return Data(
        digest=run.record.shard_set,
        tokenizer=shards.tokenizer.digest if shards else None,
        mixture=mixture,
        limits=dict(shards.limits) if shards else {},
        note=job.metadata.annotations.get(DATA_NOTE) or None,
        tasks=_cards(shards, sources) if shards else [],
        leakage=list(leaks(shards)) if shards else [],
    )


def _cards(shards: ShardSet, sources: Mapping[str, Source]) -> list[DataCard]:
    return [
        DataCard(
            task=task.name,
            probe=task.probe,
            share=None if task.probe else shards.rates.get(task.name),
            digest=task.digest,
            source=_source(sources.get(task.name)),
            bad_rows=tally.count("bad-row"),
            happened=_happened(tally),
            warning=tally.warning(),
            splits=[_split(name, split) for name, split in task.splits.items()],
        )
        for task in shards.tasks
        for tally in [Tally.from_json(task.tally)]
    ]


def _happened(tally: Tally) -> list[RowEvents]:
    return [
        RowEvents(
            what=meaning_of(kind),
            effect=effect_of(kind),
            count=entry.count,
            first=[str(place) for place in entry.first],
        )
        for kind, entry in tally
    ]


def _source(source: Source | None) -> str:
    return "" if source is None else source.uri or ", ".join((source.splits or {}).values())


def _split(name: str, split: PreparedSplit) -> SplitCard:
    statistics: Mapping[str, Any] = split.statistics
    source, target = (statistics.get(f"{side}_tokens") or {} for side in ("source", "target"))
    return SplitCard(
        split=name,
        examples=split.examples,
        templates=split.variants,
        source_tokens_mean=source.get("mean"),
        source_tokens_max=source.get("max"),
        target_tokens_mean=target.get("mean"),
        target_tokens_max=target.get("max"),
        truncated_sources=statistics.get("truncated_sources"),
        truncated_targets=statistics.get("truncated_targets"),
        unknown_tokens=statistics.get("unknown_tokens"),
        duplicates=statistics.get("duplicates"),
    )


def _near_twins(task: PreparedTask, but: Set[str]) -> Iterator[str]:
    """Counts the marked rows of each split that has more of them than equal inputs, test first."""
    for name, split in sorted(task.splits.items()):
        if task.name in but and name == "test":
            continue
        if split.near_twins is not None and (near := len(split.near_twins.ids)) > task.leakage[f"{name} in train"]:
            yield f"{near:,} of {format_count(split.examples, f'{name} row')}"


def _twins_elsewhere(shards: ShardSet, task: PreparedTask, but: Set[str]) -> Iterator[str]:
    """Yields a sentence for each other task with near-twins besides equal inputs."""
    equal = {(e["task"], e["split"], e["trained_in"]): int(e["rows"]) for e in shards.leakage}
    for split, marks in sorted(shards.twins_elsewhere.get(task.name, {}).items()):
        if task.name in but and split == "test":
            continue
        for other, ids in marks.ids.items():
            if len(ids) > equal.get((task.name, split, other), 0):
                rows = f"{len(ids):,} of {format_count(task.splits[split].examples, f'{split} row')}"
                yield f"{task.name}: {rows} have a near-twin in the training rows of {other}, equal inputs included."


def leaks(shards: ShardSet, *, but: Set[str] = frozenset()) -> Iterator[str]:
    """Yields a sentence for each leak of held-out rows into training.

    Those about test rows of the tasks `but` are left out: near-twins, equal ones included.
    """
    for task in shards.tasks:
        for pair, rows in task.leakage.items():
            held, _, trained = pair.partition(" in ")
            if rows and not (task.name in but and held == "test"):
                yield f"{task.name}: the inputs of {format_count(rows, f'{held} row')} also occur in {trained} rows."
        if near := list(_near_twins(task, but)):
            yield f"{task.name}: {join_names(near)} have a near-twin in training, equal inputs included."
        yield from _twins_elsewhere(shards, task, but)
    for entry in shards.leakage:
        rows, split, of = int(entry["rows"]), entry["split"], int(entry["of"])
        if entry["task"] in but and split == "test":
            continue
        held_out = f"{rows:,} of {format_count(of, f'{split} row')}"
        yield f"{entry['task']}: {held_out} have an input that {entry['trained_in']} trained on."
