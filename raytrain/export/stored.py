"""Puts an export into a folder or a bucket.

There is no state beside the files: what is there already is read and compared by sha256. So the
same command continues an interrupted export, and verifies a finished one.
"""

from __future__ import annotations

from contextlib import suppress

from raytrain.export.bundle import LISTING, Bundle
from raytrain.export.placing import Comparison, Placed, compare, listed, refuse
from raytrain_core.storage import CorruptError, LocalStore, NotFoundError, Store
from raytrain_core.storage.commit import FileEntry
from raytrain_core.storage.keys import LEFTOVERS
from raytrain_core.storage.scratch import scratch


def place(bundle: Bundle, store: Store, *, force: bool) -> Placed:
    """Writes what is missing, each file verified, and the listing last.

    Raises UsageError where something else is there (see `placing.refuse`).
    """
    found = _compare(bundle, store)
    refuse(found, store.uri, force=force)
    to_write = sorted({*found.missing, *found.unlike})
    if to_write or found.stale:  # a listing never names files of two exports
        store.delete([LISTING])
        store.delete(found.stale)
    for name in to_write:
        store.upload(name, bundle.files[name])
    if _read(store, LISTING) != bundle.listing:
        store.put(LISTING, bundle.listing)
    if isinstance(store, LocalStore):
        with suppress(OSError):  # not empty: another process writes there
            (store.root / LEFTOVERS).rmdir()
    return Placed(store.uri, tuple(to_write), found.same, found.stale, len(found.others))


def _compare(bundle: Bundle, store: Store) -> Comparison:
    sizes = {stat.key: stat.bytes for stat in store.list("") if not stat.key.startswith(f"{LEFTOVERS}/")}
    same = [e.name for e in bundle.entries if sizes.get(e.name) == e.bytes and _is_same(store, e)]
    return compare(bundle.files, sizes, same, listed(_read(store, LISTING)), {LISTING})


def _is_same(store: Store, entry: FileEntry) -> bool:
    with scratch("compare") as folder, suppress(CorruptError):
        store.download(entry.name, folder / "file", sha256=entry.sha256)
        return True
    return False


def _read(store: Store, key: str) -> bytes | None:
    try:
        return store.get(key)
    except NotFoundError:
        return None
