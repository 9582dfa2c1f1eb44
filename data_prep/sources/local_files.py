"""Finds the files of a path on this machine: a file, a folder, or a pattern.

Only what the job says is a pattern, and a name that exists is never taken for one. Symbolic links
are followed. Whatever is not read is listed with the reason.
"""

import fnmatch
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_prep.sources.file_names import format_of, is_hidden, split_of_name
from data_prep.sources.uris import WILD
from raytrain_core.errors import DataError


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A file or folder of a source that is not read, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Finding:
    """The files of a source in order, and what else was there."""

    paths: list[Path]
    top: Path
    """The folder below which the names of files and folders tell their splits."""
    passed_over: list[tuple[Path, str]] = field(default_factory=list)


def find_in_folder(folder: Path, *, any_name: bool) -> Finding:
    """Returns the data files of a folder and of all below it, sorted.

    `any_name` takes files of unknown formats too. Raises DataError for a folder or a link that
    cannot be read, and for links in a circle.
    """
    found = Finding([], folder)
    _select(found, _walk(folder, (), found), any_name=any_name)
    return found


def find_by_pattern(pattern: str, base_folder: Path, *, any_name: bool) -> Finding | None:
    """Returns the data files that a pattern relative to `base_folder` matches, sorted.

    `*` and `?` match within a name and `**` any number of folders; names that begin with a dot have
    to be written out. None if nothing matches; raises as `find_in_folder` does.
    """
    parts = list(Path(pattern).parts)
    top = base_folder
    while parts and (not WILD.search(parts[0]) or os.path.lexists(top / parts[0])):
        top /= parts.pop(0)
    if not parts:  # a folder or file whose name looks like a pattern
        return find_in_folder(top, any_name=any_name) if top.is_dir() else Finding([top], top.parent)
    found = Finding([], top)
    matches = list(_matches(top, parts, (), found))
    if not matches:
        return None
    _select(found, matches, any_name=any_name)
    return found


def _select(found: Finding, paths: Iterator[Path] | list[Path], *, any_name: bool) -> None:
    """Adds the data files among `paths` to `found`, each file once."""
    named = sorted(set(paths))
    real = {path: Path(os.path.realpath(path)) for path in named}
    top = Path(os.path.realpath(found.top))
    seen: dict[tuple[Path, str | None], Path] = {}
    # The file itself before links to it, so that links are what is passed over.
    for path in sorted(named, key=lambda path: (real[path] != top / path.relative_to(found.top), path)):
        if not path.exists():
            raise DataError(f"{path}: is a symbolic link to {path.readlink()}, which does not exist")
        if not any_name and format_of(path.name) is None:
            found.passed_over.append((path, "not a known format"))
            continue
        if not path.is_file():
            found.passed_over.append((path, "not a plain file"))
            continue
        first = seen.setdefault((real[path], split_of_name(str(path.relative_to(found.top)))), path)
        if first is path:
            found.paths.append(path)
        else:
            found.passed_over.append((path, f"the same file as {first.relative_to(found.top)}"))
    found.paths.sort()
    found.passed_over.sort()


def _walk(folder: Path, above: tuple[tuple[int, int], ...], found: Finding) -> Iterator[Path]:
    """Yields every file below a folder; hidden ones are passed over."""
    above = _entered(folder, above)
    for name in _names(folder):
        path = folder / name
        if is_hidden(name):
            found.passed_over.append((path, f"its name begins with {name[0]}"))
        elif path.is_dir():
            yield from _walk(path, above, found)
        else:
            yield path


def _matches(folder: Path, parts: list[str], above: tuple[tuple[int, int], ...], found: Finding) -> Iterator[Path]:
    """Yields the files below a folder that match the parts of a pattern."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        above = _entered(folder, above)
        yield from _matches(folder, rest or ["*"], above, found)
        for name in _names(folder):
            if not name.startswith(".") and (folder / name).is_dir():
                yield from _matches(folder / name, parts, above, found)
        return
    names = [part] if os.path.lexists(folder / part) else []
    if not names and WILD.search(part):
        names = [
            name
            for name in _names(folder)
            if fnmatch.fnmatchcase(name, part) and (part.startswith(".") or not name.startswith("."))
        ]
    for name in names:
        path = folder / name
        if rest and path.is_dir():
            yield from _matches(path, rest, above, found)
        elif not rest and not path.is_dir():
            yield path


def _entered(folder: Path, above: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """The identities of the folders above what `folder` holds; raises DataError for a circle."""
    try:
        stat = folder.stat()
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror or error})") from None
    if (stat.st_dev, stat.st_ino) in above:
        raise DataError(f"{folder}: is a symbolic link to a folder above it", hint="Remove the link.")
    return (*above, (stat.st_dev, stat.st_ino))


def _names(folder: Path) -> list[str]:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror or error})") from None
    for name in names:
        if (shown := name.encode("utf-8", "backslashreplace").decode()) != name:  # no record could hold it
            raise DataError(f"{folder / shown}: this name is not UTF-8", hint="Rename it.")
    return names
