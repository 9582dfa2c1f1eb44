"""Turns botocore's errors into one sentence each."""

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    SSLError,
    SSOError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from raytrain_core.errors import StorageError
from raytrain_core.storage.store import NotFoundError

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
_CERTIFICATE = ("certificate verify failed", "CERTIFICATE_VERIFY_FAILED", "doesn't match", "Hostname mismatch")
_NOT_TLS = ("WRONG_VERSION_NUMBER", "wrong version number", "UNKNOWN_PROTOCOL", "record layer failure")
_FULL = {"InsufficientStorage", "XMinioStorageFull", "QuotaExceeded", "StorageFull", "507"}


class RetriesExhaustedError(Exception):
    """A server error lasted longer than the deadline."""

    def __init__(self, status: int, code: str, attempts: int) -> None:
        super().__init__(f"{status} {code}")
        self.status, self.code, self.attempts = status, code, attempts


UNSUPPORTED_CODES = {
    *("NotImplemented", "XNotImplemented", "MethodNotAllowed", "UnsupportedOperation", "UnsupportedHeader"),
    *("NotSupported", "InvalidRequest", "InvalidArgument", "MalformedXML", "BadRequest", "400", "405", "501"),
}
S3_ERRORS = (BotoCoreError, ClientError, RetriesExhaustedError)


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


def may_be_unsupported(error: BaseException) -> bool:
    """Whether the store may not know the operation or one of its headers (400, 405, 501)."""
    return status_of(error) in (400, 405, 501) and (code_of(error) in UNSUPPORTED_CODES or status_of(error) == 501)


def is_lasting(error: BaseException) -> bool:
    """Whether a connection fails at every try: a wrong certificate, https at an http server."""
    return isinstance(error, SSLError) and any(word in str(error) for word in _CERTIFICATE + _NOT_TLS)


def not_s3(place: str, at: str, what: str) -> StorageError:
    """Returns the error for an answer that no S3 server gives."""
    return StorageError(
        f"{place} at {at}: the answer is not S3's: {what}",
        hint="Is storage.endpoint (or AWS_ENDPOINT_URL) an S3 server? A proxy or a login page may answer instead.",
    )


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
    if isinstance(error, ResponseParserError):
        return not_s3(place, at, _short(error))
    if 300 <= status < 400 and code not in _ELSEWHERE:
        return not_s3(place, at, f"it redirects ({status})")
    if isinstance(error, SSLError) and (found := _tls_error(error, bucket, at)) is not None:
        return found
    if isinstance(error, OSError) and error.filename is not None:
        return StorageError(
            f"s3://{bucket} at {at}: cannot get credentials: {error.filename}: {error.strerror or error}",
            hint="Correct AWS_WEB_IDENTITY_TOKEN_FILE or the profile that names it; in a pod, the service account.",
        )
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
    if may_be_unsupported(error):
        return StorageError(
            f"{place} at {at}: the store does not support what was asked when told to {verb} ({status} {code}): "
            f"{_short(error)}",
            hint="Use a store that does, such as AWS S3, SeaweedFS, MinIO or Ceph, or a newer version of this one.",
        )
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


def _tls_error(error: SSLError, bucket: str, at: str) -> StorageError | None:
    text = str(error)
    if any(word in text for word in _NOT_TLS):
        return StorageError(f"s3://{bucket}: {at} does not speak TLS", hint="Write http:// in storage.endpoint.")
    if any(word in text for word in _CERTIFICATE):
        return StorageError(
            f"s3://{bucket}: the certificate of {at} is not trusted ({_reason(text)})",
            hint="Set AWS_CA_BUNDLE to the file with the certificate of your authority (in a cluster: mount it "
            "and set the variable with cluster.podTemplate).",
        )
    return None


def _reason(text: str) -> str:
    """The words of OpenSSL within the exception."""
    _, found, rest = text.partition("certificate verify failed: ")
    return rest.partition(" (_ssl")[0] if found else _short(ValueError(text))


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "..."
