"""Configures the boto3 client and turns botocore's errors into one sentence each."""

import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)

from raytrain_core.errors import StorageError
from raytrain_core.storage.store import NotFoundError
from raytrain_core.storage.uri import refuse_metadata

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

ATTEMPTS = 20  # for one request; usually the deadline comes first
DEADLINE_SECONDS = 90.0  # a request is retried for so long after its first failure: an outage of a minute is survived
CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0

_WRONG_CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "AuthFailure",
}
_EXPIRED_CREDENTIALS = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
_DENIED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "Forbidden", "UnauthorizedAccess"}
_ABSENT = {"NoSuchKey", "404", "NotFound"}
_ELSEWHERE = {"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_FULL = {"InsufficientStorage", "XMinioStorageFull", "QuotaExceeded", "StorageFull", "507"}
_SOURCES = {
    "env": "the environment variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "shared-credentials-file": "the shared credentials file (~/.aws/credentials)",
    "config-file": "the AWS config file (~/.aws/config)",
    "assume-role": "an assumed role of the AWS config file",
    "assume-role-with-web-identity": "the web identity token of the service account",
    "sso": "AWS single sign-on",
    "iam-role": "the role of this machine",
    "container-role": "the role of this container",
}


class RetriesExhaustedError(Exception):
    """A server error lasted longer than the deadline."""

    def __init__(self, status: int, code: str, attempts: int) -> None:
        super().__init__(f"{status} {code}")
        self.status, self.code, self.attempts = status, code, attempts


S3_ERRORS = (BotoCoreError, ClientError, RetriesExhaustedError)


@dataclass(frozen=True, slots=True)
class Connection:
    """A client, its credentials (never shown) and where they came from."""

    client: "S3Client"
    credentials: tuple[str | None, ...] | None
    source: str


def connect(endpoint: str | None, region: str | None, attempts: int) -> Connection:
    """Creates a client in a new session, which looks up credentials again; contacts nothing yet.

    Uses path-style addresses with a custom endpoint, where virtual hosts seldom resolve. Raises
    UsageError if the endpoint resolves to a metadata service.
    """
    if endpoint is not None:
        _refuse_resolved_metadata(endpoint)
    session = boto3.session.Session()
    found = session.get_credentials()
    frozen = found.get_frozen_credentials() if found is not None else None
    client = session.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region or session.region_name or "us-east-1",
        config=Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            tcp_keepalive=True,
            max_pool_connections=16,
            s3={"addressing_style": "path" if endpoint else "auto"},
            request_checksum_calculation="when_required",  # we send SHA-256 ourselves
        ),
    )
    client.meta.events.register_first("needs-retry.s3", _keep_deadline)
    method = found.method if found is not None else ""
    return Connection(
        client,
        (frozen.access_key, frozen.secret_key, frozen.token) if frozen is not None else None,
        _SOURCES.get(method, method or "nowhere"),
    )


def _refuse_resolved_metadata(endpoint: str) -> None:
    with suppress(OSError):  # a name that cannot be resolved is reported at first use
        for *_, address in socket.getaddrinfo(urlsplit(endpoint).hostname, None, type=socket.SOCK_STREAM):
            refuse_metadata(str(address[0]))


def _keep_deadline(
    response: Any, attempts: int, caught_exception: BaseException | None, request_dict: dict[str, Any], **_: Any
) -> None:
    """Ends the retries of a request after the deadline.

    Botocore counts attempts but not seconds.
    """
    begun = request_dict["context"].setdefault("raytrain_first_answer", time.monotonic())
    if time.monotonic() - begun < DEADLINE_SECONDS:
        return
    if caught_exception is not None:
        raise caught_exception
    http, parsed = response
    if http.status_code >= 500 or http.status_code == 429:
        raise RetriesExhaustedError(http.status_code, str(parsed.get("Error", {}).get("Code", "")), attempts)


def code_of(error: BaseException) -> str:
    """Returns S3's error code, or the HTTP status as text without a body (HEAD).

    Empty for other errors.
    """
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return ""


def status_of(error: BaseException) -> int:
    """Returns the HTTP status of an error response, else 0."""
    if isinstance(error, ClientError):
        return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return error.status if isinstance(error, RetriesExhaustedError) else 0


def is_about_credentials(error: BaseException) -> bool:
    """Whether other credentials could help."""
    return isinstance(error, (NoCredentialsError, PartialCredentialsError)) or code_of(error) in (
        _WRONG_CREDENTIALS | _EXPIRED_CREDENTIALS
    )


def explain(  # noqa: C901, PLR0911, PLR0912 - a table of messages
    error: BaseException, verb: str, bucket: str, key: str, *, endpoint: str | None, source: str
) -> StorageError:
    """Returns the StorageError for a botocore error.

    It names bucket, endpoint and the source of the credentials, but no secret.
    """
    at = endpoint or "AWS"
    place = f"s3://{bucket}/{key}".rstrip("/")
    code, status = code_of(error), status_of(error)
    if code == "NoSuchBucket":
        return StorageError(
            f"s3://{bucket}: there is no such bucket at {at}",
            hint="Create it, or correct the storage URI, endpoint or region.",
        )
    if code in _ABSENT:
        return NotFoundError(f"{place}: no such object at {at}")
    if code in _WRONG_CREDENTIALS:
        return StorageError(
            f"s3://{bucket} at {at}: the credentials are wrong ({code}); they came from {source}",
            hint="Correct them there and run the same command again.",
        )
    if code in _EXPIRED_CREDENTIALS:
        return StorageError(
            f"s3://{bucket} at {at}: the credentials have expired ({code}); they came from {source}",
            hint="Renew them and run the same command again: the run continues where it stopped.",
        )
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return StorageError(
            f"s3://{bucket} at {at}: no complete credentials found",
            hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or assign a role to the pod.",
        )
    if isinstance(error, (CredentialRetrievalError, SSOError, TokenRetrievalError)):
        return StorageError(
            f"s3://{bucket} at {at}: cannot get credentials from {source}: {_short(error)}",
            hint="Log in again, or correct the role or profile.",
        )
    if code == "RequestTimeTooSkewed":
        return StorageError(
            f"s3://{bucket} at {at}: the clock of this machine is wrong (RequestTimeTooSkewed)", hint="Correct it."
        )
    if code in _DENIED:
        return StorageError(
            f"{place} at {at}: access denied: no permission to {verb}; the credentials came from {source}",
            hint="Allow reading, writing, listing and deleting under the storage URI.",
        )
    if code in _ELSEWHERE:
        return StorageError(
            f"s3://{bucket} at {at}: the bucket is in another region ({code})", hint="Set storage.region or AWS_REGION."
        )
    if code in _FULL or status == 507:
        return StorageError(f"{place} at {at}: the store is full ({code or status})", hint="Free some space there.")
    if isinstance(error, NoRegionError):
        return StorageError(f"s3://{bucket}: no region", hint="Set storage.region or AWS_REGION.")
    if isinstance(error, RetriesExhaustedError) or status >= 500 or status == 429:
        return StorageError(
            f"{place}: {at} kept answering {status} {code_of(error) or getattr(error, 'code', '')}".rstrip()
            + f" when asked to {verb}, through all retries",
            hint="The store is overloaded or down; run the same command again later.",
        )
    if isinstance(error, (ConnectionError, HTTPClientError)):
        return StorageError(
            f"s3://{bucket}: {at} cannot be reached ({_short(error)})",
            hint="Check storage.endpoint (or AWS_ENDPOINT_URL), DNS and the network.",
        )
    return StorageError(f"{place} at {at}: cannot {verb}: {_short(error)}")


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "..."
