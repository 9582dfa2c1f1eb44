"""The logs of a run, read from storage: driver and ranks of every attempt, merged by time.

They are there while the run goes on (at most half a minute behind) and after its machines are gone.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from raytrain.config.run_layout import RunLayout
from raytrain.telemetry.progress import FINAL, read_progress
from raytrain_core.storage import Stat, Store

_DATED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")
_EVERY = 5.0


@dataclass(frozen=True, slots=True)
class Line:
    """An entry of a log; one with a traceback spans several lines."""

    attempt: str
    source: str
    text: str

    @property
    def time(self) -> str:
        """When it was written, as text that sorts; empty if it bears no time."""
        return self.text[:23] if _DATED.match(self.text) else ""


def read(store: Store, layout: RunLayout, *, source: str | None = None, attempt: int | None = None) -> tuple[Line, ...]:
    """Everything logged so far, by attempt and time; `source` is `driver` or `rank-000`."""
    return _Reader(store, layout, source, attempt).new()


def follow(
    store: Store,
    layout: RunLayout,
    *,
    source: str | None = None,
    attempt: int | None = None,
    over: Callable[[], bool] | None = None,
    every: float = _EVERY,
) -> Iterator[Line]:
    """What was logged, then what comes, until the run has ended (`over`; by default as its progress says)."""
    reader = _Reader(store, layout, source, attempt)
    ended = over or (lambda: _has_ended(store, layout))
    while True:
        last = ended()
        yield from reader.new()
        if last:
            return
        time.sleep(every)


class _Reader:
    """Remembers of each log how much was read."""

    def __init__(self, store: Store, layout: RunLayout, source: str | None, attempt: int | None) -> None:
        self._store, self._layout, self._source, self._attempt = store, layout, source, attempt
        self._read: dict[str, tuple[str, int]] = {}
        """Key -> (etag, characters read)."""

    def new(self) -> tuple[Line, ...]:
        """Entries that were not there the last time."""
        found: list[Line] = []
        for stat in self._wanted():
            etag, start = self._read.get(stat.key, ("", 0))
            if stat.etag == etag:
                continue
            text = self._store.get(stat.key).decode(errors="replace")
            whole = text.rfind("\n") + 1
            path = PurePosixPath(stat.key)
            found += (Line(path.parent.name, path.stem, entry) for entry in entries(text[start:whole]))
            self._read[stat.key] = (stat.etag, max(whole, start))
        return merged(found)

    def _wanted(self) -> Iterator[Stat]:
        for stat in self._store.list(f"{self._layout.root}/logs/"):
            path = PurePosixPath(stat.key)
            if self._source not in (None, path.stem):
                continue
            if self._attempt is None or path.parent.name == f"a{self._attempt:02d}":
                yield stat


def entries(text: str) -> list[str]:
    """A log cut where entries begin: what follows without a time (a traceback) belongs to the entry before it."""
    found: list[str] = []
    for line in text.split("\n"):  # only a line feed ends a line: messages may hold U+2028 and its kin
        if found and not _DATED.match(line):
            found[-1] += f"\n{line}"
        elif line:
            found.append(line)
    return [entry.rstrip("\n") for entry in found]


def merged(lines: Iterable[Line]) -> tuple[Line, ...]:
    """By attempt, then time; entries of one log keep their order."""
    return tuple(sorted(lines, key=lambda line: (line.attempt, line.time)))


def _has_ended(store: Store, layout: RunLayout) -> bool:
    progress = read_progress(store, layout)
    return progress is not None and progress.phase in FINAL
