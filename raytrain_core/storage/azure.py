"""Requests to a container of an Azure storage account, by its own client.

Each block carries an MD5 that the server compares. Azure computes none of the whole, so what was
written is read back. An object's version is its ETag.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.storage.blob import ContainerClient, ExponentialRetry

from raytrain_core.storage.bucket_uri import BucketUri
from raytrain_core.storage.object_errors import (
    Kind,
    ObjectError,
    Place,
    explain,
    kind_of_connection,
    kind_of_status,
)
from raytrain_core.storage.objects import Bucket, Head
from raytrain_core.storage.uri import parse_uri

_BLOCK = 8 << 20  # bytes of a block; a container takes 50,000 of them: 390 GiB
_THREADS = 4
_CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
_ACCOUNT = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
_KEY = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY")
_SAS = ("AZURE_STORAGE_SAS_TOKEN",)
_KINDS = {
    "ContainerNotFound": Kind.NO_BUCKET,
    "ContainerBeingDeleted": Kind.NO_BUCKET,
    "BlobNotFound": Kind.ABSENT,
    "BlobAlreadyExists": Kind.REFUSED,
    "ConditionNotMet": Kind.REFUSED,
    "TargetConditionNotMet": Kind.REFUSED,
    "Md5Mismatch": Kind.DAMAGED,
    "AuthenticationFailed": Kind.WRONG_CREDENTIALS,
    "InvalidAuthenticationInfo": Kind.WRONG_CREDENTIALS,
    "AuthorizationFailure": Kind.DENIED,
    "AuthorizationPermissionMismatch": Kind.DENIED,
    "InsufficientAccountPermissions": Kind.DENIED,
}
"""Azure's error codes: learn.microsoft.com/rest/api/storageservices/blob-service-error-codes."""

T = TypeVar("T")


def open_bucket(uri: str, endpoint: str | None, patience: float) -> Bucket:
    """Finds account and credentials and returns the container; contacts nothing yet.

    Raises StorageError if no account is named anywhere, or a credential cannot be read.
    """
    parsed = parse_uri(uri)
    assert isinstance(parsed, BucketUri)
    connection = _connection_string()
    address = endpoint or (f"https://{parsed.host}" if parsed.host else "") or connection.get("BlobEndpoint", "")
    named, source, account = f"{parsed.scheme}://{parsed.authority}", "the environment", _account(parsed, connection)
    if not address and account:
        suffix = connection.get("EndpointSuffix", "core.windows.net")
        address = f"https://{account}.blob.{suffix}"
    place = Place(named, address or "Azure", source, _HOW, "REQUESTS_CA_BUNDLE")
    if not address:
        told = ObjectError(Kind.NO_CREDENTIALS, "no storage account is named")
        raise explain(told, "connect", "", place)
    try:
        credential, source = _credential(account, connection, address)
        client = ContainerClient(
            address.rstrip("/"),
            parsed.bucket,
            credential=credential,
            retry_policy=_retries(patience),
            connection_timeout=5,
            read_timeout=60,
            max_single_put_size=_BLOCK,
            max_block_size=_BLOCK,
            max_single_get_size=64 << 20,  # ranges are asked for one by one
        )
    except (AzureError, ValueError, ImportError) as error:
        if isinstance(error, ModuleNotFoundError):
            raise
        raise explain(ObjectError(Kind.NO_CREDENTIALS, str(error)), "connect", "", place) from None
    return AzureContainer(client, Place(named, address, source, _HOW, "REQUESTS_CA_BUNDLE"))


_HOW = (
    f"Name the account (abfs://container@account.dfs.core.windows.net/prefix, or {_ACCOUNT[0]}), and sign in: "
    f"{_KEY[0]}, {_SAS[0]}, {_CONNECTION}, `az login`, or the pod's service account (workload identity)."
)


