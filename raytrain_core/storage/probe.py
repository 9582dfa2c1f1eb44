"""Tests whether a store supports every operation that a run needs."""

from uuid import uuid4

from raytrain_core.errors import StorageError
from raytrain_core.storage.local import LocalStore
from raytrain_core.storage.store import AlreadyExistsError, BucketStore, Store


def probe(store: Store) -> tuple[str, ...]:
    """Writes, reads, lists, conditionally writes and deletes one small object.

    Returns what the store does not support and what is done instead, a sentence each. Raises
    StorageError if something fails for which there is no substitute.

    Gives up after a few seconds, while normal requests are retried for more than a minute. In a
    local folder, it also removes unfinished files of killed writers.
    """
    if isinstance(store, LocalStore):
        store.sweep()
    elif isinstance(store, BucketStore):
        store = store.impatient()
    key, data = f"probes/{uuid4().hex}", b"raytrain looks whether it can store things here; this file can go\n"
    store.put(key, data, if_absent=True)
    try:
        if store.get(key) != data or [stat.key for stat in store.list(key)] != [key]:
            raise StorageError(f"{store.uri}: an object just written does not read back or is not listed")
        try:
            store.put(key, b"second", if_absent=True)
        except AlreadyExistsError:
            pass
        else:
            raise StorageError(
                f"{store.uri}: the store ignores conditional writes (If-None-Match), "
                "so two drivers of one run could not detect each other",
                hint="Use a store that supports them, such as AWS S3, SeaweedFS or MinIO.",
            )
    finally:
        store.delete([key])
    return tuple(sorted(store.limits)) if isinstance(store, BucketStore) else ()
