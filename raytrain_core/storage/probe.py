"""Ask a store, before anything long begins, whether it can be used as everything else will use it."""

from uuid import uuid4

from raytrain_core.errors import StorageError
from raytrain_core.storage.local import LocalStore
from raytrain_core.storage.store import AlreadyExistsError, Store

_QUICK_ATTEMPTS = 3


def probe(store: Store) -> None:
    """Write, read, list, refuse to overwrite, and delete one small object; StorageError says what does not work.

    Gives up after a few seconds where the store itself is patient for more than a minute. In a
    folder it also clears away what killed writers left half-written.
    """
    if isinstance(store, LocalStore):
        store.sweep()
    else:
        from raytrain_core.storage.s3 import S3Store

        if isinstance(store, S3Store):
            store = S3Store(store.bucket, store.prefix, store.endpoint, store.region, attempts=_QUICK_ATTEMPTS)
    key, data = f"probes/{uuid4().hex}", b"raytrain looks whether it can store things here; this file can go\n"
    store.put(key, data, if_absent=True)
    try:
        if store.get(key) != data or [stat.key for stat in store.list(key)] != [key]:
            raise StorageError(f"{store.uri}: what was just written does not read back or is not listed")
        try:
            store.put(key, b"second", if_absent=True)
        except AlreadyExistsError:
            pass
        else:
            raise StorageError(
                f"{store.uri}: the store ignores conditional writes (If-None-Match), "
                "so two drivers of one run would not notice each other",
                hint="Use a store that honours them: AWS S3, SeaweedFS, MinIO and others do.",
            )
    finally:
        store.delete([key])
