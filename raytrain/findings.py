"""What preparation found out about the data of a run, out of the manifests of its shards."""

from dataclasses import dataclass, field

from data_prep.errors import DataError
from data_prep.shards import ShardSet
from data_prep.storage import Store
from raytrain.spec.layout import RunLayout
from raytrain.spec.record import read_record


@dataclass(frozen=True, slots=True)
class SplitFindings:
    """A split of a task; shares are 0..1, `longest` are source and target tokens before anything was cut."""

    task: str
    split: str
    rows: int
    wordings: int
    mean_tokens: tuple[float, float]
    longest: tuple[int, int]
    cut_sources: float
    cut_targets: float
    unknown_tokens: float
    altered_targets: float
    duplicates: int


@dataclass(frozen=True, slots=True)
class Findings:
    """All of a run's data."""

    run: str
    shard_set: str
    splits: list[SplitFindings]
    shares: dict[str, float]
    warnings: list[str] = field(default_factory=list)


def of_run(store: Store, layout: RunLayout) -> Findings:
    """Read the manifests of what a run was prepared from; DataError if it is not prepared yet."""
    record = read_record(store, layout)
    if record is None or record.shard_set is None:
        raise DataError(f"the data of {layout.name} is not prepared yet", hint="`raytrain run` prepares it")
    shards = ShardSet.load(store, record.shard_set)
    splits = [
        SplitFindings(
            task=task.name,
            split=split,
            rows=prepared.examples,
            wordings=prepared.wordings,
            mean_tokens=(s["source_tokens"]["mean"], s["target_tokens"]["mean"]),
            longest=(s["source_tokens"]["max"], s["target_tokens"]["max"]),
            cut_sources=s["truncated_sources"],
            cut_targets=s["truncated_targets"],
            unknown_tokens=s["unknown_tokens"],
            altered_targets=s["altered_targets"],
            duplicates=s["duplicates"],
        )
        for task in shards.tasks
        for split, prepared in task.splits.items()
        for s in [prepared.statistics]
    ]
    return Findings(layout.name, shards.digest, splits, dict(shards.rates), _warnings(shards))


def _warnings(shards: ShardSet) -> list[str]:
    found = []
    for task in shards.tasks:
        if count := task.bad_rows.get("count"):
            found.append(f"{task.name}: {count:,} bad rows were left out, e.g. {task.bad_rows['first'][0]}")
        found += [
            f"{task.name}: {rows:,} rows of {what.replace(' in ', ' are in ')} too"
            for what, rows in task.leakage.items()
            if rows
        ]
    found += [
        f"{o['task']}: {o['rows']:,} of {o['of']:,} {o['split']} rows are trained on in {o['trained_in']}"
        for o in shards.leakage
    ]
    return found
