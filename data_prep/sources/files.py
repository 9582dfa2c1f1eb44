"""The files of a task's source.

Local, in an S3 bucket, or splits of a data set on the Hugging Face hub.
"""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Protocol, Self

from data_prep.config import SPLITS, CsvOptions, Format, Source, Split, Task
from data_prep.sources.bucket_files import find_in_bucket
from data_prep.sources.file_names import known_extensions, require_format, split_of_name
from data_prep.sources.local_files import Finding, PassedOver, find_by_pattern, find_in_folder
from data_prep.sources.plugins import READERS, Plugin, PluginRows, load_plugin, reader_for_scheme
from data_prep.sources.read_as import ReadAs
from data_prep.sources.readers import count_rows, detect_format, read_rows, spans_of
from data_prep.sources.source_row import SourceRow
from data_prep.sources.spans import BYTES, WHOLE, Span
from data_prep.sources.uris import SCHEMES, WILD, split_source_uri
from data_prep.tally import Tally
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

    @property
    def read_as(self) -> ReadAs:
        """How it is read; what is known without reading it before `detected`."""

    def detected(self, scratch: Path) -> Self:
        """Returns the file with how it is read, for which it may be read."""

    def with_read_as(self, read_as: ReadAs) -> Self:
        """Returns the file with how it is read, as it was detected before."""

    def sha256(self, scratch: Path) -> str:
        """Returns the hex sha256 of the contents, which are read.

        `scratch` is a folder for downloads.
        """

    def spans(self, scratch: Path) -> list[Span]:
        """Returns the spans that can be read each on its own, in order."""

    def rows(self, scratch: Path, span: Span = WHOLE) -> Iterator[SourceRow]:
        """Yields every row of a span."""

    def count(self, scratch: Path) -> int | None:
        """Returns about how many rows there are; None if only reading them would tell."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on this machine."""

    path: Path
    name: str
    format: Format
    split: Split | None
    options: CsvOptions | None = None
    known: ReadAs | None = None

    @property
    def read_as(self) -> ReadAs:
        """How it is read; its format alone before `detected`."""
        return self.known or ReadAs(self.format)

    def detected(self, scratch: Path) -> Self:
        """Returns the file with how it is read; it is read for that."""
        if self.known is not None:
            return self
        found = detect_format(self.path, self.format, self.name, self.options, packed_as=self.path.name)
        return self.with_read_as(found)

    def with_read_as(self, read_as: ReadAs) -> Self:
        """Returns the file with how it is read."""
        return replace(self, known=read_as)

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

    def spans(self, scratch: Path) -> list[Span]:
        """Divides the file, which may be read for that."""
        return spans_of(self.path, self.detected(scratch).read_as, self.name, packed_as=self.path.name)

    def rows(self, scratch: Path, span: Span = WHOLE) -> Iterator[SourceRow]:
        """Yields every row of a span."""
        how = self.detected(scratch).read_as
        return read_rows(self.path, self.format, self.name, packed_as=self.path.name, read_as=how, span=span)

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
    options: CsvOptions | None = None
    known: ReadAs | None = None

    @property
    def read_as(self) -> ReadAs:
        """How it is read; its format alone before `detected`."""
        return self.known or ReadAs(self.format)

    def detected(self, scratch: Path) -> Self:
        """Returns the file with how it is read; it is downloaded for that."""
        if self.known is not None:
            return self
        path = self._file(scratch)
        return self.with_read_as(detect_format(path, self.format, self.name, self.options, packed_as=self.stat.key))

    def with_read_as(self, read_as: ReadAs) -> Self:
        """Returns the file with how it is read."""
        return replace(self, known=read_as)

    @property
    def fingerprint(self) -> str:
        """URI, size and etag."""
        return f"{self.store.uri}:{self.stat.key}:{self.stat.bytes}:{self.stat.etag}"

    def sha256(self, scratch: Path) -> str:
        """Returns the hex sha256 of the downloaded object."""
        return sha256_of_file(self._file(scratch))

    def spans(self, scratch: Path) -> list[Span]:
        """Divides the downloaded object; a small one is a span that whoever reads it downloads."""
        if self.stat.bytes <= BYTES:
            return [Span(bytes=self.stat.bytes)]
        return spans_of(self._file(scratch), self.detected(scratch).read_as, self.name, packed_as=self.stat.key)

    def rows(self, scratch: Path, span: Span = WHOLE) -> Iterator[SourceRow]:
        """Yields every row of a span."""
        how = self.detected(scratch).read_as
        return read_rows(self._file(scratch), self.format, self.name, packed_as=self.stat.key, read_as=how, span=span)

    def count(self, scratch: Path) -> int | None:
        """Returns the number of lines, or of Parquet rows."""
        return count_rows(self._file(scratch), self.format, self.name, packed_as=self.stat.key)

    def open(self, scratch: Path) -> IO[bytes]:
        """Opens the downloaded object."""
        return self._file(scratch).open("rb")

    def _file(self, scratch: Path) -> Path:
        path = scratch / hashlib.sha256(self.fingerprint.encode()).hexdigest()
        if not path.exists():
            self.store.download(self.stat.key, path)
            if self.store.stat(self.stat.key) != self.stat:  # other contents than the fingerprint stands for
                path.unlink(missing_ok=True)
                raise DataError(
                    f"{self.name}: was changed after it was listed",
                    hint="Run the same command again once nobody writes to it.",
                )
        return path


