"""The parts of one item: up to 20,000 examples of a split, worded, tokenised and put into the store.

An item says all that determines its parts, so any process anywhere can make them and would make the
same bytes. What was made is written down in the store under the item's own key (`shards/units/`),
after the parts are there: an item that was made before, by whomever, is not made again.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.config import Split
from data_prep.shards.manifest import PartPair, PartRef
from data_prep.shards.reader import Ids, are_stored
from data_prep.shards.split_statistics import SplitStatistics
from data_prep.tasks.examples import Example
from data_prep.text.few_shot import Shots
from data_prep.text.prompts import PromptEncoder
from data_prep.text.templates import Template
from data_prep.text.tokenizer import Tokenizer
from raytrain_core.hashing import content_key, order
from raytrain_core.storage import AlreadyExistsError, NotFoundError, Store
from raytrain_core.storage.scratch import scratch
from raytrain_core.storage.store import sha256_of_file

_TEXT = pa.schema(
    [
        ("id", pa.string()),
        ("task", pa.string()),
        ("split", pa.string()),
        ("template", pa.int32()),
        ("input", pa.string()),
        ("targets", pa.list_(pa.string())),
        ("meta", pa.string()),
    ]
)
_TOKENS = pa.schema([("source", pa.list_(pa.uint16())), ("target", pa.list_(pa.uint16())), ("template", pa.int32())])
_ROW_GROUP = 2000
_CHUNK = 1000  # examples between two reports of progress

OnAdvance = Callable[[int], None]
"""Told how many examples more are done."""


@dataclass(frozen=True, slots=True)
class PrepLimits:
    """Longest source and target in tokens, EOS included; what is longer is cut and counted."""

    max_input_tokens: int
    max_target_tokens: int


@dataclass(frozen=True, slots=True)
class PrepSpec:
    """What is done with the examples of a task: `digest` is the task's, that of everything that determines it."""

    task: str
    digest: str
    templates: tuple[Template, ...]
    variants: int
    seed: int
    tokenizer: Tokenizer
    limits: PrepLimits
    shots: Shots | None = None
    """For training prompts."""

    def variants_of(self, split: Split) -> int:
        """A training split gets that many different wordings of each example (all there are, if fewer), others one."""
        return min(self.variants, len(self.templates)) if split == "train" else 1


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """Consecutive examples of a split, of which one part a wording is made; pickles.

    `start` is the number of the first one in its split, `number` that of the item. Ids that come
    from the rows are unique in the split already. With `overwrite` everything is made and put
    again: that repairs an object whose bytes went bad.
    """

    recipe: PrepSpec
    split: Split
    number: int
    start: int
    examples: list[Example]
    store: Store
    overwrite: bool = False

    @property
    def key(self) -> str:
        """Where it is written down what was made."""
        return f"{units_prefix(self.recipe.digest)}{self.split}-{self.number:06d}.json"


