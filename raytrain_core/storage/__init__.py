"""The object store: one verified way to put bytes somewhere and to get exactly those bytes back."""

import os

from raytrain_core.storage.local import LocalStore
from raytrain_core.storage.store import AlreadyExistsError, CorruptError, NotFoundError, Stat, Store, Stored
from raytrain_core.storage.uri import FolderUri, check_endpoint, parse_uri

__all__ = [
    "AlreadyExistsError",
    "CorruptError",
    "LocalStore",
    "NotFoundError",
    "Stat",
    "Store",
    "Stored",
    "open_beside",
    "open_store",
]


def open_store(uri: str, *, endpoint: str | None = None, region: str | None = None) -> Store:
    """The store that `uri` names: a folder (path or file://) or s3://bucket/prefix; UsageError for anything else.

    `endpoint` is the address of an S3-compatible server; without it AWS_ENDPOINT_URL_S3,
    AWS_ENDPOINT_URL, or AWS itself is used. Nothing is contacted here
    (`raytrain_core.storage.probe.probe` does).
    """
    place = parse_uri(uri)
    if isinstance(place, FolderUri):
        return LocalStore(place.path)
    from raytrain_core.storage.s3 import S3Store

    address = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
    return S3Store(place.bucket, place.prefix, check_endpoint(address) if address else None, region)


def open_beside(uri: str, store: Store | None) -> Store:
    """The store that `uri` names, where a job with its own `store` names further places, as for its sources.

    An s3:// URI is looked for where `store` is, at its endpoint and in its region, if that is in S3
    too.
    """
    if uri.startswith("s3://"):
        from raytrain_core.storage.s3 import S3Store

        if isinstance(store, S3Store):
            return open_store(uri, endpoint=store.endpoint, region=store.region)
    return open_store(uri)