@dataclass(slots=True)
class Sources:
    """What a task's source holds: the files to read, in a fixed order, and what is passed over."""

    files: list[SourceFile]
    passed_over: list[PassedOver] = field(default_factory=list)

    def tally(self, scratch: Path) -> Tally:
        """Returns what was passed over and detected; the files may be read for it."""
        tally = Tally()
        for one in self.passed_over:
            tally.add("file-passed-over", one.name, note=one.reason)
        for file in self.files:
            for note in file.detected(scratch).read_as.told:
                tally.add("detected", file.name, note=note)
        return tally


def source_files(task: Task, base_folder: Path, store: Store | None = None) -> list[SourceFile]:
    """Returns the files of `find_sources`."""
    return find_sources(task, base_folder, store).files


def find_sources(task: Task, base_folder: Path, store: Store | None = None) -> Sources:
    """Returns the files of the task's source and what was passed over, without reading any.

    A single file, or files whose names give at most one split, have `split` None: their rows will
    be divided. Raises DataError or UsageError if files are missing.
    """
    where = f"task {task.name}"
    if task.source.splits is not None:
        if not task.source.splits:
            raise UsageError(f"{where}: source.splits names no split")
        found = Sources([])
        # in a fixed order: an API server returns mappings sorted, and a run in a cluster must be
        # the same run
        for split in (split for split in SPLITS if split in task.source.splits):
            one = _resolve(task.source.splits[split], task.source, base_folder, where, store)
            found.files += [_with_split(file, split) for file in one.files]
            found.passed_over += one.passed_over
        return found
    assert task.source.uri is not None
    found = _resolve(task.source.uri, task.source, base_folder, where, store)
    splits = {file.split for file in found.files}
    if len(found.files) > 1 and None in splits and len(splits) > 1:
        odd = [file.name for file in found.files if file.split is None]
        raise DataError(
            f"{where}: {odd[0]} names no split (train, validation or test), but other files of {task.source.uri} do",
            hint="Assign files to splits with source.splits, or remove the file from the folder.",
        )
    return found


def _with_split(file: SourceFile, split: Split) -> SourceFile:
    return replace(file, split=split)  # type: ignore[type-var]


def _resolve(uri: str, source: Source, base_folder: Path, where: str, store: Store | None) -> Sources:
    kind, rest = split_source_uri(uri, where)
    reader = source.reader or (reader_for_scheme(kind) if kind not in SCHEMES else None)
    if kind in ("path", "file"):
        path = uri if kind == "path" else str(parse_uri(uri).path)  # type: ignore[union-attr]
        if reader is not None:
            return _by_reader(path, source, load_plugin(READERS, reader, where), base_folder, where)
        return _local(path, source, base_folder, where)
    if reader is not None:
        return Sources([PluginRows(load_plugin(READERS, reader, where), uri, uri)])
    if kind == "s3":
        return _bucket(rest, source, where, store)
    if kind == "hf":
        from data_prep.sources.hub import hub_splits

        return Sources(list(hub_splits(f"hf://{rest}", where)))
    raise UsageError(
        f"{where}: {kind}:// sources are not supported",
        hint="A source is a path, s3://bucket/key or hf://name[:config][@revision]; "
        "others need a package with a reader (an entry point of raytrain.readers).",
    )


