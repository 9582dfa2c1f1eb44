"""Finds rows of prepared data that deserve attention.

Leaked, repeated, contradictory, empty or lossy ones.

Reads all shards of a set and writes nothing. Rows are compared by their raw input, not by the
rendered prompt.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.config import Split
from data_prep.shards.held_rows import HELD_ROWS, HELD_TEXT, HeldRows
from data_prep.shards.leakage import Keys
from data_prep.shards.manifest import ShardSet
from data_prep.shards.parts import PartCache, load_keys
from data_prep.shards.reader import open_split
from data_prep.shards.text_reader import TextBatch, TextRow, iter_text, rows_at
from data_prep.shards.tokenizer_files import load_tokenizer
from data_prep.text.ngram_overlap import OVERLAP, HeldOut
from data_prep.text.tokenizer import Tokenizer
from raytrain_core.errors import UsageError
from raytrain_core.hashing import content_key, sample, splitmix64
from raytrain_core.storage import Store

Kind = Literal["leak", "overlap", "duplicate", "other-target", "empty-target", "constant-target", "lost-text"]
MEANING: dict[Kind, str] = {
    "leak": "held-out rows whose exact input is in the training data (or in the other held-out split)",
    "overlap": "held-out rows that share most of their 8-grams with one training row",
    "duplicate": "rows with the input and target of an earlier row of the split",
    "other-target": "rows with the input of an earlier row of the split but another target",
    "empty-target": "targets that are a placeholder: a dash, dots, n/a, null",
    "constant-target": "splits in which (nearly) all targets are the same",
    "lost-text": "rows that the tokenizer does not reproduce exactly",
}

CONSTANT = 0.95
"""A split's targets are constant if at least this share of them is the same."""

_PLACEHOLDER = re.compile(r"[\s.,;:…?!*/_'\"–—-]*|n/?a|nan|null|tbd", re.IGNORECASE)

Name = tuple[str, Split]
Numbers = NDArray[np.int64]
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class DataRow:
    """A row with its number in the split, raw input and first target."""

    task: str
    split: str
    index: int
    id: str
    input: str
    target: str


