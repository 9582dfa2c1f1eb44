"""Turns a work unit into parts.

Renders and tokenises its examples and stores text, tokens and keys.

The result is recorded in the store under the unit's own key, after the parts are there: a unit that
any process finished before is not done again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.config import Split
from data_prep.shards.manifest import PartPair
from data_prep.shards.parts import PartWriter, are_stored
from data_prep.shards.split_statistics import SplitStatistics
from data_prep.shards.work_unit import PrepSpec, ShardParts, WorkUnit
from data_prep.tally import Event, Tally
from data_prep.tasks.examples import Example
from data_prep.text.fit_prompt import ends_with_input, fit_prompt
from data_prep.text.prompts import PromptEncoder
from data_prep.text.templates import Template, template_orders
from data_prep.text.tokenizer import Ids, count
from raytrain_core.hashing import content_key
from raytrain_core.storage import NotFoundError
from raytrain_core.storage.scratch import scratch

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
_ROW_GROUP = 2000
_CHUNK = 1000  # examples between two reports of progress

OnAdvance = Callable[[int], None]
"""Called with the number of examples finished since the last call."""


@dataclass(frozen=True, slots=True)
class _Rendered:
    """The rows of one variant: template numbers, prompts and their token ids."""

    templates: list[int]
    prompts: list[str]
    ids: list[Ids]


def write_unit(unit: WorkUnit, on_advance: OnAdvance = lambda examples: None) -> ShardParts:
    """Returns the parts of `unit`: those recorded earlier if they are intact, else written now."""
    if not unit.overwrite and (recorded := _recorded(unit)) is not None:
        on_advance(len(unit.examples))
        return recorded
    rendered, targets, statistics, tally = _encode(unit, on_advance)
    keys = np.array([content_key("input", example.meta["input"]) for example in unit.examples], np.uint64)
    columns = _text_columns(unit)
    with scratch("preparation") as folder:
        writer = PartWriter(unit.store, folder, unit.overwrite)
        pairs = tuple(_write_pair(writer, columns, rows, targets) for rows in rendered)
        stored_keys = writer.put("npy", lambda path: np.save(path, keys, allow_pickle=False))
        parts = ShardParts(pairs, stored_keys, statistics, tally)
    unit.store.put(unit.key, parts.to_json())
    return parts


def _recorded(unit: WorkUnit) -> ShardParts | None:
    try:
        parts = ShardParts.from_json(unit.store.get(unit.key))
    except (NotFoundError, ValueError, KeyError, TypeError):
        return None
    return parts if are_stored(unit.store, parts.all_parts()) else None


def _encode(unit: WorkUnit, on_advance: OnAdvance) -> tuple[list[_Rendered], list[Ids], SplitStatistics, Tally]:
    """Renders and encodes chunk by chunk.

    The rows of every variant, target ids, and what was counted.
    """
    statistics, tally = SplitStatistics(), Tally()
    rendered = [_Rendered([], [], []) for _ in range(unit.spec.variants_of(unit.split))]
    targets: list[Ids] = []
    for first in range(0, len(unit.examples), _CHUNK):
        chunk = unit.examples[first : first + _CHUNK]
        cut = [list[Event]() for _ in chunk]
        targets += _encode_targets(unit.spec, [example.targets[0] for example in chunk], statistics, cut)
        _encode_sources(unit, chunk, rendered, statistics, cut)
        for example, events in zip(chunk, cut, strict=True):
            tally.add_row(*example.place, events, read=False)
        on_advance(len(chunk))
    return rendered, targets, statistics, tally


def _encode_targets(
    spec: PrepSpec, targets: list[str], statistics: SplitStatistics, cut: Sequence[list[Event]]
) -> list[Ids]:
    limit = spec.limits.max_target_tokens
    encoded = spec.tokenizer.encode_counted(targets, limit)
    for i in np.flatnonzero(encoded.lengths > limit).tolist():
        cut[i].append(Event("target-cut", f"{encoded.lengths[i]:,} tokens"))
    uncut = [(encoded.ids[i], targets[i]) for i, length in enumerate(encoded.lengths) if length <= limit]
    altered = spec.tokenizer.altered(uncut)
    statistics.add_targets(encoded.lengths, encoded.truncated, altered, sum(map(len, encoded.ids)), encoded.unknown)
    return encoded.ids


def _encode_sources(
    unit: WorkUnit,
    examples: Sequence[Example],
    rendered: Sequence[_Rendered],
    statistics: SplitStatistics,
    cut: Sequence[list[Event]],
) -> None:
    spec, inputs = unit.spec, [example.input for example in examples]
    limit = spec.limits.max_input_tokens
    encoder = PromptEncoder(spec.tokenizer, spec.templates, inputs)
    statistics.add_inputs(encoder.altered())
    orders = template_orders(spec.seed, [e.meta["input"] for e in examples], len(spec.templates))
    for variant, rows in enumerate(rendered):
        templates = [order[variant] for order in orders]
        prompts, with_shots = _render(spec, unit.split, inputs, templates, variant)
        statistics.add_few_shot(len(with_shots))
        encoded = encoder.encode(prompts, templates, limit, others=with_shots)
        for i in np.flatnonzero(encoded.lengths > limit).tolist():
            event = _cut_input(spec, examples[i], spec.templates[templates[i]], i, prompts, encoded.ids)
            if all(one.kind != event for one in cut[i]):
                cut[i].append(Event(event, f"{encoded.lengths[i]:,} tokens"))
        kept, unknown = sum(map(len, encoded.ids)), count(encoded.ids, spec.tokenizer.unknown)
        statistics.add_sources(encoded.lengths, templates, encoded.truncated, kept, unknown)
        rows.templates.extend(templates)
        rows.prompts.extend(prompts)
        rows.ids.extend(encoded.ids)


def _cut_input(  # noqa: PLR0917 - both lists are changed at i
    spec: PrepSpec, example: Example, template: Template, i: int, prompts: list[str], ids: list[Ids]
) -> str:
    """Cuts prompt `i`, which is too long, in its input; returns the kind of event that this is."""
    if ends_with_input(template, example.tail):
        return "input-cut"
    limit = spec.limits.max_input_tokens
    fitting = fit_prompt(spec.tokenizer, template, example.input, limit, example.tail)
    if fitting is None:
        return "prompt-cut"
    prompts[i], ids[i] = fitting, spec.tokenizer.encode_batch([fitting], limit)[0]
    return "input-cut"


def _render(
    spec: PrepSpec, split: Split, inputs: Sequence[str], templates: Sequence[int], variant: int
) -> tuple[list[str], Mapping[int, str]]:
    """Returns the prompts of one variant, and its few-shot prompts by position."""
    used = [spec.templates[t] for t in templates]
    prompts = [template.render(text) for template, text in zip(used, inputs, strict=True)]
    if spec.shots is None or split != "train":
        return prompts, {}
    with_shots = spec.shots.prompts(inputs, used, variant, spec.tokenizer, spec.limits.max_input_tokens)
    return [with_shots.get(i, prompt) for i, prompt in enumerate(prompts)], with_shots


def _text_columns(unit: WorkUnit) -> dict[str, Any]:
    """The columns of a text part that are the same for every variant."""
    examples = unit.examples
    return {
        "id": [
            _identifier(example, unit.start + i) if example.id is None else example.id
            for i, example in enumerate(examples)
        ],
        "task": [unit.spec.task] * len(examples),
        "split": [unit.split] * len(examples),
        "targets": [example.targets for example in examples],
        "meta": [json.dumps(example.meta, ensure_ascii=False) for example in examples],
    }


def _identifier(example: Example, index: int) -> str:
    """An id from the content, with the row's number to keep equal rows apart."""
    return f"{content_key('row', example.input, *example.targets):016x}-{index}"


def _write_pair(writer: PartWriter, columns: dict[str, Any], rows: _Rendered, targets: Sequence[Ids]) -> PartPair:
    text = columns | {"template": rows.templates, "input": rows.prompts}
    tokens = _token_batch(rows.ids, targets, rows.templates)
    stored = writer.put("parquet", partial(_write_text, text))
    return PartPair(len(rows.ids), stored, writer.put("arrow", partial(_write_tokens, tokens)))


def _write_text(columns: dict[str, Any], path: Path) -> None:
    table = pa.table(columns, schema=_TEXT)
    pq.write_table(table, path, compression="zstd", row_group_size=_ROW_GROUP, use_dictionary=["task", "split"])


def _token_batch(sources: Sequence[Ids], targets: Sequence[Ids], templates: Sequence[int]) -> pa.RecordBatch:
    """Ids as uint16, or as uint32 where the vocabulary is larger than 65,536."""
    columns = [_lists(sources), _lists(targets), pa.array(templates, pa.int32())]
    return pa.record_batch(columns, names=["source", "target", "template"])


def _lists(rows: Sequence[Ids]) -> pa.ListArray:
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(rows)))


def _write_tokens(batch: pa.RecordBatch, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
