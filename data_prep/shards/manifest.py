"""The manifests that preparation stores: a shard set, its tasks and their splits."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from data_prep.config import SPLITS, Split
from raytrain_core.errors import DataError
from raytrain_core.storage import CorruptError, Store

_FORMAT = 6


@dataclass(frozen=True, slots=True)
class PartRef:
    """A content-addressed object in the store."""

    key: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PartPair:
    """Some rows of one variant: row i of `tokens` is row i of `text`."""

    rows: int
    text: PartRef
    tokens: PartRef


@dataclass(frozen=True, slots=True)
class NearTwins:
    """Which rows of a held-out split repeat training rows of their task, or nearly do."""

    ids: tuple[str, ...]
    """Of those rows, in row order."""
    compared: int
    """Rows that were compared by 8-grams; equal inputs are found among all rows."""


@dataclass(frozen=True, slots=True)
class TwinsElsewhere:
    """Which rows of a held-out split repeat training rows of other tasks, or nearly do."""

    ids: Mapping[str, tuple[str, ...]]
    """Of those rows, in row order, by the task that trains on their near-twins."""
    compared: int
    """Rows that were compared by 8-grams; equal inputs are found among all rows."""


@dataclass(frozen=True, slots=True)
class PreparedSplit:
    """A split of a task; `parts[v]` holds variant v of all examples, in the same order."""

    examples: int
    variants: int
    parts: tuple[tuple[PartPair, ...], ...]
    keys: tuple[PartRef, ...]
    """uint64 hashes of the raw inputs in row order (.npy), divided like the parts: for duplicates
    and leakage."""
    statistics: Mapping[str, Any]
    """`data_prep.shards.split_statistics.SplitStatistics.summary`."""
    near_twins: NearTwins | None = None
    """None for training rows, and where there are none to compare with."""

    def all_parts(self) -> list[PartRef]:
        """Returns every object of the split."""
        pairs = [pair for variant in self.parts for pair in variant]
        return [*self.keys, *(pair.text for pair in pairs), *(pair.tokens for pair in pairs)]


@dataclass(frozen=True, slots=True)
class PreparedTask:
    """A prepared task; `digest` is that of everything that determines it."""

    name: str
    type: str
    probe: bool
    digest: str
    splits: Mapping[Split, PreparedSplit]
    tally: Mapping[str, Any]
    """What happened to its rows: `data_prep.tally.Tally.to_json`."""
    leakage: Mapping[str, int]
    """`data_prep.shards.leakage.leakage` between its own splits."""
    provenance: Mapping[str, Any]
    """Sources with sha256, split rule, templates, limits, tokenizer."""

    @staticmethod
    def key(digest: str) -> str:
        """Returns the storage key of a task's manifest."""
        return f"shards/tasks/{digest}.json"

    @classmethod
    def load(cls, store: Store, digest: str) -> Self:
        """Reads the manifest; raises NotFoundError or CorruptError."""
        manifest = _read_json(store, cls.key(digest))
        try:
            splits = {split: _split(manifest["splits"][split]) for split in SPLITS if split in manifest["splits"]}
            fields = ("name", "type", "probe", "digest", "tally", "leakage", "provenance")
            return cls(splits=splits, **{field: manifest[field] for field in fields})
        except (KeyError, TypeError) as error:
            raise CorruptError(f"{store.uri}/{cls.key(digest)}: not the manifest of a task ({error!r})") from None

    def to_json(self) -> bytes:
        """Returns the manifest to store."""
        return _to_json({"format": _FORMAT, "kind": "task", **asdict(self)})

    def all_parts(self) -> list[PartRef]:
        """Returns every object of the task."""
        return [part for split in self.splits.values() for part in split.all_parts()]


@dataclass(frozen=True, slots=True)
class TokenizerRef:
    """The tokenizer of a shard set: its digest, number of ids and files."""

    digest: str
    size: int
    files: Mapping[str, PartRef]


