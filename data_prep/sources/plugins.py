"""Plug-ins: functions of installed packages that read other sources or change rows.

A package offers them as entry points. In group `raytrain.readers`, a function takes a URI (an
absolute path for local files) and yields rows as mappings; in group `raytrain.rows`, it takes a row
and returns the row to use, or None to leave it out. A job can name only installed functions; it
cannot contain code.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from data_prep.sources.source_row import SourceRow
from data_prep.sources.spans import WHOLE, Span
from data_prep.sources.undivided import Undivided
from raytrain_core.errors import DataError, UsageError

Group = Literal["raytrain.readers", "raytrain.rows"]
READERS: Group = "raytrain.readers"
ROWS: Group = "raytrain.rows"


@dataclass(frozen=True, slots=True)
class Plugin:
    """A function of an installed package."""

    name: str
    function: Callable[[Any], Any]
    version: str
    """Distribution, version, and a hash of the module's file, which changes during development."""


@dataclass(frozen=True, slots=True)
class PluginRows(Undivided):
    """The rows that a reader gives for one URI."""

    plugin: Plugin
    uri: str
    name: str
    split: Any = None
    contents: str | None = None
    """Changes with the contents of the URI; None if that cannot be seen without reading."""

    @property
    def fingerprint(self) -> str | None:
        """Changes with the contents or the reader."""
        return f"{self.plugin.name}:{self.plugin.version}:{self.contents}" if self.contents else None

    def sha256(self, scratch: Path) -> str:
        """Returns the hash of the rows, which are read."""
        digest = hashlib.sha256(self.plugin.version.encode())
        with self._spooled(scratch).open("rb") as file:
            for line in file:
                digest.update(line)
        return digest.hexdigest()

    def rows(self, scratch: Path, span: Span = WHOLE) -> Iterator[SourceRow]:
        """Yields every row; anything but a mapping is a bad row."""
        with self._spooled(scratch).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                value = json.loads(line)
                if isinstance(value, dict):
                    yield SourceRow(number, value)
                else:
                    yield SourceRow(
                        number, None, f"reader {self.plugin.name} returned {line[:40].strip()} instead of a row"
                    )

    def count(self, scratch: Path) -> int | None:
        """Returns None: unknown before reading."""
        return None

    def _spooled(self, scratch: Path) -> Path:
        """Stores the rows as JSON lines, so that the reader runs once.

        A second run might differ.
        """
        path = scratch / f"{hashlib.sha256(f'{self.plugin.name} {self.uri}'.encode()).hexdigest()}.jsonl"
        if not path.exists():
            unfinished = path.with_suffix(".part")
            with unfinished.open("w", encoding="utf-8") as file:
                for row in self._read():
                    file.write(json.dumps(row, ensure_ascii=True, default=str) + "\n")
            unfinished.rename(path)
        return path

    def _read(self) -> Iterator[Any]:
        try:
            rows = _as_rows(self.plugin.function(self.uri))
            yield from (dict(row) if isinstance(row, Mapping) else row for row in rows)
        except Exception as error:  # third-party code may raise anything
            raise DataError(f"{self.name}: reader {self.plugin.name} failed ({short(error)})") from None


def _as_rows(value: Any) -> Iterable[Any]:
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        raise TypeError(f"it returned a {type(value).__name__} instead of rows")
    return value


def load_plugin(group: Group, name: str, where: str) -> Plugin:
    """Returns the function of that name.

    Raises UsageError if it is not installed or cannot be imported.
    """
    found = _entry_points(group)
    if name not in found:
        known = f"Installed are {', '.join(sorted(found))}." if found else "None is installed."
        raise UsageError(f"{where}: no installed package has {name!r} as an entry point of {group}", hint=known)
    point = found[name]
    try:
        function = point.load()
    except Exception as error:  # importing runs third-party code
        raise UsageError(f"{where}: {point.value} cannot be imported ({short(error)})") from None
    if not callable(function):
        raise UsageError(f"{where}: {point.value} is not a function")
    return Plugin(name, function, _version(point, function))


def reader_for_scheme(scheme: str) -> str | None:
    """Returns the reader named like a URI scheme, if one is installed."""
    return scheme if scheme in _entry_points(READERS) else None


@lru_cache
def _entry_points(group: Group) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


def _version(point: EntryPoint, function: Callable[[Any], Any]) -> str:
    distribution = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
    try:
        source = hashlib.sha256(Path(inspect.getfile(inspect.unwrap(function))).read_bytes()).hexdigest()
    except (OSError, TypeError):  # built in, or an object with __call__
        source = ""
    return f"{distribution} {point.value} {source}".rstrip()


def short(error: Exception) -> str:
    """Returns type and first line of a third-party error."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def versions(transform: str | None, where: str) -> dict[str, str]:
    """Returns the version of the task's row function for its digest; empty if there is none."""
    return {} if transform is None else {"transform": load_plugin(ROWS, transform, where).version}