def _by_reader(path: str, source: Source, plugin: Plugin, base_folder: Path, where: str) -> Sources:
    """The files at a path, each read by a plug-in."""
    found = _local(path, source.model_copy(update={"format": _ANY}), base_folder, where)
    found.files = [
        PluginRows(plugin, str(file.path.resolve()), file.name, file.split, file.fingerprint)
        for file in found.files
        if isinstance(file, LocalFile)
    ]
    return found


def _local(uri: str, source: Source, base_folder: Path, where: str) -> Sources:
    path, format = base_folder / Path(uri).expanduser(), source.format
    try:
        if path.is_file():
            return Sources([LocalFile(path, uri, require_format(uri, format, where), None, source.csv)])
        found = _find_local(uri, path, base_folder, where, any_name=format is not None)
    except OSError as error:
        raise DataError(f"{where}: {uri} cannot be read ({error.strerror or error})") from None
    passed_over = [PassedOver(_shown(path, base_folder), reason) for path, reason in found.passed_over]
    if not found.paths:
        raise DataError(
            f"{where}: no data files in {uri}",
            hint=f"Supported files are {known_extensions()}.{_first_passed_over(passed_over)}",
        )
    files: list[SourceFile] = [
        LocalFile(
            one,
            _shown(one, base_folder),
            require_format(one.name, format, where),
            split_of_name(one.relative_to(found.top).as_posix()),
            source.csv,
        )
        for one in found.paths
    ]
    return Sources(files, passed_over)


def _find_local(uri: str, path: Path, base_folder: Path, where: str, *, any_name: bool) -> Finding:
    if path.is_dir():
        return find_in_folder(path, any_name=any_name)
    if WILD.search(uri):
        found = find_by_pattern(str(Path(uri).expanduser()), base_folder, any_name=any_name)
        if found is None:
            raise DataError(f"{where}: no file matches {uri} (relative to {base_folder})")
        return found
    if path.is_symlink():
        raise DataError(f"{where}: {uri} is a symbolic link to {path.readlink()}, which does not exist")
    near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise DataError(
        f"{where}: there is no {uri}{did_you_mean(path.name, near)}",
        hint=f"Looked for {path}; relative paths are relative to the job file.",
    )


def _bucket(path: str, source: Source, where: str, store_of_job: Store | None) -> Sources:
    bucket, _, key = path.partition("/")
    store = open_like(store_of_job, f"s3://{bucket}")
    found = find_in_bucket(store, key, any_name=source.format is not None)
    passed_over = [PassedOver(f"s3://{bucket}/{name}", reason) for name, reason in found.passed_over]
    if not found.stats:
        raise DataError(
            f"{where}: no data at s3://{path}",
            hint=f"Supported files are {known_extensions()}.{_first_passed_over(passed_over)}",
        )
    files: list[SourceFile] = [
        StoredFile(
            store,
            stat,
            f"s3://{bucket}/{stat.key}",
            require_format(stat.key, source.format, where),
            None if found.alone else split_of_name(stat.key[len(found.top) :].lstrip("/")),
            source.csv,
        )
        for stat in found.stats
    ]
    return Sources(files, passed_over)


def _first_passed_over(passed_over: list[PassedOver]) -> str:
    if not passed_over:
        return ""
    named = ", ".join(f"{one.name} ({one.reason})" for one in passed_over[:3])
    return f" Passed over: {named}{', ...' if len(passed_over) > 3 else ''}."


def _shown(path: Path, base_folder: Path) -> str:
    try:
        return path.relative_to(base_folder).as_posix()
    except ValueError:
        return str(path)