@dataclass(frozen=True, slots=True)
class ShardParts:
    """What an item became: a part pair for every wording, the keys of its inputs, and what was counted."""

    pairs: tuple[PartPair, ...]
    keys: PartRef
    statistics: SplitStatistics

    def all_parts(self) -> list[PartRef]:
        """Every object of the item."""
        return [self.keys, *(part for pair in self.pairs for part in (pair.text, pair.tokens))]

    def to_json(self) -> bytes:
        """As it is written down."""
        document = {"pairs": [asdict(pair) for pair in self.pairs], "keys": asdict(self.keys)}
        return json.dumps(document | {"statistics": self.statistics.to_json()}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """What `to_json` gave; ValueError, KeyError or TypeError for anything else."""
        document = json.loads(data)
        pairs = tuple(
            PartPair(pair["rows"], PartRef(**pair["text"]), PartRef(**pair["tokens"])) for pair in document["pairs"]
        )
        return cls(pairs, PartRef(**document["keys"]), SplitStatistics.from_json(document["statistics"]))


@dataclass(frozen=True, slots=True)
class PartStore:
    """Puts files under their sha256."""

    store: Store
    scratch: Path
    overwrite: bool = False
    """Put also what is there already."""

    def put(self, extension: str, write: Callable[[Path], None]) -> PartRef:
        """Have `write` make a file, and store it as shards/parts/<sha256>.<extension>."""
        path = self.scratch / f"part.{extension}"
        try:
            write(path)
            sha256, size = sha256_of_file(path), path.stat().st_size
            key = f"shards/parts/{sha256}.{extension}"
            try:
                self.store.upload(key, path, if_absent=not self.overwrite)
            except AlreadyExistsError:
                stat = self.store.stat(key)
                if stat is None or stat.bytes != size:
                    self.store.upload(key, path)
            return PartRef(key, size, sha256)
        finally:
            path.unlink(missing_ok=True)


def units_prefix(digest: str) -> str:
    """Where it is written down which items of a task were made, until the task's own manifest is there."""
    return f"shards/units/{digest}/"


def make(item: WorkUnit, advance: OnAdvance = lambda examples: None) -> ShardParts:
    """Make the parts of `item`, or find them made; StorageError."""
    if not item.overwrite and (found := _made_before(item)) is not None:
        advance(len(item.examples))
        return found
    worded, targets, statistics = _encode(item, advance)
    ids = [
        _identifier(example, item.start + i) if example.id is None else example.id
        for i, example in enumerate(item.examples)
    ]
    metas = [json.dumps(example.meta, ensure_ascii=False) for example in item.examples]
    keys = np.array([content_key("input", example.meta["input"]) for example in item.examples], np.uint64)
    pairs = []
    with scratch("preparation") as folder:
        parts = PartStore(item.store, folder, item.overwrite)
        for rows in worded:
            text = {
                "id": ids,
                "task": [item.recipe.task] * len(ids),
                "split": [item.split] * len(ids),
                "template": rows.templates,
                "input": rows.prompts,
                "targets": [example.targets for example in item.examples],
                "meta": metas,
            }
            batch = _token_batch(rows.ids, targets, rows.templates)
            stored = parts.put("parquet", partial(_write_text, text))
            pairs.append(PartPair(len(ids), stored, parts.put("arrow", partial(_write_tokens, batch))))
        made = ShardParts(
            tuple(pairs), parts.put("npy", lambda path: np.save(path, keys, allow_pickle=False)), statistics
        )
    item.store.put(item.key, made.to_json())
    return made


def _made_before(item: WorkUnit) -> ShardParts | None:
    try:
        made = ShardParts.from_json(item.store.get(item.key))
    except (NotFoundError, ValueError, KeyError, TypeError):
        return None
    return made if are_stored(item.store, made.all_parts()) else None


@dataclass(frozen=True, slots=True)
class _Worded:
    """Rows of one wording."""

    templates: list[int]
    prompts: list[str]
    ids: list[Ids]


def _encode(item: WorkUnit, advance: OnAdvance) -> tuple[list[_Worded], list[Ids], SplitStatistics]:
    """The rows of every wording, the ids of the targets, and what was counted, chunk by chunk."""
    statistics = SplitStatistics()
    worded = [_Worded([], [], []) for _ in range(item.recipe.variants_of(item.split))]
    targets: list[Ids] = []
    for first in range(0, len(item.examples), _CHUNK):
        chunk = item.examples[first : first + _CHUNK]
        targets += _encode_targets(item.recipe, [example.targets[0] for example in chunk], statistics)
        _encode_sources(item.recipe, item.split, chunk, worded, statistics)
        advance(len(chunk))
    return worded, targets, statistics


def _encode_sources(
    recipe: PrepSpec, split: Split, examples: Sequence[Example], worded: Sequence[_Worded], statistics: SplitStatistics
) -> None:
    inputs, limit = [example.input for example in examples], recipe.limits.max_input_tokens
    encoder = PromptEncoder(recipe.tokenizer, recipe.templates, inputs)
    statistics.add_inputs(encoder.altered())
    orders = [template_order(recipe.seed, e.meta["input"], len(recipe.templates)) for e in examples]
    for variant, rows in enumerate(worded):
        templates = [order[variant] for order in orders]
        used = [recipe.templates[t] for t in templates]
        prompts = [template.render(text) for template, text in zip(used, inputs, strict=True)]
        with_shots: Mapping[int, str] = {}
        if recipe.shots is not None and split == "train":
            with_shots = recipe.shots.prompts(inputs, used, variant, recipe.tokenizer, limit)
            prompts = [with_shots.get(i, prompt) for i, prompt in enumerate(prompts)]
            statistics.add_few_shot(len(with_shots))
        encoded = encoder.encode(prompts, templates, limit, others=with_shots)
        kept = sum(map(len, encoded.ids))
        statistics.add_sources(encoded.lengths, templates, encoded.truncated, kept, encoded.unknown)
        rows.templates.extend(templates)
        rows.prompts.extend(prompts)
        rows.ids.extend(encoded.ids)


def _encode_targets(recipe: PrepSpec, targets: list[str], statistics: SplitStatistics) -> list[Ids]:
    limit = recipe.limits.max_target_tokens
    encoded = recipe.tokenizer.encode_counted(targets, limit)
    whole = [(encoded.ids[i], targets[i]) for i, length in enumerate(encoded.lengths) if length <= limit]
    altered = recipe.tokenizer.altered(whole)
    statistics.add_targets(encoded.lengths, encoded.truncated, altered, sum(map(len, encoded.ids)), encoded.unknown)
    return encoded.ids


def template_order(seed: int, text: str, templates: int) -> list[int]:
    """In which order an example takes the wordings: depends on its input alone, never on its answer."""
    return order(content_key("wording", seed, text), templates) if templates > 1 else [0]


def _identifier(example: Example, index: int) -> str:
    """Of the content, with the row's number so that equal rows stay apart."""
    return f"{content_key('row', example.input, *example.targets):016x}-{index}"


def _write_text(columns: dict[str, Any], path: Path) -> None:
    table = pa.table(columns, schema=_TEXT)
    pq.write_table(table, path, compression="zstd", row_group_size=_ROW_GROUP, use_dictionary=["task", "split"])


def _token_batch(sources: Sequence[Ids], targets: Sequence[Ids], templates: Sequence[int]) -> pa.RecordBatch:
    columns = [_lists(sources), _lists(targets), pa.array(templates, pa.int32())]
    return pa.record_batch(columns, schema=_TOKENS)


def _lists(rows: Sequence[Ids]) -> pa.ListArray:
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(rows)))


def _write_tokens(batch: pa.RecordBatch, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)


def digest_of(document: Any) -> str:
    """Hex sha256 of plain data."""
    return hashlib.sha256(json.dumps(document, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
