"""One split of a task on its way into the store: examples are gathered, worded, tokenised and uploaded part by part."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.checks import Keys, SplitStatistics
from data_prep.document.models import Split
from data_prep.keys import content_key, order
from data_prep.prompts import PromptEncoder
from data_prep.rows import Example
from data_prep.shards import ROWS_OF_A_PART, Ids, Part, PartPair, PreparedSplit
from data_prep.storage import AlreadyExistsError, Store
from data_prep.storage.store import sha256_of_file
from data_prep.templates import Template
from data_prep.tokenizer import Tokenizer

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


@dataclass(frozen=True, slots=True)
class Limits:
    """Longest source and target in tokens, EOS included; what is longer is cut and counted."""

    max_input_tokens: int
    max_target_tokens: int


@dataclass(frozen=True, slots=True)
class PartStore:
    """Puts files under their sha256."""

    store: Store
    scratch: Path
    overwrite: bool = False
    """Put also what is there already: repairs an object whose bytes went bad."""

    def put(self, extension: str, write: Callable[[Path], None]) -> Part:
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
            return Part(key, size, sha256)
        finally:
            path.unlink(missing_ok=True)


class SplitWriter:
    """Takes the examples of one split in their order; holds at most one part of them in memory."""

    def __init__(
        self,
        task: str,
        split: Split,
        *,
        templates: Sequence[Template],
        wordings: int,
        seed: int,
        tokenizer: Tokenizer,
        limits: Limits,
        parts: PartStore,
        advance: Callable[[int], None],
    ) -> None:
        """A training split gets `wordings` different wordings of each example (all there are, if fewer), others one.

        `advance` is told how many examples more were tokenised.
        """
        self._task, self._split, self._seed = task, split, seed
        self._templates, self._tokenizer, self._limits, self._store = templates, tokenizer, limits, parts
        self._advance = advance
        self._wordings = min(wordings, len(templates)) if split == "train" else 1
        self._buffer: list[Example] = []
        self._seen: dict[str, int] = {}
        self._keys: list[Keys] = []
        self._parts: list[list[PartPair]] = [[] for _ in range(self._wordings)]
        self._statistics = SplitStatistics(len(templates))
        self.rows = 0

    def add(self, example: Example) -> None:
        """The next example."""
        self._buffer.append(example)
        self.rows += 1
        if len(self._buffer) == ROWS_OF_A_PART:
            self._flush()

    def finish(self) -> tuple[PreparedSplit, Keys]:
        """Write what is left; the split, and the keys of its inputs in row order."""
        if self._buffer:
            self._flush()
        keys = np.concatenate(self._keys) if self._keys else np.empty(0, np.uint64)
        stored = self._store.put("npy", lambda path: np.save(path, keys, allow_pickle=False))
        parts = tuple(tuple(pairs) for pairs in self._parts)
        return PreparedSplit(self.rows, self._wordings, parts, stored, self._statistics.summary(keys)), keys

    def _flush(self) -> None:
        examples, self._buffer = self._buffer, []
        start = self.rows - len(examples)
        ids = [
            _identifier(example, start + i) if example.id is None else self._unique(example.id)
            for i, example in enumerate(examples)
        ]
        metas = [json.dumps(example.meta, ensure_ascii=False) for example in examples]
        self._keys.append(np.array([content_key("input", e.meta["input"]) for e in examples], np.uint64))
        targets: list[Ids] = []
        worded = [_Worded([], [], []) for _ in self._parts]
        for first in range(0, len(examples), _CHUNK):
            chunk = examples[first : first + _CHUNK]
            targets += self._encode_targets([example.targets[0] for example in chunk])
            self._encode_sources(chunk, worded)
            self._advance(len(chunk))
        for pairs, rows in zip(self._parts, worded, strict=True):
            text = {
                "id": ids,
                "task": [self._task] * len(ids),
                "split": [self._split] * len(ids),
                "template": rows.templates,
                "input": rows.prompts,
                "targets": [example.targets for example in examples],
                "meta": metas,
            }
            batch = _token_batch(rows.ids, targets, rows.templates)
            stored = self._store.put("parquet", partial(_write_text, text))
            pairs.append(PartPair(len(ids), stored, self._store.put("arrow", partial(_write_tokens, batch))))

    def _unique(self, identifier: str) -> str:
        """The row's own id; where the split had it before, with the number of the occurrence (`q7`, `q7-2`, ...).

        Scores before and after are paired by id. This keeps all ids of the split in memory.
        """
        number = self._seen.get(identifier, 0) + 1
        unique = identifier if number == 1 else f"{identifier}-{number}"
        while number > 1 and unique in self._seen:  # some row has just that for its own id
            number += 1
            unique = f"{identifier}-{number}"
        self._seen[identifier] = number
        self._seen.setdefault(unique, 1)
        return unique

    def _encode_sources(self, examples: Sequence[Example], worded: "Sequence[_Worded]") -> None:
        encoder = PromptEncoder(self._tokenizer, self._templates, [example.input for example in examples])
        orders = [wording_order(self._seed, e.meta["input"], len(self._templates)) for e in examples]
        for wording, rows in enumerate(worded):
            templates = [order[wording] for order in orders]
            prompts = [self._templates[t].render(e.input) for t, e in zip(templates, examples, strict=True)]
            encoded = encoder.encode(prompts, templates, self._limits.max_input_tokens)
            kept = sum(map(len, encoded.ids))
            self._statistics.add_sources(encoded.lengths, templates, encoded.truncated, kept, encoded.unknown)
            rows.templates.extend(templates)
            rows.prompts.extend(prompts)
            rows.ids.extend(encoded.ids)

    def _encode_targets(self, targets: list[str]) -> list[Ids]:
        encoded = self._tokenizer.encode_counted(targets, self._limits.max_target_tokens)
        whole = [i for i, length in enumerate(encoded.lengths) if length <= self._limits.max_target_tokens]
        back = self._tokenizer.decode_batch(encoded.ids[i].tolist() for i in whole)
        altered = sum(targets[i] != text for i, text in zip(whole, back, strict=True))
        kept = sum(map(len, encoded.ids))
        self._statistics.add_targets(encoded.lengths, encoded.truncated, altered, kept, encoded.unknown)
        return encoded.ids


@dataclass(frozen=True, slots=True)
class _Worded:
    """Rows of one wording."""

    templates: list[int]
    prompts: list[str]
    ids: list[Ids]


def wording_order(seed: int, text: str, templates: int) -> list[int]:
    """In which order an example takes the wordings: depends on its input alone, never on its answer."""
    return order(content_key("wording", seed, text), templates)


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
