"""What can go wrong with a bucket of GCS or a container of Azure: one sentence for each kind.

The sentences are those of S3 (`s3_errors`). The library's text is repeated only shortened and
without signatures.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from raytrain_core.errors import StorageError
from raytrain_core.storage.store import NotFoundError

_SECRET = re.compile(r"(?i)\b(sig|signature|token|key|access_token)=[^&\s'\"]+|\bBearer \S+|\bya29\.\S+")


class Kind(StrEnum):
    """What an error is about."""

    ABSENT = "absent"
    NO_BUCKET = "no bucket"
    REFUSED = "condition not met"
    DAMAGED = "arrived damaged"
    CUT = "the connection broke within a body"
    WRONG_CREDENTIALS = "wrong credentials"
    NO_CREDENTIALS = "no credentials"
    DENIED = "denied"
    FULL = "full"
    BUSY = "kept failing"
    UNREACHABLE = "unreachable"
    CERTIFICATE = "certificate"
    NOT_TLS = "not TLS"
    OTHER = "other"


class ObjectError(Exception):
    """An error of a library, told apart; `text` is what it said."""

    def __init__(self, kind: Kind, text: str, code: str = "") -> None:
        super().__init__(f"{kind}: {text}")
        self.kind, self.text, self.code = kind, shortened(text), code


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket as messages name it, and what to do about its credentials and address."""

    uri: str
    at: str
    credentials: str
    """Where the credentials came from."""
    how_to_sign_in: str
    bundle: str
    """The environment variable with the file of trusted certificates."""


def kind_of_connection(text: str) -> Kind:
    """Whether a connection failed for its certificate, for lack of TLS, or at all."""
    if "certificate verify failed" in text or "CERTIFICATE_VERIFY_FAILED" in text or "doesn't match" in text:
        return Kind.CERTIFICATE
    if "WRONG_VERSION_NUMBER" in text or "wrong version number" in text or "record layer failure" in text:
        return Kind.NOT_TLS
    return Kind.UNREACHABLE


def kind_of_status(status: int) -> Kind:
    """What an HTTP status alone says."""
    kinds = {404: Kind.ABSENT, 412: Kind.REFUSED, 401: Kind.WRONG_CREDENTIALS, 403: Kind.DENIED, 507: Kind.FULL}
    if status == 429 or (status >= 500 and status not in kinds):
        return Kind.BUSY
    return kinds.get(status, Kind.OTHER)


def explain(error: ObjectError, verb: str, key: str, place: Place) -> StorageError:
    """Returns the error for the user: where, what, and what to do."""
    whole = f"{place.uri}/{key}".rstrip("/")
    if error.kind is Kind.ABSENT:
        return NotFoundError(f"{whole}: no such object at {place.at}")
    message, hint = _sentence(error, verb, whole, place)
    return StorageError(message, hint=hint)


def _sentence(error: ObjectError, verb: str, whole: str, place: Place) -> tuple[str, str | None]:
    uri, at, code = place.uri, place.at, f" ({error.code})" if error.code else ""
    sentences: dict[Kind, tuple[str, str | None]] = {
        Kind.NO_BUCKET: (
            f"{uri}: there is no such bucket at {at}",
            "Create it, or correct the storage URI or the endpoint.",
        ),
        Kind.WRONG_CREDENTIALS: (
            f"{uri} at {at}: the credentials are wrong or have expired{code}; they came from {place.credentials}",
            "Correct or renew them there and run the same command again: a run continues where it stopped.",
        ),
        Kind.NO_CREDENTIALS: (f"{uri} at {at}: no usable credentials found ({error.text})", place.how_to_sign_in),
        Kind.DENIED: (
            f"{whole} at {at}: access denied{code}: no permission to {verb}; the credentials came from "
            f"{place.credentials}",
            "Allow reading, writing, listing and deleting under the storage URI.",
        ),
        Kind.FULL: (f"{whole} at {at}: the store is full{code}", "Free some space there."),
        Kind.BUSY: (
            f"{whole}: {at} kept failing{code} when asked to {verb}, through all retries",
            "The store is overloaded or down; run the same command again later.",
        ),
        Kind.UNREACHABLE: (
            f"{uri}: {at} cannot be reached ({reason(error.text)})",
            "Check storage.endpoint, DNS and the network.",
        ),
        Kind.CERTIFICATE: (
            f"{uri}: the certificate of {at} is not trusted",
            f"Set {place.bundle} to the file with the certificate of your authority (in a cluster: mount it and set "
            "the variable with cluster.podTemplate).",
        ),
        Kind.NOT_TLS: (f"{uri}: {at} does not speak TLS", "Write http:// in storage.endpoint."),
    }
    return sentences.get(error.kind, (f"{whole} at {at}: cannot {verb}: {error.text}", None))


def reason(text: str) -> str:
    """Returns why a connection failed, without the chain of exceptions around it."""
    found = re.search(r"(Failed to [^\"]+|Connection (?:refused|reset|aborted)[^\"]*|Read timed out[^\"]*)", text)
    return found[1].rstrip("')") if found else text


def shortened(text: str) -> str:
    """Returns the first line of a library's text without signatures, at most 300 characters."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
    line = _SECRET.sub("***", " ".join(line.split()))
    return line if len(line) <= 300 else line[:297] + "..."
