"""The files of a task's source.

Local, in an S3 bucket, or splits of a data set on the Hugging Face hub.
"""

import glob
import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from data_prep.config import SPLITS, Source, Split, Task
from data_prep.sources.file_names import Format, format_of, known_extensions, require_format, split_of_name
from data_prep.sources.plugins import READERS, Plugin, PluginRows, load_plugin, reader_for_scheme
from data_prep.sources.readers import SourceRow, count_rows, read_rows
from data_prep.sources.uris import SCHEMES, WILD, split_source_uri
from raytrain_core.errors import DataError, UsageError
from raytrain_core.storage import Stat, Store, open_like
from raytrain_core.storage.store import sha256_of_file
from raytrain_core.storage.uri import parse_uri
from raytrain_core.text import did_you_mean

_SETTLED_SECONDS = 2.0  # FAT, the coarsest file system, stores even seconds
_ANY: Format = "jsonl"  # a placeholder where a plug-in reads the file


class SourceFile(Protocol):
    """A file with rows, or a split of a data set on the hub."""

    @property
    def name(self) -> str:
        """Its name in messages and manifests."""

    @property
    def split(self) -> Split | None:
        """The split that its name or the job gives it; None if neither does."""

    @property
    def fingerprint(self) -> str | None:
        """Changes with the contents, as far as that can be seen without reading.

        None if it cannot.
        """

    def sha256(self, scratch: Path) -> str:
        """Returns the hex sha256 of the contents, which are read.

        `scratch` is a folder for downloads.
        """

    def rows(self, scratch: Path) -> Iterator[SourceRow]:
        """Yields every row."""

    def count(self, scratch: Path) -> int | None:
        """Returns about how many rows there are; None if only reading them would tell."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on this machine."""

    path: Path
    name: str
    format: Format
    split: Split | None

    @property
    def fingerprint(self) -> str | None:
        """Path, size, time and inode.

        None for a file so new that a further change might not show in its time.
        """
        stat = self.path.stat()
        if time.time() - stat.st_mtime < _SETTLED_SECONDS:
            return None
        return f"file:{self.path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"

    def sha256(self, scratch: Path) -> str:
        """Returns the hex sha256 of the file."""
        try:
            return sha256_of_file(self.path)
        except OSError as error:
            raise DataError(f"{self.name}: cannot be read ({error.strerror or error})") from None

    def rows(self, scratch: Path) -> Iterator[SourceRow]:
        """Yields every row."""
        return read_rows(self.path, self.format, self.name, packed_as=self.path.name)

    def count(self, scratch: Path) -> int | None:
        """Returns the number of lines, or of Parquet rows."""
        return count_rows(self.path, self.format, self.name, packed_as=self.path.name)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An object in a bucket, downloaded when it is first read."""

    store: Store
    stat: Stat
    name: str
    format: Format
    split: Split | None

    @property
    def fingerprint(self) -> str:
        """URI, size and etag."""
        return f"{self.store.uri}:{self.stat.key}:{self.stat.bytes}:{self.stat.etag}"

    def sha256(self, scratch: Path) -> str:
        """Returns the hex sha256 of the downloaded object."""
        return sha256_of_file(self._file(scratch))

    def rows(self, scratch: Path) -> Iterator[SourceRow]:
        """Yields every row."""
        return read_rows(self._file(scratch), self.format, self.name, packed_as=self.stat.key)

    def count(self, scratch: Path) -> int | None:
        """Returns the number of lines, or of Parquet rows."""
        return count_rows(self._file(scratch), self.format, self.name, packed_as=self.stat.key)

    def _file(self, scratch: Path) -> Path:
        path = scratch / hashlib.sha256(self.fingerprint.encode()).hexdigest()
        if not path.exists():
            self.store.download(self.stat.key, path)
        return path


def source_files(task: Task, base_folder: Path, store: Store | None = None) -> list[SourceFile]:
    """Returns the files of the task's source in a fixed order, without reading them.

    A single file, or files whose names give at most one split, have `split` None: their rows will
    be divided. Raises DataError or UsageError if files are missing.
    """
    where = f"task {task.name}"
    if task.source.splits is not None:
        if not task.source.splits:
            raise UsageError(f"{where}: source.splits names no split")
        files = []
        # in a fixed order: an API server returns mappings sorted, and a run in a cluster must be
        # the same run
        for split in (split for split in SPLITS if split in task.source.splits):
            uri = task.source.splits[split]
            files += [_with_split(file, split) for file in _resolve(uri, task.source, base_folder, where, store)]
        return files
    assert task.source.uri is not None
    files = _resolve(task.source.uri, task.source, base_folder, where, store)
    splits = {file.split for file in files}
    if len(files) > 1 and None in splits and len(splits) > 1:
        odd = [file.name for file in files if file.split is None]
        raise DataError(
            f"{where}: {odd[0]} names no split (train, validation or test), but other files of {task.source.uri} do",
            hint="Assign files to splits with source.splits, or remove the file from the folder.",
        )
    return files


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
        f"{where}: {kind}:// sources are not supported",
        hint="A source is a path, s3://bucket/key or hf://name[:config][@revision]; "
        "others need a package with a reader (an entry point of raytrain.readers).",
    )


def _by_reader(path: str, plugin: Plugin, base_folder: Path, where: str) -> list[SourceFile]:
    """The files at a path, each read by a plug-in."""
    return [
        PluginRows(plugin, str(file.path.resolve()), file.name, file.split, file.fingerprint)
        for file in _local(path, _ANY, base_folder, where)
    ]


def _local(uri: str, format: Format | None, base_folder: Path, where: str) -> list[LocalFile]:
    path = base_folder / Path(uri).expanduser()
    if path.is_file():
        return [LocalFile(path, uri, require_format(uri, format, where), None)]
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path)))
        top = path
    elif WILD.search(uri):
        found = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())  # noqa: PTH207 - absolute patterns too
        top = Path(str(path)[: WILD.search(str(path)).start()]).parent  # type: ignore[union-attr]
        if not found:
            raise DataError(f"{where}: no file matches {uri} (relative to {base_folder})")
    else:
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(
            f"{where}: there is no {uri}{did_you_mean(path.name, near)}",
            hint=f"Looked for {path}; relative paths are relative to the job file.",
        )
    readable = [p for p in found if format is not None or format_of(p.name)]
    if not readable:
        raise DataError(f"{where}: no data files in {uri}", hint=f"Supported files are {known_extensions()}.")
    files: list[LocalFile] = []
    for p in readable:
        try:
            relative = p.relative_to(top).as_posix()
        except ValueError:
            relative = p.name
        name = str(PurePosixPath(uri) / relative) if path.is_dir() else _shown(p, base_folder)
        files.append(LocalFile(p, name, require_format(p.name, format, where), split_of_name(relative)))
    return files


def _bucket(path: str, format: Format | None, where: str, store_of_job: Store | None) -> list[SourceFile]:
    bucket, _, key = path.partition("/")
    uri = f"s3://{path}"
    store = open_like(store_of_job, f"s3://{bucket}")
    wild = WILD.search(key)
    if not wild and key and not key.endswith("/") and (stat := store.stat(key)) is not None:
        return [StoredFile(store, stat, uri, require_format(key, format, where), None)]
    if wild:
        top = key[: wild.start()].rpartition("/")[0]
        pattern = re.compile(_glob_pattern(key))
        stats = [stat for stat in store.list(key[: wild.start()]) if pattern.fullmatch(stat.key)]
    else:
        top = key.rstrip("/")
        stats = [s for s in store.list(f"{top}/" if top else "") if not _hidden(PurePosixPath(s.key[len(top) :]))]
    stats = [stat for stat in stats if format is not None or format_of(stat.key)]
    if not stats:
        raise DataError(f"{where}: no data at {uri}", hint=f"Supported files are {known_extensions()}.")
    return [
        StoredFile(
            store,
            stat,
            f"s3://{bucket}/{stat.key}",
            require_format(stat.key, format, where),
            split_of_name(stat.key[len(top) :].lstrip("/")),
        )
        for stat in stats
    ]


def _glob_pattern(key: str) -> str:
    """The regular expression of a glob: * matches within a path part, ** across parts."""
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