@dataclass(frozen=True, slots=True)
class ShardSet:
    """What a run refers to: prepared tasks, the mixture's inputs and rates, the tokenizer."""

    digest: str
    tasks: tuple[PreparedTask, ...]
    tokenizer: TokenizerRef
    mixture: Mapping[str, Any]
    """The mixture as the job file has it."""
    rates: Mapping[str, float]
    """Share of every trained task."""
    limits: Mapping[str, int]
    """max_input_tokens, max_target_tokens."""
    leakage: Sequence[Mapping[str, Any]]
    """`data_prep.shards.leakage.leakage_across`."""
    twins_elsewhere: Mapping[str, Mapping[Split, TwinsElsewhere]]
    """By task and held-out split, where other tasks are trained:
    `data_prep.shards.twins_elsewhere`."""

    @staticmethod
    def key(digest: str) -> str:
        """Returns the storage key of a set's manifest."""
        return f"shards/sets/{digest}.json"

    @classmethod
    def load(cls, store: Store, digest: str) -> Self:
        """Reads the manifests of the set and its tasks; raises NotFoundError or CorruptError."""
        manifest = _read_json(store, cls.key(digest))
        try:
            tasks = tuple(PreparedTask.load(store, task["digest"]) for task in manifest["tasks"])
            ref = manifest["tokenizer"]
            files = {name: PartRef(**part) for name, part in ref["files"].items()}
            fields = ("digest", "mixture", "rates", "limits", "leakage")
            tokenizer = TokenizerRef(ref["digest"], ref["size"], files)
            twins = _twins_elsewhere(manifest["twins_elsewhere"])
            values = {field: manifest[field] for field in fields}
            return cls(tasks=tasks, tokenizer=tokenizer, twins_elsewhere=twins, **values)
        except (KeyError, TypeError, AttributeError) as error:
            raise CorruptError(f"{store.uri}/{cls.key(digest)}: not the manifest of a set ({error!r})") from None

    def to_json(self) -> bytes:
        """Returns the manifest to store, which refers to its tasks by digest."""
        tasks = [{"name": task.name, "digest": task.digest} for task in self.tasks]
        manifest = {field: getattr(self, field) for field in ("digest", "mixture", "rates", "limits", "leakage")}
        twins = {
            task: {split: asdict(found) for split, found in splits.items()}
            for task, splits in self.twins_elsewhere.items()
        }
        manifest |= {"tasks": tasks, "tokenizer": asdict(self.tokenizer), "twins_elsewhere": twins}
        return _to_json({"format": _FORMAT, "kind": "set", **manifest})

    def task(self, name: str) -> PreparedTask:
        """Returns the task of that name; raises DataError if there is none."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise DataError(f"task {name} is not in the shard set {self.digest[:12]}", hint="Prepare the data again.")

    def split(self, task: str, split: Split) -> PreparedSplit:
        """Returns a split of a task; raises DataError if there is none."""
        found = self.task(task).splits.get(split)
        if found is None:
            raise DataError(f"task {task} has no {split} rows in the shard set {self.digest[:12]}")
        return found


def _split(manifest: Mapping[str, Any]) -> PreparedSplit:
    parts = tuple(
        tuple(PartPair(pair["rows"], PartRef(**pair["text"]), PartRef(**pair["tokens"])) for pair in variant)
        for variant in manifest["parts"]
    )
    keys = tuple(PartRef(**part) for part in manifest["keys"])
    marks = manifest["near_twins"]
    twins = None if marks is None else NearTwins(tuple(marks["ids"]), marks["compared"])
    return PreparedSplit(manifest["examples"], manifest["variants"], parts, keys, manifest["statistics"], twins)


def _twins_elsewhere(manifest: Mapping[str, Any]) -> dict[str, dict[Split, TwinsElsewhere]]:
    return {
        task: {
            split: TwinsElsewhere(
                {other: tuple(ids) for other, ids in splits[split]["ids"].items()}, splits[split]["compared"]
            )
            for split in SPLITS
            if split in splits
        }
        for task, splits in manifest.items()
    }


def _read_json(store: Store, key: str) -> dict[str, Any]:
    try:
        manifest = json.loads(store.get(key))
    except ValueError as error:
        raise CorruptError(f"{store.uri}/{key}: not JSON ({error})") from None
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise CorruptError(
            f"{store.uri}/{key}: not in the format that this version reads", hint="Prepare the data again."
        )
    return manifest


def _to_json(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