class AzureContainer:
    """The requests to one container."""

    def __init__(self, client: ContainerClient, place: Place) -> None:
        self.place, self._client = place, client

    def write(self, key: str, content: bytes | Path, metadata: Mapping[str, str], *, if_absent: bool) -> None:
        """Sends a body at once; a file in blocks, which the last request makes an object."""
        more: dict[str, Any] = {"metadata": dict(metadata), "overwrite": not if_absent, "validate_content": True}
        blob = self._client.get_blob_client(key)
        if isinstance(content, bytes):
            _told(lambda: blob.upload_blob(content, length=len(content), **more))
            return
        with content.open("rb") as file:
            size = content.stat().st_size
            _told(lambda: blob.upload_blob(file, length=size, max_concurrency=_THREADS, **more))

    def head(self, key: str) -> Head | None:
        """Asks for the blob's properties."""
        try:
            return _head(_told(self._client.get_blob_client(key).get_blob_properties))
        except ObjectError as error:
            if error.kind is Kind.ABSENT:
                return None
            raise

    def read(self, key: str, start: int, end: int, etag: str) -> bytes:
        """Asks for a range of one ETag."""
        blob = self._client.get_blob_client(key)

        def read() -> bytes:
            found = blob.download_blob(
                offset=start, length=end - start, etag=f'"{etag}"', match_condition=MatchConditions.IfNotModified
            )
            return bytes(found.readall())

        return _told(read)

    def list(self, prefix: str) -> Iterable[tuple[str, Head]]:
        """Lists 5,000 blobs a request."""
        found = _told(lambda: list(self._client.list_blobs(name_starts_with=prefix or None)))
        return [(str(blob.name), _head(blob)) for blob in found]

    def delete(self, key: str) -> None:
        """Deletes the blob and its snapshots."""
        _told(lambda: self._client.get_blob_client(key).delete_blob(delete_snapshots="include"))

    def checksum(self, content: bytes | Path) -> str | None:
        """Azure tells none of what it stored."""
        return None


def _head(found: Any) -> Head:
    return Head(int(found.size), str(found.etag).strip('"'), found.last_modified.timestamp(), found.metadata or {})


def _first(names: tuple[str, ...]) -> tuple[str, str]:
    """The first of the variables that is set, and its value."""
    return next(((name, os.environ[name]) for name in names if os.environ.get(name)), ("", ""))


def _connection_string() -> dict[str, str]:
    parts = os.environ.get(_CONNECTION, "").split(";")
    return {name.strip(): value.strip() for name, found, value in (part.partition("=") for part in parts) if found}


def _account(parsed: BucketUri, connection: Mapping[str, str]) -> str:
    return parsed.host.partition(".")[0] or _first(_ACCOUNT)[1] or connection.get("AccountName", "")


def _credential(account: str, connection: Mapping[str, str], address: str) -> tuple[Any, str]:
    """Returns what signs requests, and where it came from: a key, a signature, else an identity."""
    (key_from, key), (sas_from, sas) = _first(_KEY), _first(_SAS)
    if key:
        return {"account_name": account or _account_in(address), "account_key": key}, f"the variable {key_from}"
    if sas:
        from azure.core.credentials import AzureSasCredential

        return AzureSasCredential(sas.lstrip("?")), f"the variable {sas_from}"
    if connection.get("AccountKey"):
        return {
            "account_name": connection.get("AccountName", account),
            "account_key": connection["AccountKey"],
        }, f"the variable {_CONNECTION}"
    if connection.get("SharedAccessSignature"):
        from azure.core.credentials import AzureSasCredential

        return AzureSasCredential(connection["SharedAccessSignature"].lstrip("?")), f"the variable {_CONNECTION}"
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential(), "Azure's default credentials (environment, workload identity, az login)"


def _account_in(address: str) -> str:
    """The account in an address: account.blob.core.windows.net, or 127.0.0.1:10000/account."""
    parts = urlsplit(address)
    return parts.path.strip("/") or (parts.hostname or "").partition(".")[0]


def _retries(patience: float) -> ExponentialRetry:
    """Waits 1, 3, 5, 9, 17, ... seconds, as long as `patience` lasts."""
    waits = list(accumulate([1.0, *(1.0 + 2.0**number for number in range(1, 20))]))
    times = sum(1 for waited in waits if waited <= patience)
    return ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=times, random_jitter_range=1)


def _told(call: Callable[[], T]) -> T:
    """Makes a call; its errors become an `ObjectError`."""
    try:
        return call()
    except AzureError as error:
        raise _error(error) from error


def _error(error: AzureError) -> ObjectError:
    """Tells the client's errors apart."""
    text = str(error.message or error)
    if isinstance(error, (IncompleteReadError, ServiceResponseError)):
        return ObjectError(Kind.CUT, text)
    if isinstance(error, ServiceRequestError):
        return ObjectError(kind_of_connection(text), text)
    if isinstance(error, HttpResponseError) and error.status_code:
        code = getattr(error, "error_code", None) or ""
        code = str(getattr(code, "value", code))  # an enum for the codes that the client knows
        return ObjectError(_KINDS.get(code, kind_of_status(error.status_code)), text, code or str(error.status_code))
    if isinstance(error, ClientAuthenticationError):  # of azure.identity: no request was answered
        return ObjectError(Kind.NO_CREDENTIALS, text)
    return ObjectError(Kind.OTHER, text)