@dataclass(frozen=True, slots=True)
class FindingExample:
    """A row, the row it was compared with (if any), and a note on both."""

    row: DataRow
    other: DataRow | None
    note: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of finding in one split: `rows` of its `of` rows.

    `within` is the split of the other rows.
    """

    kind: Kind
    task: str
    split: str
    within: str | None
    rows: int
    of: int
    note: str
    examples: list[FindingExample]


@dataclass(frozen=True, slots=True)
class _Found:
    """A finding by row numbers.

    `rows[i]` was compared with `others[i]` of `within`, sharing `shares[i]`.
    """

    kind: Kind
    name: Name
    rows: Numbers
    within: Name | None = None
    others: Numbers | None = None
    shares: NDArray[np.float64] | None = None
    of: int | None = None
    same_target: int | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """Hashes of input and target of every row of a split, and its empty and lossy rows."""

    keys: Keys
    answers: Keys
    empty: Numbers
    lost: Numbers


def find(
    shard_set: ShardSet,
    store: Store,
    cache: PartCache,
    *,
    examples: int = 3,
    on_progress: OnProgress = lambda task, done, total: None,
) -> list[Finding]:
    """Reads every row and returns all findings, each with at most `examples` rows.

    They are in the order of `MEANING`.

    `on_progress` is called with the task, the rows read and the rows in all. Raises CorruptError if
    a part is missing or damaged.
    """
    data = _SplitData(shard_set, store, cache, load_tokenizer(shard_set, store), on_progress)
    held = data.held_out()
    seen: dict[Name, _Seen] = {}
    found: list[_Found] = []
    for name in data.names:
        seen[name], overlapping = data.read(name, held)
        found += overlapping
    found = [f for each in found if len((f := _without_equals(each, seen)).rows)]
    found += _leaks(shard_set, seen)
    for name, split in seen.items():
        found += [f for f in _inside(name, split) if len(f.rows)]
    kinds = list(MEANING)
    found.sort(key=lambda f: (kinds.index(f.kind), -len(f.rows)))
    return data.described(found, examples)


def require_kind(kind: str | None) -> None:
    """Raises UsageError for an unknown kind of finding."""
    if kind is not None and kind not in MEANING:
        raise UsageError(f"unknown kind of finding: {kind}", hint=f"the kinds are {', '.join(MEANING)}")


@dataclass(frozen=True, slots=True)
class _Held:
    """The held-out rows compared by 8-grams, with split and row of each."""

    index: HeldOut
    names: list[Name]
    split: Numbers
    row: Numbers


@dataclass(frozen=True, slots=True)
class _SplitData:
    """Reads the splits of a set."""

    shard_set: ShardSet
    store: Store
    cache: PartCache
    tokenizer: Tokenizer
    on_progress: OnProgress

    @property
    def names(self) -> list[Name]:
        """All splits of all tasks."""
        return [(task.name, split) for task in self.shard_set.tasks for split in task.splits]

    def held_out(self) -> _Held:
        """Indexes a sample of every held-out split, all together of bounded size."""
        names = [name for name in self.names if name[1] != "train"]
        each = 2 * HELD_TEXT // max(1, len(names))
        rows = [
            HeldRows.read(*name, self.shard_set.split(*name), self.store, most=HELD_ROWS, text=each) for name in names
        ]
        split = np.repeat(np.arange(len(names)), [len(one.texts) for one in rows])
        numbers = np.concatenate([np.empty(0, np.int64), *(one.chosen for one in rows)])
        return _Held(HeldOut(batch for one in rows for batch in one.batches()), names, split, numbers)

    def read(self, name: Name, held: _Held) -> tuple[_Seen, list[_Found]]:
        """Reads a split: hashes and lossy rows.

        For a training split, also the held-out rows it overlaps.
        """
        task, split = name
        tokens = open_split(self.shard_set, task, split, self.store, self.cache)
        limit = self.shard_set.limits["max_target_tokens"]
        answers, empty, lost = [np.empty(0, np.uint64)], list[int](), list[int]()
        best: dict[int, tuple[float, int]] = {}
        total = sum(self._rows(one) for one in self.names)
        before = sum(self._rows(one) for one in self.names[: self.names.index(name)])
        for texts in self._texts(name):
            rows = range(texts.start, texts.start + len(texts.inputs))
            answers.append(np.array([content_key("answer", text) for text in texts.targets], np.uint64))
            empty += [row for row, text in zip(rows, texts.targets, strict=True) if _PLACEHOLDER.fullmatch(text)]
            ids = [tokens.tokens(row, 0) for row in rows]
            back = self.tokenizer.decode_batch(target.tolist() for _, target in ids)
            lost += [
                row
                for row, (source, target), text, read in zip(rows, ids, texts.targets, back, strict=True)
                if (source == self.tokenizer.unknown).any() or (len(target) < limit and text != read)
            ]
            if split == "train":
                row_of, number, shares = held.index.shared(texts.inputs)
                for at in np.flatnonzero(shares >= OVERLAP).tolist():
                    case = float(shares[at]), texts.start + int(row_of[at])
                    best[int(number[at])] = max(best.get(int(number[at]), (0.0, 0)), case)
            self.on_progress(task, before + rows.stop, total)
        keys = load_keys(self.shard_set.split(task, split), self.store)
        numbers = [np.array(found, np.int64) for found in (empty, lost)]
        return _Seen(keys, np.concatenate(answers), *numbers), list(_overlaps(name, best, held))

    def described(self, found: Sequence[_Found], examples: int) -> list[Finding]:
        """Adds texts: `examples` rows of each finding."""
        many = max(examples, 1)  # at least one, to name a constant target
        chosen = [sample(len(f.rows), many, content_key("finding", f.kind, *f.name)) for f in found]
        needed: dict[Name, set[int]] = defaultdict(set)
        for f, places in zip(found, chosen, strict=True):
            needed[f.name].update(f.rows[places].tolist())
            if f.within is not None and f.others is not None:
                needed[f.within].update(f.others[places].tolist())
        rows = {
            name: rows_at(self.shard_set.split(*name), indices, self.store, self.cache)
            for name, indices in needed.items()
        }
        findings = [self._finding(f, places.tolist(), rows) for f, places in zip(found, chosen, strict=True)]
        return [replace(finding, examples=finding.examples[:examples]) for finding in findings]

    def _finding(self, f: _Found, places: Sequence[int], rows: Mapping[Name, Mapping[int, TextRow]]) -> Finding:
        cases = []
        for at in places:
            row = rows[f.name][int(f.rows[at])]
            other = None if f.within is None or f.others is None else rows[f.within][int(f.others[at])]
            note = self._note(f, at, row, other)
            cases.append(FindingExample(_row(f.name, row), _row(f.within, other) if f.within and other else None, note))
        of = self._rows(f.name) if f.of is None else f.of
        within = None if f.within is None or f.within == f.name else f"{f.within[0]} {f.within[1]}"
        note = "" if f.same_target is None else f"{f.same_target:,} with the same target"
        if f.kind == "constant-target":
            note = f"{len(f.rows) / of:.0%} of the targets are {cases[0].row.target!r}"
        return Finding(f.kind, *f.name, within, len(f.rows), of, note, cases)

    def _note(self, f: _Found, at: int, row: TextRow, other: TextRow | None) -> str:
        if f.kind == "lost-text":
            parts = {"prompt": row.input, "target": row.targets[0]}
            changes = ((what, _change(text, self._roundtrip(text))) for what, text in parts.items())
            return "; ".join(f"{what}: {change}" for what, change in changes if change)
        if f.kind == "leak" and other is not None:
            return "the same target" if row.targets[0] == other.targets[0] else "another target"
        return f"{f.shares[at]:.0%} of its 8-grams" if f.shares is not None else ""

    def _roundtrip(self, text: str) -> str:
        return self.tokenizer.decode(self.tokenizer.encode_open([text])[0].tolist())

    def _texts(self, name: Name) -> Iterator[TextBatch]:
        return iter_text(self.shard_set.split(*name), self.store, self.cache)

    def _rows(self, name: Name) -> int:
        return self.shard_set.split(*name).examples


def _overlaps(trained: Name, best: Mapping[int, tuple[float, int]], held: _Held) -> Iterator[_Found]:
    """Held-out rows, each with the training row that shares most with it, split by split."""
    numbers = np.array(sorted(best), np.int64)
    shares = np.array([best[number][0] for number in numbers.tolist()])
    others = np.array([best[number][1] for number in numbers.tolist()], np.int64)
    for place in np.unique(held.split[numbers]).tolist():
        mine = held.split[numbers] == place
        of = int((held.split == place).sum())
        rows = held.row[numbers[mine]]
        yield _Found("overlap", held.names[place], rows, trained, others[mine], shares[mine], of)


def _without_equals(found: _Found, seen: Mapping[Name, _Seen]) -> _Found:
    """Removes rows with equal inputs from an overlap: those are leaks."""
    assert found.within is not None
    assert found.others is not None
    assert found.shares is not None
    other = seen[found.name].keys[found.rows] != seen[found.within].keys[found.others]
    rows, others, shares = found.rows[other], found.others[other], found.shares[other]
    return _Found(found.kind, found.name, rows, found.within, others, shares, found.of)


def _leaks(shard_set: ShardSet, seen: Mapping[Name, _Seen]) -> Iterator[_Found]:
    """Finds the rows whose equal inputs preparation has counted (`data_prep.shards.leakage`)."""
    pairs: list[tuple[Name, Name]] = []
    for task in shard_set.tasks:
        for held in task.splits:
            pairs += [
                ((task.name, held), (task.name, split))
                for split in task.splits
                if task.leakage.get(f"{held} in {split}")
            ]
    pairs += [((leak["task"], leak["split"]), (leak["trained_in"], "train")) for leak in shard_set.leakage]
    for name, within in pairs:
        known, order = np.unique(seen[within].keys, return_index=True)
        at = np.minimum(np.searchsorted(known, seen[name].keys), len(known) - 1)
        rows = np.flatnonzero(known[at] == seen[name].keys)
        others = order[at[rows]]
        same = int((seen[name].answers[rows] == seen[within].answers[others]).sum())
        yield _Found("leak", name, rows, within, others, same_target=same)


def _inside(name: Name, split: _Seen) -> Iterator[_Found]:
    """Findings within a split."""
    pairs = splitmix64(split.keys) ^ split.answers
    first, first_pair = _first(split.keys), _first(pairs)
    rows = np.arange(len(pairs))
    again = np.flatnonzero(first_pair != rows)
    yield _Found("duplicate", name, again, name, first_pair[again])
    differs = np.flatnonzero((first != rows) & (first_pair == rows))
    yield _Found("other-target", name, differs, name, first[differs])
    yield _Found("empty-target", name, split.empty)
    answers, counts = np.unique(split.answers, return_counts=True)
    if len(pairs) > 1 and counts.max() >= CONSTANT * len(pairs):
        yield _Found("constant-target", name, np.flatnonzero(split.answers == answers[counts.argmax()]))
    yield _Found("lost-text", name, split.lost)


def _first(keys: Keys) -> Numbers:
    """Returns for every row the first row with the same key."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    found: Numbers = first[inverse]
    return found


def _row(name: Name, row: TextRow) -> DataRow:
    return DataRow(name[0], name[1], row.index, row.id, row.meta["input"], row.targets[0])


def _change(text: str, back: str) -> str:
    """Describes how `back` differs from `text`: lost characters, else the first difference."""
    if text == back:
        return ""
    if gone := [char for char in dict.fromkeys(text) if char not in back]:
        shown = " ".join(
            f"{char} (U+{ord(char):04X})" if char.isprintable() else f"U+{ord(char):04X}" for char in gone[:8]
        )
        return f"lost {shown}" + (f" and {len(gone) - 8} more" if len(gone) > 8 else "")
    at = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), min(len(text), len(back)))
    return f"{text[max(0, at - 10) : at + 10]!r} became {back[max(0, at - 10) : at + 10]!r}"
