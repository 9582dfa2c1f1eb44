"""Uploads local sources and models, which pods cannot read, to the bucket, by content digest."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from data_prep.config import Source, Task
from data_prep.sources.files import LocalFile, SourceFile
from data_prep.sources.task_files import source_files
from raytrain.config.job import FineTuneJob
from raytrain_core.errors import UsageError
from raytrain_core.storage import Store
from raytrain_core.storage.commit import commit, read_manifest
from raytrain_core.storage.store import sha256_of_file

_FOLDER = "uploads"
_MODEL_FILES = ("*.json", "*.safetensors", "*.model")


def upload_sources(job: FineTuneJob, base_folder: Path, store: Store, say: Callable[[str], None]) -> FineTuneJob:
    """Returns the job with every local source and model replaced by its copy in `store`.

    Files that were uploaded before are not sent again. Raises DataError or UsageError for missing
    sources, StorageError if the store refuses.
    """
    tasks = [_upload_task(task, base_folder, store, say) for task in job.spec.tasks]
    model = job.spec.model
    folder = base_folder / Path(model.removeprefix("file://")).expanduser()
    if _is_local(model) and folder.is_dir():
        files = {path.name: path for pattern in _MODEL_FILES for path in sorted(folder.glob(pattern))}
        model = _upload(files, store, f"model {model}", say)
    elif model.startswith((".", "/", "~", "file:")):
        raise UsageError(f"model {model}: folder {folder} does not exist")
    return job.model_copy(update={"spec": job.spec.model_copy(update={"tasks": tasks, "model": model})})


def _upload_task(task: Task, base_folder: Path, store: Store, say: Callable[[str], None]) -> Task:
    source = task.source
    if source.uri is not None and _is_local(source.uri):
        files = source_files(task, base_folder)
        uri = _upload(_by_name(files), store, f"task {task.name}", say)
        only = (
            files[0].split is None and len(files) == 1
        )  # its rows will be divided into splits, so it must stay a single file
        source = source.model_copy(update={"uri": f"{uri}/{_names(files)[0]}" if only else uri})
    elif source.splits is not None and any(_is_local(uri) for uri in source.splits.values()):
        splits = {
            split: _upload(_by_name(_split_files(task, split, base_folder)), store, f"task {task.name}, {split}", say)
            if _is_local(uri)
            else uri
            for split, uri in source.splits.items()
        }
        source = source.model_copy(update={"splits": splits})
    return task.model_copy(update={"source": source})


def _split_files(task: Task, split: str, base_folder: Path) -> list[SourceFile]:
    assert task.source.splits is not None
    alone = Source.model_validate({"splits": {split: task.source.splits[split]}, "format": task.source.format})  # type: ignore[index]
    return source_files(task.model_copy(update={"source": alone}), base_folder)


def _names(files: list[SourceFile]) -> list[str]:
    """Names for the files that keep their order, which determines the shards, and their splits."""
    parts = [[f"{i:05d}"] if len(files) > 1 else [] for i in range(len(files))]
    parts = [[*part, *([file.split] if file.split else [])] for part, file in zip(parts, files, strict=True)]
    return ["-".join([*part, Path(file.name).name]) for part, file in zip(parts, files, strict=True)]


def _by_name(files: list[SourceFile]) -> dict[str, Path]:
    return dict(zip(_names(files), (file.path for file in files if isinstance(file, LocalFile)), strict=True))


def _upload(files: Mapping[str, Path], store: Store, what: str, say: Callable[[str], None]) -> str:
    """Uploads files and commits them with a manifest; returns the URI of their folder."""
    hasher = hashlib.sha256()
    for name in sorted(files):
        hasher.update(name.encode() + b"\0" + sha256_of_file(files[name]).encode() + b"\n")
    prefix = f"{_FOLDER}/{hasher.hexdigest()[:32]}"
    if read_manifest(store, prefix) is None:
        total = sum(path.stat().st_size for path in files.values())
        say(f"{what}: uploading {len(files)} file{'s' if len(files) > 1 else ''}, {total / 1e6:,.1f} MB")
        commit(store, prefix, {f"files/{name}": path for name, path in files.items()}, {"kind": "upload"})
    return f"{store.uri}/{prefix}/files"


def _is_local(uri: str) -> bool:
    return urlsplit(uri).scheme in ("", "file")
