"""Rows of a benchmark that are not where its definition says: a folder, a bucket, another data set.

A folder becomes what the hub has: a card (README.md) that names each configuration and the files of
its splits, which the library `datasets` reads. So the harness is told nothing but another path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raytrain_core.errors import DataError, UsageError
from raytrain_core.storage import Store, open_like
from raytrain_core.storage.bucket_uri import cloud_of
from raytrain_core.storage.uri import parse_uri
from raytrain_core.text import did_you_mean

EXTENSIONS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
_WORDS = {
    "val": "validation",
    "valid": "validation",
    "eval": "validation",
    "dev": "dev",
    "auxiliary": "auxiliary_train",
}
_SPLITS = ("train", "validation", "test", "dev")


def overrides(rows: str, where: str, *, base_folder: Path, store: Store | None, scratch: Path) -> dict[str, Any]:
    """Returns what of a definition changes so that its rows are those at `rows`.

    Objects are downloaded to `scratch`, where the card is written too. Raises DataError or
    UsageError if there are no rows.
    """
    cache = {"cache_dir": str(scratch / "datasets")}
    if rows.startswith("hf://"):
        name, _, revision = rows.removeprefix("hf://").partition("@")
        name, _, configuration = name.partition(":")
        kwargs = {**cache, "revision": revision} if revision else cache
        named = {"dataset_name": configuration} if configuration else {}
        return {"dataset_path": name, "dataset_kwargs": kwargs, **named}
    check(rows, where, base_folder)
    in_bucket = cloud_of(rows) is not None
    folder = _bucket(rows, where, store, scratch / "objects") if in_bucket else _local(rows, base_folder)
    if _has_card(folder):
        return {"dataset_path": str(folder), "dataset_kwargs": cache}
    found = _require_files(folder, rows, where)
    card = _write_card(scratch / "card", folder, found)
    single = {"dataset_name": None} if set(found) == {""} else {}
    return {"dataset_path": str(card), "dataset_kwargs": cache, **single}


def check(rows: str, where: str, base_folder: Path) -> None:
    """Raises DataError or UsageError if rows are missing, as far as the network is not needed."""
    if rows.startswith("hf://"):
        return
    if cloud_of(rows) is not None:
        parse_uri(rows, f"{where}: rows")
        return
    if "://" in rows and not rows.startswith("file://"):
        raise UsageError(
            f"{where}: rows: {rows} is not supported", hint="Give a folder, hf://name, or s3://, gs:// or az://."
        )
    folder = _local(rows, base_folder)
    if not folder.is_dir():
        near = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise DataError(
            f"{where}: rows: there is no folder {rows}{did_you_mean(folder.name, near)}",
            hint=f"Looked for {folder}; relative paths are relative to the job file.",
        )
    if not _has_card(folder):
        _require_files(folder, rows, where)


def _require_files(folder: Path, rows: str, where: str) -> dict[str, dict[str, list[Path]]]:
    found = configurations(folder)
    if not found:
        raise DataError(
            f"{where}: rows: no file in {rows} is named after a split",
            hint=f"Name files train, validation, dev or test, with one of {', '.join(EXTENSIONS)}.",
        )
    return found


def configurations(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """Maps each configuration (a folder; "" is `folder` itself) to the files of each split."""
    found = {"": _splits(folder)}
    found |= {below.name: _splits(below) for below in sorted(folder.iterdir()) if below.is_dir()}
    return {name: splits for name, splits in found.items() if splits}


def _splits(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in EXTENSIONS and not path.name.startswith((".", "_")):
            for split in split_of(path.stem):
                files.setdefault(split, []).append(path)
    for one, other in (("validation", "dev"), ("dev", "validation")):  # the same, by another name
        if one in files:
            files.setdefault(other, files[one])
    return files


def split_of(stem: str) -> Iterator[str]:
    """Yields the split that a file's name names, if it names one."""
    for word in re.split(r"[^a-z]+", stem.lower()):
        name = _WORDS.get(word, word)
        if name in (*_SPLITS, "auxiliary_train"):
            yield name
            return


def _write_card(card: Path, folder: Path, found: Mapping[str, Mapping[str, list[Path]]]) -> Path:
    """Writes a data set card with links to the files; returns its folder."""
    card.mkdir(parents=True, exist_ok=True)
    for path in {path for splits in found.values() for files in splits.values() for path in files}:
        link = card / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(path.resolve())
    listed = [
        {
            "config_name": name or "default",
            "data_files": [
                {"split": split, "path": [path.relative_to(folder).as_posix() for path in files]}
                for split, files in splits.items()
            ],
        }
        for name, splits in found.items()
    ]
    (card / "README.md").write_text(f"---\nconfigs: {json.dumps(listed)}\n---\n", encoding="utf-8")
    return card


def _has_card(folder: Path) -> bool:
    card = folder / "README.md"
    return (
        card.is_file() and re.search(r"^configs:", card.read_text(encoding="utf-8", errors="replace"), re.M) is not None
    )


def _local(rows: str, base_folder: Path) -> Path:
    return base_folder / Path(rows.removeprefix("file://")).expanduser()


def _bucket(rows: str, where: str, store: Store | None, target: Path) -> Path:
    """Downloads the objects below a prefix; returns the folder with them."""
    found = open_like(store, rows.rstrip("/"))
    stats = [stat for stat in found.list("") if stat.key.endswith((*EXTENSIONS, "README.md"))]
    if not stats:
        raise DataError(f"{where}: rows: no data at {rows}", hint=f"Objects end in {', '.join(EXTENSIONS)}.")
    for stat in stats:
        path = target / stat.key
        path.parent.mkdir(parents=True, exist_ok=True)
        found.download(stat.key, path)
    return target
