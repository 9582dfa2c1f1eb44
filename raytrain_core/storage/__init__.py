"""The object store: one verified way to put bytes somewhere and to get exactly those bytes back."""

import os

from raytrain_core.extras import MissingExtraError, how_to_install
from raytrain_core.storage.bucket_uri import BucketUri, Cloud, cloud_of
from raytrain_core.storage.local import LocalStore
from raytrain_core.storage.location import StorageLocation, location_of
from raytrain_core.storage.reread import RereadStore
from raytrain_core.storage.store import (
    AlreadyExistsError,
    BucketStore,
    CorruptError,
    NotFoundError,
    Stat,
    Store,
    Stored,
)
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

_ENDPOINTS: dict[Cloud, tuple[str, ...]] = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "gcs": ("STORAGE_EMULATOR_HOST",),
    "azure": ("AZURE_STORAGE_ENDPOINT",),
}
"""The environment variables that name the address of a server."""


def open_store(location: StorageLocation | str) -> Store:
    """Returns the store at a location.

    A bare URI stands for a location without endpoint and region.

    The URI is a folder (a path or file://...), s3://bucket/prefix, gs://bucket/prefix,
    az://container/prefix or abfs://container@account.dfs.core.windows.net/prefix; anything else
    raises UsageError. Without an endpoint, that of the environment (AWS_ENDPOINT_URL_S3,
    AWS_ENDPOINT_URL, STORAGE_EMULATOR_HOST, AZURE_STORAGE_ENDPOINT) or the cloud itself is used.
    Raises MissingExtraError where the cloud's client is not installed. Nothing is contacted here
    (`raytrain_core.storage.probe.probe` does that).
    """
    if isinstance(location, str):
        location = location_of(location)
    parsed = parse_uri(location.uri)
    if isinstance(parsed, FolderUri):
        return LocalStore(parsed.path)
    return _open_bucket(parsed, location)


def _open_bucket(parsed: BucketUri, location: StorageLocation) -> Store:
    named = next((value for name in _ENDPOINTS[parsed.cloud] if (value := os.environ.get(name))), None)
    endpoint = location.endpoint or named
    if parsed.cloud == "gcs" and endpoint and "://" not in endpoint:  # as Google's own tools write it
        endpoint = f"http://{endpoint}"
    endpoint = check_endpoint(endpoint) if endpoint else None
    if parsed.cloud == "s3":
        from raytrain_core.storage.s3 import S3Store

        return S3Store(parsed.bucket, parsed.prefix, endpoint, location.region)
    try:
        if parsed.cloud == "gcs":
            from raytrain_core.storage.gcs import open_bucket
        else:
            from raytrain_core.storage.azure import open_bucket
    except ModuleNotFoundError as error:
        missing = MissingExtraError(
            f"{location.uri} needs the package {error.name}, which is not installed", hint=how_to_install(parsed.cloud)
        )
        raise missing from None
    from raytrain_core.storage.objects import ObjectStore

    return ObjectStore(str(parsed), parsed.prefix, endpoint, open_bucket)


def open_like(store: Store | None, uri: str) -> Store:
    """Returns the store at `uri`, reached like `store`.

    If both are in the same cloud, endpoint and region are those of `store`: a job's sources and
    models are read where its storage is.
    """
    if isinstance(store, BucketStore) and cloud_of(uri) == cloud_of(store.uri):
        parse_uri(uri)
        return open_store(StorageLocation(uri=uri, endpoint=store.endpoint, region=store.region))
    return open_store(uri)
