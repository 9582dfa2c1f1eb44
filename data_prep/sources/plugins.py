"""Functions of installed packages that a job names: readers of odd sources, and changes to rows.

A package offers them as entry points. In group `raytrain.readers` a function takes a URI (for files
here an absolute path) and gives the rows it holds, one mapping each; in group `raytrain.rows` it
takes a row and gives the row to use, or None to leave it out. Only what is installed can be named;
a job cannot bring code of its own.
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

from data_prep.sources.readers import SourceRow
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
    """Distribution, its version, and a hash of the module's file, which changes while a package is being written."""


@dataclass(frozen=True, slots=True)
class PluginRows:
    """What a reader gives for one URI."""

    plugin: Plugin
    uri: str
    name: str
    split: Any = None
    contents: str | None = None
    """Differs whenever what is at the URI does; None if that cannot be told without reading."""

    @property
    def fingerprint(self) -> str | None:
        """Of the URI's contents and of the reader."""
        return f"{self.plugin.name}:{self.plugin.version}:{self.contents}" if self.contents else None

    def sha256(self, scratch: Path) -> str:
        """Of the rows, read."""
        digest = hashlib.sha256(self.plugin.version.encode())
        with self._spooled(scratch).open("rb") as file:
            for line in file:
                digest.update(line)
        return digest.hexdigest()

    def rows(self, scratch: Path) -> Iterator[SourceRow]:
        """Every row; what is no mapping is a bad row."""
        with self._spooled(scratch).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                value = json.loads(line)
                if isinstance(value, dict):
                    yield SourceRow(number, value)
                else:
                    yield SourceRow(
                        number, None, f"reader {self.plugin.name} gave {line[:40].strip()} instead of a row"
                    )

    def count(self, scratch: Path) -> int | None:
        """Not known before reading."""
        return None

    def _spooled(self, scratch: Path) -> Path:
        """The rows as JSON lines, so that a reader is asked once: twice it might say different things."""
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
            found = self.plugin.function(self.uri)
            if not isinstance(found, Iterable) or isinstance(found, str | bytes | Mapping):
                raise TypeError(f"it gave a {type(found).__name__} instead of rows")
            yield from (dict(row) if isinstance(row, Mapping) else row for row in found)
        except Exception as error:  # whatever a function of somebody else's raises
            raise DataError(f"{self.name}: reader {self.plugin.name} failed ({short(error)})") from None


def load_plugin(group: Group, name: str, where: str) -> Plugin:
    """The function of that name; UsageError if there is none, or if its package cannot be imported."""
    found = _entry_points(group)
    if name not in found:
        known = f"Installed are {', '.join(sorted(found))}." if found else "None is installed."
        raise UsageError(f"{where}: no installed package has {name!r} as an entry point of {group}", hint=known)
    point = found[name]
    try:
        function = point.load()
    except Exception as error:  # importing runs code of somebody else's
        raise UsageError(f"{where}: {point.value} cannot be imported ({short(error)})") from None
    if not callable(function):
        raise UsageError(f"{where}: {point.value} is no function")
    return Plugin(name, function, _version(point, function))


def reader_for_scheme(scheme: str) -> str | None:
    """The reader that is named like a scheme of URIs, if one is installed."""
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
    """Kind and first line of an error of somebody else's."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def versions(transform: str | None, where: str) -> dict[str, str]:
    """What the functions that change a task's rows are, for its digest; nothing where there is none."""
    return {} if transform is None else {"transform": load_plugin(ROWS, transform, where).version}
