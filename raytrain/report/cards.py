"""The data card: what was prepared for every task, from the shard set that the run names."""

from collections.abc import Iterator, Mapping
from typing import Any

from data_prep.config import Source
from data_prep.shards.manifest import PreparedSplit, ShardSet
from raytrain.report.model import Data, DataCard, SplitCard
from raytrain.report.phrases import count
from raytrain.report.safe_text import readable
from raytrain.report.stored import StoredRun

DATA_NOTE = "raytrain.dev/data-note"


def data(run: StoredRun) -> Data:
    """Mixture, note and what was prepared for every task (none of it where the shard set is not known yet)."""
    job, shards = run.record.job, run.shards
    note = job.metadata.annotations.get(DATA_NOTE)
    mixture = job.spec.mixture.model_dump(mode="json", by_alias=True, exclude_none=True)
    if job.spec.mixture.strategy != "temperature":
        mixture.pop("temperature")
    sources = {task.name: task.source for task in job.spec.tasks}
    return Data(
        digest=run.record.shard_set,
        tokenizer=shards.tokenizer.digest if shards else None,
        mixture=mixture,
        limits=dict(shards.limits) if shards else {},
        note=readable(note, 2000) if note else None,
        tasks=_cards(shards, sources) if shards else [],
        leakage=list(_leakage(shards)) if shards else [],
    )


def _cards(shards: ShardSet, sources: Mapping[str, Source]) -> list[DataCard]:
    return [
        DataCard(
            task=task.name,
            probe=task.probe,
            share=None if task.probe else shards.rates.get(task.name),
            digest=task.digest,
            source=_source(sources.get(task.name)),
            bad_rows=int(task.bad_rows.get("count") or 0),
            splits=[_split(name, split) for name, split in task.splits.items()],
        )
        for task in shards.tasks
    ]


def _source(source: Source | None) -> str:
    if source is None:
        return ""
    return readable(source.uri or ", ".join((source.splits or {}).values()), 500)


def _split(name: str, split: PreparedSplit) -> SplitCard:
    found: Mapping[str, Any] = split.statistics
    source, target = (found.get(f"{side}_tokens") or {} for side in ("source", "target"))
    return SplitCard(
        split=name,
        examples=split.examples,
        templates=split.variants,
        source_tokens_mean=source.get("mean"),
        source_tokens_max=source.get("max"),
        target_tokens_mean=target.get("mean"),
        target_tokens_max=target.get("max"),
        truncated_sources=found.get("truncated_sources"),
        truncated_targets=found.get("truncated_targets"),
        unknown_tokens=found.get("unknown_tokens"),
        duplicates=found.get("duplicates"),
    )


def _leakage(shards: ShardSet) -> Iterator[str]:
    """Test rows above all: what was learned by heart there says nothing of other rows."""
    for task in shards.tasks:
        for pair, rows in task.leakage.items():
            held, _, seen = pair.partition(" in ")
            if rows:
                yield f"{task.name}: the inputs of {count(rows, f'{held} row')} are among the {seen} rows too."
    for entry in shards.leakage:
        rows, split, of = int(entry["rows"]), entry["split"], int(entry["of"])
        held = f"{rows:,} of {count(of, f'{split} row')}"
        yield f"{entry['task']}: {held} have an input that {entry['trained_in']} trained on."
