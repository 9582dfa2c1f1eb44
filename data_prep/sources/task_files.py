"""The files of a task's source.

Local, in an S3 bucket, or splits of a data set on the Hugging Face hub.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from data_prep.config import SPLITS, CsvOptions, Format, Source, Split, Task
from data_prep.sources.bucket_files import find_in_bucket
from data_prep.sources.file_names import format_of, known_extensions, require_format, split_of_name, split_words
from data_prep.sources.files import LocalFile, SourceFile, StoredFile
from data_prep.sources.local_files import Finding, PassedOver, find_by_pattern, find_in_folder
from data_prep.sources.plugins import READERS, Plugin, PluginRows, load_plugin, reader_for_scheme
from data_prep.sources.shapes import SHAPES
from data_prep.sources.uris import SCHEMES, WILD, split_source_uri
from data_prep.tally import Tally
from raytrain_core.errors import DataError, UsageError
from raytrain_core.storage import Store, open_like
from raytrain_core.storage.bucket_uri import BUCKET_SCHEMES
from raytrain_core.storage.uri import parse_uri
from raytrain_core.text import did_you_mean

_ANY: Format = "jsonl"  # a placeholder where a plug-in reads the file


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
        for split in SPLITS:
            self._tell_words(split, tally)
        return tally

    def _tell_words(self, split: Split, tally: Tally) -> None:
        """Counts it if several words make files one split: some may have been meant to be apart."""
        first = {word: file.name for file in self.files if file.split == split for word in split_words(file.name)}
        if len(first) > 1:
            named = " and ".join(PurePosixPath(name).name for name in sorted(set(first.values())))
            tally.add("detected", min(first.values()), note=f"{named} are read together as {split} rows")


def source_files(task: Task, base_folder: Path, store: Store | None = None) -> list[SourceFile]:
    """Returns the files of `find_sources`."""
    return find_sources(task, base_folder, store).files


def find_sources(task: Task, base_folder: Path, store: Store | None = None) -> Sources:
    """Returns the files of the task's source and what was passed over, without reading any.

    A single file, or files whose names give at most one split, have `split` None: their rows will
    be divided. Raises DataError or UsageError if files are missing.
    """
    where = f"task {task.name}"
    found = Sources([])
    for split, uri in _named(task.source, where):
        one = _resolve(uri, task.source, base_folder, where, store)
        given = [file if split is None else replace(file, split=split) for file in one.files]  # type: ignore[type-var]
        found.files += given
        found.passed_over += one.passed_over
    splits = {file.split for file in found.files}
    if len(found.files) > 1 and None in splits and len(splits) > 1:
        odd = [file.name for file in found.files if file.split is None]
        raise DataError(
            f"{where}: {odd[0]} names no split (train, validation or test), but other files of {task.source.uri} do",
            hint="Assign files to splits with source.splits, or remove the file from the folder.",
        )
    if found.files and task.source.csv not in (None, CsvOptions()) and not any(map(_is_csv, found.files)):
        raise DataError(
            f"{where}: source.csv has no effect: none of the {len(found.files)} files is CSV or TSV, the first is "
            f"{found.files[0].name}",
            hint="Leave source.csv out, or set source.format: csv if the files are CSV under another name.",
        )
    return found


def _is_csv(file: SourceFile) -> bool:
    format = file.read_as.format
    return (format_of(file.name) if format in SHAPES else format) in ("csv", "tsv")


def _refuse_format(source: Source, reader: str, where: str) -> None:
    """Raises UsageError for a format beside the reader of a URI's scheme, which gives the rows."""
    if source.format is not None:
        raise UsageError(
            f"{where}: source.format has no effect: reader {reader} gives the rows of {source.uri or reader + '://'}",
            hint="Leave source.format out.",
        )


def _named(source: Source, where: str) -> list[tuple[Split | None, str]]:
    """The splits and URIs that a source names.

    In a fixed order: an API server returns mappings sorted, and a run in a cluster must be the same
    run.
    """
    if source.splits is None:
        assert source.uri is not None
        return [(None, source.uri)]
    if not source.splits:
        raise UsageError(f"{where}: source.splits names no split")
    return [(split, source.splits[split]) for split in SPLITS if split in source.splits]


def _resolve(uri: str, source: Source, base_folder: Path, where: str, store: Store | None) -> Sources:
    kind, rest = split_source_uri(uri, where)
    reader = source.reader or (reader_for_scheme(kind) if kind not in SCHEMES else None)
    if kind in ("path", "file"):
        path = uri if kind == "path" else str(parse_uri(uri).path)  # type: ignore[union-attr]
        if reader is not None:
            return _by_reader(path, source, load_plugin(READERS, reader, where), base_folder, where)
        return _local(path, source, base_folder, where)
    if reader is not None:
        _refuse_format(source, reader, where)
        return Sources([PluginRows(load_plugin(READERS, reader, where), uri, uri)])
    if kind in BUCKET_SCHEMES:
        return _bucket(kind, rest, source, where, store)
    if kind == "hf":
        from data_prep.sources.hub import hub_splits

        return Sources(list(hub_splits(f"hf://{rest}", where, source.format if source.format in SHAPES else None)))
    raise UsageError(
        f"{where}: {kind}:// sources are not supported",
        hint="A source is a path, s3://bucket/key (gs://, az://) or hf://name[:config][@revision]; "
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
            return Sources([LocalFile(path, name=uri, format=require_format(uri, format, where), options=source.csv)])
        found = _find_local(uri, path, base_folder, where, any_name=format is not None)
    except OSError as error:
        raise DataError(f"{where}: {uri} cannot be read ({error.strerror or error})") from None
    passed_over = [PassedOver(_shown(path, base_folder), reason) for path, reason in found.passed_over]
    if not found.paths:
        raise _nothing_to_read(f"{where}: no data files in {uri}", passed_over)
    files: list[SourceFile] = [
        LocalFile(
            one,
            name=_shown(one, base_folder),
            format=require_format(one.name, format, where),
            split=split_of_name(one.relative_to(found.top).as_posix()),
            options=source.csv,
        )
        for one in found.paths
    ]
    return Sources(files, passed_over)


def _nothing_to_read(what: str, passed_over: list[PassedOver]) -> DataError:
    hint = f"Supported files are {known_extensions()}."
    if passed_over:
        named = ", ".join(f"{one.name} ({one.reason})" for one in passed_over[:3])
        hint += f" Passed over: {named}{', ...' if len(passed_over) > 3 else ''}."
    return DataError(what, hint=hint)


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


def _bucket(scheme: str, path: str, source: Source, where: str, store_of_job: Store | None) -> Sources:
    bucket, _, key = path.partition("/")
    store = open_like(store_of_job, f"{scheme}://{bucket}")
    found = find_in_bucket(store, key, any_name=source.format is not None)
    passed_over = [PassedOver(f"{scheme}://{bucket}/{name}", reason) for name, reason in found.passed_over]
    if not found.stats:
        raise _nothing_to_read(f"{where}: no data at {scheme}://{path}", passed_over)
    files: list[SourceFile] = [
        StoredFile(
            store,
            stat,
            name=f"{scheme}://{bucket}/{stat.key}",
            format=require_format(stat.key, source.format, where),
            split=None if found.alone else split_of_name(stat.key[len(found.top) :].lstrip("/")),
            options=source.csv,
        )
        for stat in found.stats
    ]
    return Sources(files, passed_over)


def _shown(path: Path, base_folder: Path) -> str:
    try:
        return path.relative_to(base_folder).as_posix()
    except ValueError:
        return str(path)
