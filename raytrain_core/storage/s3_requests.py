"""Requests to a bucket: renewed credentials, repeated bodies, errors as sentences."""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import (
    ClientError,
    ConnectionError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)
from s3transfer.exceptions import RetriesExceededError

from raytrain_core.errors import StorageError
from raytrain_core.storage.s3_answers import Limit, is_web_page, metadata_of, needed
from raytrain_core.storage.s3_client import Connection, connect
from raytrain_core.storage.s3_errors import (
    S3_ERRORS,
    code_of,
    explain,
    is_about_credentials,
    may_be_unsupported,
    not_s3,
    status_of,
)
from raytrain_core.storage.store import CorruptError, sha256_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CORRUPT_TRIES = 3
_CUT_TRIES = 5
_TOKEN_FILE = "AWS_WEB_IDENTITY_TOKEN_FILE"  # read again whenever credentials are renewed
_FILE_ERRORS = (FileNotFoundError, PermissionError)
_LOG = logging.getLogger(__name__)

CUT = (HTTPClientError, ConnectionError, IncompleteReadError, RetriesExceededError)
T = TypeVar("T")

# Signals to the caller; StorageErrors, so that an unexpected one is still a message for the user.


class CutError(StorageError):
    """The connection broke within a body."""


class DamagedError(StorageError):
    """A body does not match its size or checksum."""


class RefusedError(StorageError):
    """A condition was not met (412, 409), or the multipart upload is gone (404)."""

    def __init__(self, place: str, status: int) -> None:
        super().__init__(f"{place}: the store refused a conditional request ({status})")
        self.status = status


class UnsupportedError(StorageError):
    """The store may not know the operation, or a header of it."""


