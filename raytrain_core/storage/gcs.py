"""Requests to a bucket of Google Cloud Storage, by its own client (JSON API).

Bodies carry a CRC32C that the server compares, and the server tells the CRC32C of what it stored.
An object's version is its generation.
"""

import base64
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import google_crc32c
import requests
from google.api_core import exceptions as api
from google.api_core.client_options import ClientOptions
from google.auth import default as default_credentials
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.exceptions import GoogleCloudError
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

from raytrain_core.storage.bucket_uri import BucketUri
from raytrain_core.storage.object_errors import Kind, ObjectError, Place, explain, kind_of_connection, kind_of_status
from raytrain_core.storage.objects import PART, Bucket, Head
from raytrain_core.storage.store import CHUNK
from raytrain_core.storage.uri import parse_uri

_KEY_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
_TIMEOUT = (5.0, 60.0)  # seconds to connect, and between two packets
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_ERRORS = (
    *(GoogleCloudError, api.RetryError, auth.GoogleAuthError, requests.exceptions.RequestException),
    *(DataCorruption, InvalidResponse),
)
T = TypeVar("T")


def open_bucket(uri: str, endpoint: str | None, patience: float) -> Bucket:
    """Finds credentials and returns the bucket of a gs:// URI; contacts no bucket yet.

    Nothing is signed over http:// (an emulator): a token would be readable on the way.
    """
    parsed = parse_uri(uri)
    assert isinstance(parsed, BucketUri)
    place = _place(f"gs://{parsed.bucket}", endpoint)
    options = ClientOptions(api_endpoint=endpoint) if endpoint else None
    try:
        credentials: Any = AnonymousCredentials()  # type: ignore[no-untyped-call]
        if endpoint is None or not endpoint.startswith("http://"):
            credentials, _ = default_credentials(scopes=[_SCOPE])
        client = storage.Client(project="raytrain", credentials=credentials, client_options=options)
    except (auth.GoogleAuthError, OSError, ValueError) as error:
        reason = str(error.args[0]) if isinstance(error, auth.GoogleAuthError) and error.args else str(error)
        raise explain(ObjectError(Kind.NO_CREDENTIALS, reason), "connect", "", place) from None
    return GcsBucket(client, parsed.bucket, place, patience)


class GcsBucket:
    """The requests to one bucket."""

    def __init__(self, client: Any, bucket: str, place: Place, patience: float) -> None:
        self.place = place
        self._client, self._bucket = client, client.bucket(bucket)
        self._common = {"timeout": _TIMEOUT, "retry": DEFAULT_RETRY.with_timeout(patience)}

    def write(self, key: str, content: bytes | Path, metadata: Mapping[str, str], *, if_absent: bool) -> None:
        """Sends a body at once, a file in blocks (a resumable upload, visible at its end)."""
        blob = self._bucket.blob(key, chunk_size=PART if isinstance(content, Path) else None)
        blob.metadata = dict(metadata)
        more = self._common | ({"if_generation_match": 0} if if_absent else {}) | {"checksum": "crc32c"}
        if isinstance(content, Path):
            _told(lambda: blob.upload_from_filename(str(content), **more), missing=Kind.NO_BUCKET)
        else:
            _told(lambda: blob.upload_from_string(content, **more), missing=Kind.NO_BUCKET)

    def head(self, key: str) -> Head | None:
        """Asks for the object's fields."""
        blob = self._bucket.blob(key)
        try:
            _told(lambda: blob.reload(**self._common))
        except ObjectError as error:
            if error.kind is Kind.ABSENT:
                return None
            raise
        return _head(blob)

    def read(self, key: str, start: int, end: int, etag: str) -> bytes:
        """Asks for a range of one generation."""
        blob = self._bucket.blob(key)
        return bytes(
            _told(
                lambda: blob.download_as_bytes(
                    start=start, end=end - 1, if_generation_match=int(etag), checksum=None, **self._common
                )
            )
        )

    def list(self, prefix: str) -> Iterable[tuple[str, Head]]:
        """Lists a thousand objects a request."""
        found = _told(
            lambda: list(self._client.list_blobs(self._bucket, prefix=prefix, **self._common)), missing=Kind.NO_BUCKET
        )
        return [(str(blob.name), _head(blob)) for blob in found]

    def delete(self, key: str) -> None:
        """Deletes the newest generation."""
        _told(lambda: self._bucket.blob(key).delete(**self._common))

    def checksum(self, content: bytes | Path) -> str | None:
        """CRC32C as GCS writes it, base64."""
        found: Any = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
        if isinstance(content, Path):
            with content.open("rb") as file:
                while block := file.read(CHUNK):
                    found.update(block)
        else:
            found.update(content)
        return base64.b64encode(found.digest()).decode()


def _head(blob: Any) -> Head:
    if blob.size is None or blob.generation is None or blob.updated is None:
        raise ObjectError(Kind.OTHER, "the answer is not that of GCS: it has no size, generation or time")
    return Head(
        int(blob.size), str(blob.generation), blob.updated.timestamp(), blob.metadata or {}, blob.crc32c or None
    )


def _place(uri: str, endpoint: str | None) -> Place:
    key = os.environ.get(_KEY_FILE)
    return Place(
        uri,
        endpoint or "Google Cloud Storage",
        f"the file of {_KEY_FILE}" if key else "Google's default credentials (gcloud, or the service account)",
        f"Set {_KEY_FILE} to a key file, run `gcloud auth application-default login`, or bind the pod's service "
        "account to a Google one (workload identity).",
        "REQUESTS_CA_BUNDLE",
    )


def _told(call: Callable[[], T], *, missing: Kind = Kind.ABSENT) -> T:
    """Makes a call; its errors become an `ObjectError`. `missing` is what 404 means."""
    try:
        return call()
    except _ERRORS as error:
        raise _error(error, missing) from error


def _error(error: Exception, missing: Kind = Kind.ABSENT) -> ObjectError:  # noqa: PLR0911 - a table
    """Tells the client's errors apart."""
    if isinstance(error, api.RetryError) and isinstance(error.cause, Exception):
        return _error(error.cause, missing)
    text = str(error.args[0]) if isinstance(error, auth.GoogleAuthError) and error.args else str(error)
    if isinstance(error, auth.DefaultCredentialsError):
        return ObjectError(Kind.NO_CREDENTIALS, text)
    if isinstance(error, auth.RefreshError):
        return ObjectError(Kind.WRONG_CREDENTIALS, text, "RefreshError")
    if isinstance(error, DataCorruption):
        return ObjectError(Kind.DAMAGED, text)
    if isinstance(error, (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError)):
        return ObjectError(Kind.CUT, text)
    status = int(getattr(error, "code", 0) or getattr(getattr(error, "response", None), "status_code", 0) or 0)
    if status == 404:
        return ObjectError(Kind.NO_BUCKET if "bucket does not exist" in text else missing, text)
    if status == 400 and "crc32c" in text.lower():
        return ObjectError(Kind.DAMAGED, text)
    if status:
        return ObjectError(kind_of_status(status), text, str(status))
    return ObjectError(kind_of_connection(text), text)
