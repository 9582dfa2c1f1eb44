"""Checks stored objects against their manifests: every object is read and its sha256 compared."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from raytrain_core.storage.commit import MANIFEST, read_manifest
from raytrain_core.storage.scratch import scratch
from raytrain_core.storage.store import CorruptError, NotFoundError, Store

_THREADS = 8

OnProgress = Callable[[int, int], None]
"""Called with the bytes read so far and the bytes in all."""


class Object(NamedTuple):
    """A stored object according to a manifest."""

    key: str
    bytes: int
    sha256: str


@dataclass(slots=True)
class CheckedObjects:
    """How much was read, and a sentence for each object that does not match its manifest."""

    objects: int = 0
    bytes: int = 0
    corrupt: list[str] = field(default_factory=list)


def committed_objects(store: Store, prefix: str) -> tuple[list[Object], list[str]]:
    """Returns every file committed below `prefix`, and a sentence for each broken manifest."""
    objects, broken = list[Object](), list[str]()
    for key in [stat.key for stat in store.list(f"{prefix}/") if stat.key.endswith(f"/{MANIFEST}")]:
        try:
            manifest = read_manifest(store, key.removesuffix(f"/{MANIFEST}"))
        except CorruptError as error:
            broken.append(error.message)
            continue
        if manifest is not None:
            objects += [Object(manifest.key(file.name), file.bytes, file.sha256) for file in manifest.files]
    return objects, broken


def check_objects(
    store: Store, objects: Sequence[Object], *, on_progress: OnProgress = lambda done, total: None
) -> CheckedObjects:
    """Reads all of them, several at a time."""
    checked, total = CheckedObjects(), sum(one.bytes for one in objects)
    with scratch("verify") as folder, ThreadPoolExecutor(_THREADS) as pool:
        for one, error in zip(objects, _errors(pool, store, objects, folder), strict=True):
            checked.objects += 1
            checked.bytes += one.bytes
            checked.corrupt += [error] if error else []
            on_progress(checked.bytes, total)
    return checked


def _errors(pool: ThreadPoolExecutor, store: Store, objects: Iterable[Object], folder: Path) -> Iterator[str | None]:
    return pool.map(lambda numbered: _error(store, numbered[1], folder / str(numbered[0])), enumerate(objects))


def _error(store: Store, one: Object, path: Path) -> str | None:
    """Returns what is wrong with a stored object; None if nothing is."""
    try:
        stat = store.stat(one.key)
        if stat is None:
            return f"{store.uri}/{one.key}: missing, but a manifest names it"
        if stat.bytes != one.bytes:
            return f"{store.uri}/{one.key}: {stat.bytes:,} bytes instead of {one.bytes:,}"
        store.download(one.key, path, sha256=one.sha256)
    except (CorruptError, NotFoundError) as error:
        return error.message
    finally:
        path.unlink(missing_ok=True)
    return None