class S3Requests:
    """Requests to one bucket: connects at first use, renews credentials, explains errors.

    What the store turned out not to support is in `limits`. Thread-safe.
    """

    def __init__(self, bucket: str, endpoint: str | None, region: str | None, attempts: int) -> None:
        self.bucket, self.endpoint, self.region, self.attempts = bucket, endpoint, region, attempts
        self.limits: set[Limit] = set()
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    def _connect(self) -> Connection:
        with self._lock:
            if self._connection is None:
                try:
                    self._connection = connect(self.bucket, self.endpoint, self.region, self.attempts)
                except (*S3_ERRORS, OSError) as error:  # OSError: a file with credentials
                    raise explain(
                        error, "connect", self.bucket, "", endpoint=self.endpoint, source="AWS configuration"
                    ) from error
            return self._connection

    def _renewed(self, used: Connection) -> bool:
        """Whether credentials have changed since these were refused (a rotated file or token)."""
        with self._lock:
            if self._connection is not used:  # another thread has renewed them
                return True
            fresh = connect(self.bucket, self.endpoint, self.region, self.attempts)
            if fresh.credentials is None or fresh.credentials == used.credentials:
                return False
            self._connection = fresh
            return True

    def run(self, verb: str, full: str, call: Callable[["S3Client"], T]) -> T:
        """Makes a call and turns errors into messages.

        Repeats it if credentials were renewed meanwhile.
        """
        for last in (False, True):
            connection = self._connect()
            try:
                return call(connection.client)
            except (*S3_ERRORS, *_FILE_ERRORS) as error:
                if isinstance(error, _FILE_ERRORS) and error.filename != os.environ.get(_TOKEN_FILE):
                    raise
                if is_about_credentials(error) and not last and self._renewed(connection):
                    continue
                if code_of(error) in ("BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"):
                    raise DamagedError(code_of(error)) from error
                if code_of(error) in ("PreconditionFailed", "412"):
                    raise RefusedError(self.place(full), 412) from error
                if code_of(error) in ("ConditionalRequestConflict", "OperationAborted", "409"):
                    raise RefusedError(self.place(full), 409) from error
                if code_of(error) == "NoSuchUpload":
                    raise RefusedError(self.place(full), 404) from error
                explained = explain(error, verb, self.bucket, full, endpoint=self.endpoint, source=connection.source)
                if may_be_unsupported(error):
                    raise UnsupportedError(explained.message, hint=explained.hint) from error
                raise explained from error
        raise AssertionError("unreachable")

    def or_instead(self, limit: Limit, call: Callable[[], T], instead: Callable[[], T]) -> T:
        """Makes a call; if the store does not support it, the other one, from then on."""
        if limit not in self.limits:
            try:
                return call()
            except UnsupportedError:
                result = instead()  # only if this succeeds, the limit was the reason
                self.note(limit)
                return result
        return instead()

    def note(self, limit: Limit) -> None:
        """Logs, once, what the store does not support."""
        if limit not in self.limits:
            self.limits.add(limit)
            _LOG.warning("%s at %s: %s", f"s3://{self.bucket}", self.endpoint or "AWS", limit.value)

    def needed(self, answer: Mapping[str, Any], name: str, full: str) -> Any:
        """Returns a field of an answer; StorageError if it is missing."""
        return needed(answer, name, self.place(full), self.endpoint)

    def place(self, full: str) -> str:
        """The URI of an object, for messages."""
        return f"s3://{self.bucket}/{full}"

    def head(self, full: str, **more: Any) -> dict[str, Any] | None:
        """Returns HeadObject's response; None if the key does not exist."""

        def ask(client: "S3Client") -> dict[str, Any] | None:
            try:
                return dict(client.head_object(Bucket=self.bucket, Key=full, **more))
            except ClientError as error:
                if status_of(error) == 404:
                    return None
                if status_of(error) in (400, 403):  # a HEAD has no body with the reason: use GET
                    with suppress(client.exceptions.NoSuchKey):
                        client.get_object(Bucket=self.bucket, Key=full, Range="bytes=0-0")["Body"].close()
                raise

        return self.run("read", full, ask)

    def read(self, full: str, sha256: str | None) -> tuple[bytes, dict[str, Any]]:
        """Returns bytes and headers of a small object, verified by `sha256` or its metadata."""

        def read(client: "S3Client") -> tuple[bytes, dict[str, Any]]:
            answer: dict[str, Any] = dict(client.get_object(Bucket=self.bucket, Key=full))
            try:
                data = answer["Body"].read()
            except FlexibleChecksumError as error:
                raise DamagedError(str(error)) from error
            except CUT as error:
                raise CutError(str(error)) from error
            expected = sha256 or metadata_of(answer).get("sha256")
            if is_web_page(data) and (expected not in (None, sha256_of(data)) or "ETag" not in answer):
                raise not_s3(self.place(full), self.endpoint or "AWS", "it is a web page")
            if expected is not None and sha256_of(data) != expected:
                raise DamagedError(f"received sha256 {sha256_of(data)}, expected {expected}")
            return data, answer

        return self.with_body(full, read)

    def with_body(self, full: str, read: Callable[["S3Client"], T]) -> T:
        """Reads a body; repeats the request if the connection broke or the body was damaged."""
        cuts = damages = 0
        while True:
            try:
                return self.run("read", full, read)
            except DamagedError as error:
                damages += 1
                if damages == CORRUPT_TRIES:
                    raise CorruptError(f"{self.place(full)}: damaged: {error} ({CORRUPT_TRIES} tries)") from None
            except CutError as error:
                cuts += 1
                if cuts == _CUT_TRIES:
                    raise StorageError(
                        f"{self.place(full)}: the connection broke {cuts} times while reading ({error})",
                        hint="Check the network; run the same command again.",
                    ) from None
                time.sleep(0.1 * 2**cuts)

    def sha256_stored(self, client: "S3Client", full: str) -> str:
        """Reads an object and returns its sha256; raises CutError or DamagedError."""
        digest = hashlib.sha256()
        try:
            for chunk in client.get_object(Bucket=self.bucket, Key=full)["Body"].iter_chunks(1 << 20):
                digest.update(chunk)
        except FlexibleChecksumError as error:
            raise DamagedError(str(error)) from error
        except CUT as error:
            raise CutError(str(error)) from error
        return digest.hexdigest()
