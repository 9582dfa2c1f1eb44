"""Where a task's rows come from: files here, in an S3 bucket, or splits of a data set on the Hugging Face hub."""

import glob
import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from data_prep.config import SPLITS, Source, Split, Task
from data_prep.sources.plugins import READERS, Plugin, PluginRows, load_plugin, reader_for_scheme
from data_prep.sources.readers import Format, SourceRow, count_rows, format_of, known_extensions, read_rows
from data_prep.sources.uris import SCHEMES, WILD, split_source_uri
from raytrain_core.errors import DataError, UsageError
from raytrain_core.storage import Stat, Store, open_like
from raytrain_core.storage.store import sha256_of_file
from raytrain_core.storage.uri import parse_uri
from raytrain_core.text import did_you_mean

_SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_SETTLED_SECONDS = 2.0  # FAT, the coarsest, keeps even seconds
_ANY: Format = "jsonl"  # in place of a format where a reader of its own is asked


class SourceFile(Protocol):
    """Some rows that belong together: a file, or a split of a data set on the hub."""

    @property
    def name(self) -> str:
        """How messages and manifests call it."""

    @property
    def split(self) -> Split | None:
        """The split that its name or the job gives it, None where neither does."""

    @property
    def fingerprint(self) -> str | None:
        """Differs, as well as can be told without reading, whenever the contents do; None if that cannot be told."""

    def sha256(self, scratch: Path) -> str:
        """Hex sha256 of the contents, read; `scratch` is a folder for what must be downloaded for that."""

    def rows(self, scratch: Path) -> Iterator[SourceRow]:
        """Every row."""

    def count(self, scratch: Path) -> int | None:
        """About how many rows, None where only reading them would tell."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on this machine."""

    path: Path
    name: str
    format: Format
    split: Split | None

    @property
    def fingerprint(self) -> str | None:
        """Place, size, time and inode; None for a file so new that another change might not show in its time."""
        stat = self.path.stat()
        if time.time() - stat.st_mtime < _SETTLED_SECONDS:
            return None
        return f"file:{self.path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"

    def sha256(self, scratch: Path) -> str:
        """Of the file."""
        try:
            return sha256_of_file(self.path)
        except OSError as error:
            raise DataError(f"{self.name}: cannot be read ({error.strerror or error})") from None

    def rows(self, scratch: Path) -> Iterator[SourceRow]:
        """Every row."""
        return read_rows(self.path, self.format, self.name, packed_as=self.path.name)

    def count(self, scratch: Path) -> int | None:
        """As its lines say, or its Parquet."""
        return count_rows(self.path, self.format, self.name, packed_as=self.path.name)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An object of a bucket; it is downloaded when it is first read."""

    store: Store
    stat: Stat
    name: str
    format: Format
    split: Split | None

    @property
    def fingerprint(self) -> str:
        """Place, size and etag."""
        return f"{self.store.uri}:{self.stat.key}:{self.stat.bytes}:{self.stat.etag}"

    def sha256(self, scratch: Path) -> str:
        """Of the downloaded object."""
        return sha256_of_file(self._file(scratch))

    def rows(self, scratch: Path) -> Iterator[SourceRow]:
        """Every row."""
        return read_rows(self._file(scratch), self.format, self.name, packed_as=self.stat.key)

    def count(self, scratch: Path) -> int | None:
        """As its lines say, or its Parquet."""
        return count_rows(self._file(scratch), self.format, self.name, packed_as=self.stat.key)

    def _file(self, scratch: Path) -> Path:
        path = scratch / hashlib.sha256(self.fingerprint.encode()).hexdigest()
        if not path.exists():
            self.store.download(self.stat.key, path)
        return path


def source_files(task: Task, base_folder: Path, store: Store | None = None) -> list[SourceFile]:
    """All that the task's source names, in a fixed order; nothing is read yet. DataError or UsageError say what lacks.

    A source with a single file, or whose names tell one split at most, has `split` None: its rows
    are to be divided.
    """
    where = f"task {task.name}"
    if task.source.splits is not None:
        if not task.source.splits:
            raise UsageError(f"{where}: source.splits names no split")
        files = []
        # in an order of our own: an API server gives mappings back sorted, and a run in a cluster
        # is the same run
        for split in (split for split in SPLITS if split in task.source.splits):
            uri = task.source.splits[split]
            files += [_with_split(file, split) for file in _resolve(uri, task.source, base_folder, where, store)]
        return files
    assert task.source.uri is not None
    files = _resolve(task.source.uri, task.source, base_folder, where, store)
    told = {file.split for file in files}
    if len(files) > 1 and None in told and len(told) > 1:
        odd = [file.name for file in files if file.split is None]
        raise DataError(
            f"{where}: {odd[0]} names no split (train, validation or test), other files of {task.source.uri} do",
            hint="Say which file is what with source.splits, or take it out of the folder.",
        )
    return files


def split_of_name(name: str) -> Split | None:
    """The split that a word of the last telling part of a path names: `data/train-00000-of-00002.parquet` is train."""
    for part in reversed(PurePosixPath(name).parts):
        words = re.split(r"[^a-z]+", part.lower())
        if found := {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}:
            return found.pop() if len(found) == 1 else None
    return None


def _with_split(file: SourceFile, split: Split) -> SourceFile:
    return replace(file, split=split)  # type: ignore[type-var]


def _resolve(uri: str, source: Source, base_folder: Path, where: str, store: Store | None) -> list[SourceFile]:
    kind, rest = split_source_uri(uri, where)
    reader = source.reader or (reader_for_scheme(kind) if kind not in SCHEMES else None)
    if kind in ("path", "file"):
        path = uri if kind == "path" else str(parse_uri(uri).path)  # type: ignore[union-attr]
        if reader is not None:
            return _by_reader(path, load_plugin(READERS, reader, where), base_folder, where)
        return list(_local(path, source.format, base_folder, where))
    if reader is not None:
        return [PluginRows(load_plugin(READERS, reader, where), uri, uri)]
    if kind == "s3":
        return _bucket(rest, source.format, where, store)
    if kind == "hf":
        from data_prep.sources.hub import hub_splits

        return list(hub_splits(f"hf://{rest}", where))
    raise UsageError(
        f"{where}: {kind}:// sources are not known",
        hint="A source is a path, s3://bucket/key or hf://name[:config][@revision]; "
        "others take a package with a reader (an entry point of raytrain.readers).",
    )


def _by_reader(path: str, plugin: Plugin, base_folder: Path, where: str) -> list[SourceFile]:
    """Each file that the path names, read by a function of a package."""
    return [
        PluginRows(plugin, str(file.path.resolve()), file.name, file.split, file.fingerprint)
        for file in _local(path, _ANY, base_folder, where)
    ]


def _local(uri: str, format: Format | None, base_folder: Path, where: str) -> list[LocalFile]:
    path = base_folder / Path(uri).expanduser()
    if path.is_file():
        return [LocalFile(path, uri, _format(uri, format, where), None)]
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path)))
        top = path
    elif WILD.search(uri):
        found = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())  # noqa: PTH207 - absolute patterns too
        top = Path(str(path)[: WILD.search(str(path)).start()]).parent  # type: ignore[union-attr]
        if not found:
            raise DataError(f"{where}: no file matches {uri} (looked from {base_folder})")
    else:
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(
            f"{where}: there is no {uri}{did_you_mean(path.name, near)}",
            hint=f"Looked for {path}; relative paths are relative to the job file.",
        )
    wanted = [p for p in found if format is not None or format_of(p.name)]
    if not wanted:
        raise DataError(f"{where}: no data files in {uri}", hint=f"Read are {known_extensions()}.")
    files: list[LocalFile] = []
    for p in wanted:
        try:
            relative = p.relative_to(top).as_posix()
        except ValueError:
            relative = p.name
        name = str(PurePosixPath(uri) / relative) if path.is_dir() else _shown(p, base_folder)
        files.append(LocalFile(p, name, _format(p.name, format, where), split_of_name(relative)))
    return files


def _bucket(place: str, format: Format | None, where: str, beside: Store | None) -> list[SourceFile]:
    bucket, _, key = place.partition("/")
    uri = f"s3://{place}"
    store = open_like(beside, f"s3://{bucket}")
    wild = WILD.search(key)
    if not wild and key and not key.endswith("/") and (stat := store.stat(key)) is not None:
        return [StoredFile(store, stat, uri, _format(key, format, where), None)]
    if wild:
        top = key[: wild.start()].rpartition("/")[0]
        pattern = re.compile(_glob_pattern(key))
        stats = [stat for stat in store.list(key[: wild.start()]) if pattern.fullmatch(stat.key)]
    else:
        top = key.rstrip("/")
        stats = [s for s in store.list(f"{top}/" if top else "") if not _hidden(PurePosixPath(s.key[len(top) :]))]
    stats = [stat for stat in stats if format is not None or format_of(stat.key)]
    if not stats:
        raise DataError(f"{where}: there is no data at {uri}", hint=f"Read are {known_extensions()}.")
    return [
        StoredFile(
            store,
            stat,
            f"s3://{bucket}/{stat.key}",
            _format(stat.key, format, where),
            split_of_name(stat.key[len(top) :].lstrip("/")),
        )
        for stat in stats
    ]


def _glob_pattern(key: str) -> str:
    """The regular expression of a glob in which * stays inside one part and ** does not."""
    pattern = ""
    for token in re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]*\]|.", key):
        known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        literal = token if token.startswith("[") and len(token) > 1 else re.escape(token)
        pattern += known.get(token, literal.replace("[!", "[^"))
    return pattern


def _hidden(path: Path | PurePosixPath) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _shown(path: Path, base_folder: Path) -> str:
    try:
        return path.relative_to(base_folder).as_posix()
    except ValueError:
        return str(path)


def _format(name: str, given: Format | None, where: str) -> Format:
    found = given or format_of(name)
    if found is None:
        raise DataError(
            f"{where}: the format of {name} is not known",
            hint=f"Known are {known_extensions()}; or say it with source.format.",
        )
    return found
