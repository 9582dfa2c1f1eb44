"""Whether what is stored is what was put there: every file that a manifest names is read and its sha256 compared."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from data_prep.shards.manifest import ShardSet
from raytrain_core.storage import CorruptError, NotFoundError, Store
from raytrain_core.storage.commit import MANIFEST, read_manifest
from raytrain_core.storage.scratch import scratch

_THREADS = 8


class Entry(NamedTuple):
    """A stored object as a manifest names it."""

    key: str
    bytes: int
    sha256: str


@dataclass(slots=True)
class Verified:
    """What was read, and a sentence for each object that is not what its manifest says."""

    objects: int = 0
    bytes: int = 0
    corrupt: list[str] = field(default_factory=list)


OnProgress = Callable[[int, int], None]


def entries_of_set(shard_set: ShardSet) -> list[Entry]:
    """Every object of a shard set, tokenizer included; an object that several tasks share comes once."""
    parts = [part for task in shard_set.tasks for part in task.all_parts()]
    return sorted({Entry(part.key, part.bytes, part.sha256) for part in [*parts, *shard_set.tokenizer.files.values()]})


def entries_below(store: Store, prefix: str) -> tuple[list[Entry], list[str]]:
    """Every file of everything that is committed below `prefix`, and a sentence for each manifest that is none."""
    entries, broken = list[Entry](), list[str]()
    for key in [stat.key for stat in store.list(f"{prefix}/") if stat.key.endswith(f"/{MANIFEST}")]:
        try:
            manifest = read_manifest(store, key.removesuffix(f"/{MANIFEST}"))
        except CorruptError as error:
            broken.append(error.message)
            continue
        if manifest is not None:
            entries += [Entry(manifest.key(file.name), file.bytes, file.sha256) for file in manifest.files]
    return entries, broken


def verify(store: Store, entries: Sequence[Entry], *, on_progress: OnProgress = lambda done, total: None) -> Verified:
    """Read all of them, some at a time; `on_progress` hears the bytes read and the bytes in all."""
    found, total = Verified(), sum(entry.bytes for entry in entries)
    with scratch("verify") as folder, ThreadPoolExecutor(_THREADS) as pool:
        for entry, wrong in zip(entries, _checked(pool, store, entries, folder), strict=True):
            found.objects += 1
            found.bytes += entry.bytes
            found.corrupt += [wrong] if wrong else []
            on_progress(found.bytes, total)
    return found


def _checked(pool: ThreadPoolExecutor, store: Store, entries: Iterable[Entry], folder: Path) -> Iterator[str | None]:
    return pool.map(lambda numbered: _wrong(store, numbered[1], folder / str(numbered[0])), enumerate(entries))


def _wrong(store: Store, entry: Entry, path: Path) -> str | None:
    """What is wrong with a stored object; None if nothing is."""
    try:
        stat = store.stat(entry.key)
        if stat is None:
            return f"{store.uri}/{entry.key}: missing, but a manifest names it"
        if stat.bytes != entry.bytes:
            return f"{store.uri}/{entry.key}: {stat.bytes:,} bytes instead of {entry.bytes:,}"
        store.download(entry.key, path, sha256=entry.sha256)
    except (CorruptError, NotFoundError) as error:
        return error.message
    finally:
        path.unlink(missing_ok=True)
    return None
