"""Commits files so that a group of files exists once its manifest exists.

All files are uploaded and verified first; the manifest (names, bytes, sha256, origin) is put last,
in one request. Readers look only at manifests, so they never see what a killed writer left behind.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytrain_core.errors import UsageError
from raytrain_core.storage.keys import check_key
from raytrain_core.storage.store import CorruptError, NotFoundError, Store, sha256_of, sha256_of_file

MANIFEST = "manifest.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A committed file; `name` is relative to the manifest's prefix, `sha256` is 64 hex digits."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A commit: its prefix, its files, and the body that its writer added."""

    prefix: str
    files: tuple[FileEntry, ...]
    body: dict[str, Any]

    def file(self, name: str) -> FileEntry:
        """Returns the entry of one file; raises KeyError if there is none."""
        for entry in self.files:
            if entry.name == name:
                return entry
        raise KeyError(name)

    def key(self, name: str) -> str:
        """Returns the storage key of one file."""
        return f"{self.prefix}/{name}"


def commit(
    store: Store,
    prefix: str,
    files: Mapping[str, Path | bytes],
    body: Mapping[str, Any],
    *,
    guard: Callable[[], None] | None = None,
) -> Manifest:
    """Uploads and verifies `files` under `prefix`, then puts the manifest that makes them visible.

    `guard` is called when all files are stored and may raise to stop the commit; nothing is visible
    then. An earlier manifest under `prefix` is deleted first (after another call of `guard`), so
    that it never names files of this commit. `body` must be JSON.
    """
    check_key(prefix)
    for name in files:
        check_key(name)
        if name == MANIFEST:
            raise ValueError(f"{MANIFEST} is the name of the manifest itself")
    text = json.dumps(dict(body), allow_nan=False)  # fails before anything is stored
    if store.stat(f"{prefix}/{MANIFEST}") is not None:
        if guard is not None:
            guard()
        store.delete([f"{prefix}/{MANIFEST}"])
    entries = []
    for name, content in sorted(files.items()):
        if isinstance(content, Path):
            stored = store.upload(f"{prefix}/{name}", content)
            entries.append(FileEntry(name, stored.bytes, stored.sha256))
        else:
            store.put(f"{prefix}/{name}", content)
            entries.append(FileEntry(name, len(content), sha256_of(content)))
    manifest = Manifest(prefix, tuple(entries), json.loads(text))
    if guard is not None:
        guard()
    store.put(f"{prefix}/{MANIFEST}", _encode(manifest))
    return manifest


def read_manifest(store: Store, prefix: str) -> Manifest | None:
    """Returns the manifest under `prefix`; None if there is none.

    Raises CorruptError if it is invalid.
    """
    key = f"{prefix}/{MANIFEST}"
    try:
        data = store.get(key)
    except NotFoundError:
        return None
    try:
        return _decode(prefix, data)
    except (ValueError, KeyError, TypeError, UsageError) as error:
        raise CorruptError(f"{store.uri}/{key}: not a manifest ({error})") from None


def check(store: Store, manifest: Manifest) -> None:
    """Raises CorruptError unless every file exists with its size; downloads nothing."""
    for entry in manifest.files:
        stat = store.stat(manifest.key(entry.name))
        if stat is None:
            raise CorruptError(f"{store.uri}/{manifest.key(entry.name)}: missing, but its manifest names it")
        if stat.bytes != entry.bytes:
            raise CorruptError(
                f"{store.uri}/{manifest.key(entry.name)}: {stat.bytes:,} bytes instead of {entry.bytes:,}"
            )


def fetch(store: Store, manifest: Manifest, folder: Path, names: Iterable[str] | None = None) -> Path:
    """Downloads the committed files (or only `names`) to `folder` and verifies each of them.

    Files already in the folder with the right sha256 are kept. Raises CorruptError for a file that
    does not match.
    """
    entries = manifest.files if names is None else [manifest.file(name) for name in names]
    folder.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        target = folder / entry.name
        if target.is_file() and target.stat().st_size == entry.bytes and sha256_of_file(target) == entry.sha256:
            continue
        try:
            store.download(manifest.key(entry.name), target, sha256=entry.sha256)
        except NotFoundError:
            raise CorruptError(f"{store.uri}/{manifest.key(entry.name)}: missing, but its manifest names it") from None
    return folder


def _encode(manifest: Manifest) -> bytes:
    files = [{"name": entry.name, "bytes": entry.bytes, "sha256": entry.sha256} for entry in manifest.files]
    document = {"format": _FORMAT, "files": files, "body": manifest.body}
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _decode(prefix: str, data: bytes) -> Manifest:
    document = json.loads(data)
    if not isinstance(document, dict):
        raise TypeError("not an object")
    if document.get("format") != _FORMAT:
        raise ValueError(f"format {document.get('format')!r}, this version reads {_FORMAT}")
    files = tuple(
        FileEntry(check_key(str(entry["name"])), int(entry["bytes"]), str(entry["sha256"]))
        for entry in document["files"]
    )
    body = document["body"]
    if not isinstance(body, dict):
        raise TypeError("its body is not an object")
    return Manifest(prefix, files, body)
