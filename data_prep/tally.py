"""The record of what happened to the data between the user's files and the model's input.

Rows left out, rows changed, files passed over, texts cut: counted by kind, with the first three
places. Readers, row makers and shard writers each fill a `Tally` of their part; merged in any order
they give the same one, so the record does not depend on how the work was divided.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

Effect = Literal["lost", "changed", "left out", "cut", "noted"]
"""What an event does to a row: `lost` rows could not be used, or a row function dropped them; `left
out` rows are those that a stated condition (`where`, `limit`, `nearTwins`) leaves out; `noted`
things change no row."""

KINDS: dict[str, tuple[Effect, str]] = {
    "bad-row": ("lost", "bad rows skipped"),
    "where": ("left out", "rows left out by where"),
    "transform": ("lost", "rows dropped by transform"),
    "limit": ("left out", "rows left out by limit"),
    "near-twin": ("left out", "held-out rows left out by nearTwins: training rows repeat them, or nearly"),
    "near-twins-unknown": ("noted", "held-out rows compared with training rows as a whole only, not by 8-grams"),
    "number-missing": ("changed", "NaN in columns used, taken as missing"),
    "number-whole": ("changed", "numbers of a whole column written without .0"),
    "number-as-written": ("noted", "numbers with .0 in a column that is not whole, kept as they are"),
    "list-parsed": ("changed", "lists parsed from text"),
    "list-kept": ("noted", "texts in brackets that could be lists, kept as text"),
    "missing-kept": ("noted", "targets such as nan or NULL that may stand for a missing value, kept as text"),
    "tags-rewritten": ("changed", "rows whose tags were rewritten as BIO"),
    "label-matched": ("changed", "labels matched by their number"),
    "masked": ("changed", "values masked"),
    "input-cut": ("cut", "rows whose input was cut to maxInputTokens"),
    "prompt-cut": ("cut", "rows whose prompt was cut at its end: without the input it is too long"),
    "target-cut": ("cut", "rows whose target was cut to maxTargetTokens"),
    "file-passed-over": ("noted", "files passed over"),
    "detected": ("noted", "what was detected"),
}
"""Effect and meaning of every kind. `masked:email` is of kind `masked`."""

FIRST = 3
"""Places kept of each kind."""

COUNTED: tuple[Effect, ...] = ("lost", "changed", "cut")
TELL_SHARE = 0.01
"""A preparation says so if it lost, changed or cut more than this share of its rows."""


class Event(NamedTuple):
    """Something that happened to one row."""

    kind: str
    note: str = ""
    times: int = 1
    """More than one if it happened to several values of the row."""


class Place(NamedTuple):
    """Where something happened; `line` counts from 1 (rows in Parquet), 0 is the whole file."""

    file: str
    line: int
    note: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.note}" if self.note else where


@dataclass(slots=True)
class Entry:
    """How often something happened, and the first places in the order of file names and lines."""

    count: int = 0
    first: list[Place] = field(default_factory=list)

    def add(self, count: int, places: Iterable[Place]) -> None:
        """Counts more of it."""
        self.count += count
        self.first = sorted({*self.first, *places})[:FIRST]


class Tally:
    """Counts events by kind, and rows by what became of them."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {"read": 0, "lost": 0, "changed": 0, "left out": 0, "cut": 0}
        """Rows read, and how many of them something happened to, each counted once an effect."""
        self._entries: dict[str, Entry] = {}

    def add(self, kind: str, file: str, line: int = 0, note: str = "", count: int = 1) -> None:
        """Counts an event that concerns no row, e.g. a file passed over."""
        if kind.partition(":")[0] not in KINDS:
            raise ValueError(f"{kind} is not a kind of event")
        entry = self._entries.setdefault(kind, Entry())
        if len(entry.first) == FIRST and (file, line, note) >= entry.first[-1]:
            entry.count += count  # the usual case
        else:
            entry.add(count, [Place(file, line, note)])

    def add_row(self, file: str, line: int, events: Sequence[Event] = (), *, read: bool = True) -> None:
        """Counts a row and what happened to it; not `read` if it was counted as read before."""
        self.rows["read"] += read
        if not events:  # nearly every row
            return
        effects = set()
        for event in events:
            self.add(event.kind, file, line, event.note, event.times)
            effects.add(effect_of(event.kind))
        for effect in effects & self.rows.keys():
            self.rows[effect] += 1

    def merge(self, other: Self) -> None:
        """Adds what `other` counted."""
        for name, rows in other.rows.items():
            self.rows[name] += rows
        for kind, entry in other._entries.items():
            self._entries.setdefault(kind, Entry()).add(entry.count, entry.first)

    def count(self, kind: str) -> int:
        """Returns how often events of a kind happened; of `masked`, of all that begin with it."""
        return sum(entry.count for name, entry in self._entries.items() if kind in (name, name.partition(":")[0]))

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        """Yields kind and entry in the order of `KINDS`."""
        order = {kind: number for number, kind in enumerate(KINDS)}
        return iter(sorted(self._entries.items(), key=lambda item: (order[item[0].partition(":")[0]], item[0])))

    def lines(self) -> list[str]:
        """Returns a line for each kind: how often, and the first places."""
        return [f"{meaning_of(kind)}: {entry.count:,} ({'; '.join(map(str, entry.first))})" for kind, entry in self]

    def warning(self) -> str:
        """Returns a sentence if more than 1 % of the rows were lost, changed or cut; else `""`."""
        read = self.rows["read"]
        effects = [effect for effect in COUNTED if self.rows[effect] > TELL_SHARE * read]
        if not effects:
            return ""
        parts = [f"{self.rows[effect]:,} ({self.rows[effect] / max(read, 1):.1%}) were {effect}" for effect in effects]
        kinds = [f"{meaning_of(kind)} {entry.count:,}" for kind, entry in self if effect_of(kind) in effects]
        return f"of {read:,} rows {' and '.join(parts)}: {', '.join(kinds)}"

    def to_json(self) -> dict[str, Any]:
        """Returns everything counted, as plain data.

        `counts` says whether a kind counts towards `TELL_SHARE`: what a job's conditions leave out
        does not.
        """
        kinds = {
            kind: {
                "count": entry.count,
                "meaning": meaning_of(kind),
                "effect": effect_of(kind),
                "counts": effect_of(kind) in COUNTED,
                "first": [{"file": p.file, "line": p.line, "note": p.note} for p in entry.first],
            }
            for kind, entry in self
        }
        return {"rows": dict(self.rows), "kinds": kinds}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Reads what `to_json` returned; raises KeyError or TypeError for anything else."""
        tally = cls()
        tally.rows |= document["rows"]
        for kind, entry in document["kinds"].items():
            tally._entries[kind] = Entry(entry["count"], [Place(**place) for place in entry["first"]])
        return tally


def effect_of(kind: str) -> Effect:
    """Returns what an event of this kind does to a row."""
    return KINDS[kind.partition(":")[0]][0]


def meaning_of(kind: str) -> str:
    """Returns a kind in words: `values masked (email)`."""
    name, _, detail = kind.partition(":")
    return KINDS[name][1] + (f" ({detail})" if detail else "")
