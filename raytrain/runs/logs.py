"""Reads the logs of a run from storage: driver and workers of every attempt, merged by time.

They lag at most half a minute behind a run, and remain when its machines are gone.
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
class LogEntry:
    """An entry of a log; entries with a traceback span several lines."""

    attempt: str
    source: str
    text: str

    @property
    def time(self) -> str:
        """The time of the entry as sortable text; empty if it has none."""
        return self.text[:23] if _DATED.match(self.text) else ""


def read(
    store: Store, layout: RunLayout, *, source: str | None = None, attempt: int | None = None
) -> tuple[LogEntry, ...]:
    """Returns all entries so far by attempt and time; `source` is `driver` or `rank-000`."""
    return _Reader(store, layout, source, attempt).new()


def follow(
    store: Store,
    layout: RunLayout,
    *,
    source: str | None = None,
    attempt: int | None = None,
    has_ended: Callable[[], bool] | None = None,
    every: float = _EVERY,
) -> Iterator[LogEntry]:
    """Yields the entries so far, then new ones, until `has_ended()`.

    By default a run has ended according to its progress.json.
    """
    reader = _Reader(store, layout, source, attempt)
    ended = has_ended or (lambda: _has_ended(store, layout))
    while True:
        last = ended()
        yield from reader.new()
        if last:
            return
        time.sleep(every)


class _Reader:
    """Remembers how much of each log was read."""

    def __init__(self, store: Store, layout: RunLayout, source: str | None, attempt: int | None) -> None:
        self._store, self._layout, self._source, self._attempt = store, layout, source, attempt
        self._read: dict[str, tuple[str, int]] = {}
        """Key -> (etag, characters read)."""

    def new(self) -> tuple[LogEntry, ...]:
        """Returns the entries that were added since the last call."""
        found: list[LogEntry] = []
        for stat in self._selected_logs():
            etag, start = self._read.get(stat.key, ("", 0))
            if stat.etag == etag:
                continue
            text = self._store.get(stat.key).decode(errors="replace")
            end = text.rfind("\n") + 1
            path = PurePosixPath(stat.key)
            found += (LogEntry(path.parent.name, path.stem, entry) for entry in split_entries(text[start:end]))
            self._read[stat.key] = (stat.etag, max(end, start))
        return merge(found)

    def _selected_logs(self) -> Iterator[Stat]:
        for stat in self._store.list(f"{self._layout.root}/logs/"):
            path = PurePosixPath(stat.key)
            if self._source not in (None, path.stem):
                continue
            if self._attempt is None or path.parent.name == f"a{self._attempt:02d}":
                yield stat


def split_entries(text: str) -> list[str]:
    """Splits a log into entries; lines without a time belong to the entry before."""
    found: list[str] = []
    for line in text.split("\n"):  # only line feeds end a line: messages may contain U+2028 and the like
        if found and not _DATED.match(line):
            found[-1] += f"\n{line}"
        elif line:
            found.append(line)
    return [entry.rstrip("\n") for entry in found]


def merge(lines: Iterable[LogEntry]) -> tuple[LogEntry, ...]:
    """Sorts by attempt, then time; entries of one log keep their order."""
    return tuple(sorted(lines, key=lambda line: (line.attempt, line.time)))


def _has_ended(store: Store, layout: RunLayout) -> bool:
    progress = read_progress(store, layout)
    return progress is not None and progress.phase in FINAL
