"""The object store: one verified way to put bytes somewhere and to get exactly those bytes back."""

import os

from raytrain_core.storage.local import LocalStore
from raytrain_core.storage.location import StorageLocation, location_of
from raytrain_core.storage.reread import RereadStore
from raytrain_core.storage.store import AlreadyExistsError, CorruptError, NotFoundError, Stat, Store, Stored
from raytrain_core.storage.uri import FolderUri, check_endpoint, parse_uri

__all__ = [
    "AlreadyExistsError",
    "CorruptError",
    "LocalStore",
    "NotFoundError",
    "RereadStore",
    "Stat",
    "StorageLocation",
    "Store",
    "Stored",
    "open_like",
    "open_store",
]


def open_store(location: StorageLocation | str) -> Store:
    """Returns the store at a location.

    A bare URI stands for a location without endpoint and region.

    The URI is a folder (a path or file://...) or s3://bucket/prefix; anything else raises
    UsageError. Without an endpoint, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or AWS itself is used.
    Nothing is contacted here (`raytrain_core.storage.probe.probe` does that).
    """
    if isinstance(location, str):
        location = location_of(location)
    parsed = parse_uri(location.uri)
    if isinstance(parsed, FolderUri):
        return LocalStore(parsed.path)
    from raytrain_core.storage.s3 import S3Store

    endpoint = location.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
    return S3Store(parsed.bucket, parsed.prefix, check_endpoint(endpoint) if endpoint else None, location.region)


def open_like(store: Store | None, uri: str) -> Store:
    """Returns the store at `uri`, reached like `store`.

    If both are in S3, endpoint and region are those of `store`: a job's sources and models are read
    where its storage is.
    """
    if uri.startswith("s3://"):
        from raytrain_core.storage.s3 import S3Store

        if isinstance(store, S3Store):
            parse_uri(uri)
            return open_store(StorageLocation(uri=uri, endpoint=store.endpoint, region=store.region))
    return open_store(uri)
