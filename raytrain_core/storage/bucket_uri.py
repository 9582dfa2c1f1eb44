"""URIs of buckets: s3://, gs://, and az:// or abfs:// (a container of an Azure storage account)."""

import re
from dataclasses import dataclass
from typing import Literal

from raytrain_core.errors import UsageError
from raytrain_core.storage.keys import check_key

Cloud = Literal["s3", "gcs", "azure"]

_CLOUDS: dict[str, Cloud] = {"s3": "s3", "gs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}
BUCKET_SCHEMES = frozenset(_CLOUDS)
"""Schemes of object stores that are read and written here."""

_ACCOUNT = re.compile(r"([a-z0-9-]+)@(?P<account>[a-z0-9]{3,24})\.(?:dfs|blob)\.(?P<suffix>[a-z0-9.-]+)")
_NAMES: dict[Cloud, tuple[re.Pattern[str], str]] = {
    "s3": (
        re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
        "Bucket names have 3 to 63 lower-case letters, digits, dots and dashes: s3://bucket/prefix.",
    ),
    "gcs": (
        re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"),
        "Bucket names have 3 to 63 lower-case letters, digits, dashes and underscores: gs://bucket/prefix.",
    ),
    "azure": (
        re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]"),
        "Container names have 3 to 63 lower-case letters, digits and single dashes: az://container/prefix, or "
        "abfs://container@account.dfs.core.windows.net/prefix.",
    ),
}


@dataclass(frozen=True, slots=True)
class BucketUri:
    """A bucket (in Azure a container) and a prefix in it, without slashes at the ends.

    The prefix may be empty. `authority` is what follows the scheme: the bucket, or
    `container@account.dfs.core.windows.net`.
    """

    scheme: str
    authority: str
    prefix: str

    @property
    def cloud(self) -> Cloud:
        """Whose protocol it is."""
        return _CLOUDS[self.scheme]

    @property
    def bucket(self) -> str:
        """The bucket, or the container."""
        return self.authority.partition("@")[0]

    @property
    def host(self) -> str:
        """The host of the account's blobs if the URI names it; empty otherwise."""
        named = _ACCOUNT.fullmatch(self.authority)
        return f"{named['account']}.blob.{named['suffix']}" if named else ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}/{self.prefix}".rstrip("/")


def is_in_bucket(uri: str) -> bool:
    """Whether a URI has the scheme of an object store."""
    scheme, found, _ = uri.partition("://")
    return bool(found) and scheme.lower() in BUCKET_SCHEMES


def cloud_of(uri: str) -> Cloud | None:
    """Whose protocol a URI means; None for what is in no bucket."""
    scheme, found, _ = uri.partition("://")
    return _CLOUDS.get(scheme.lower()) if found else None


def names_account(scheme: str, authority: str) -> bool:
    """Whether an authority with an @ is a container and its account."""
    return _CLOUDS.get(scheme) == "azure" and _ACCOUNT.fullmatch(authority) is not None


def bucket_uri(scheme: str, rest: str) -> BucketUri:
    """Parses what follows `scheme://`.

    Raises UsageError for a query or a name that no bucket has.
    """
    authority = rest.split("/", 1)[0]
    if "?" in rest or "#" in rest:
        raise UsageError(
            f"{scheme}://{authority.partition('?')[0]}/...: a storage URI must not have a query",
            hint=f"Write {scheme}://bucket/prefix.",
        )
    check_bucket(scheme, authority)
    prefix = "/".join(part for part in rest[len(authority) :].split("/") if part)
    if prefix:
        check_key(prefix)
    return BucketUri(scheme, authority, prefix)


def check_bucket(scheme: str, authority: str) -> None:
    """Raises UsageError unless `authority` can be a bucket of that scheme.

    A name with a colon could hold a secret and is not repeated.
    """
    if ":" in authority:
        raise UsageError(f"{scheme}://...: the bucket's name contains a colon", hint=f"Write {scheme}://bucket/prefix.")
    name = authority.partition("@")[0] if names_account(scheme, authority) else authority
    pattern, hint = _NAMES[_CLOUDS[scheme]]
    if not pattern.fullmatch(name):
        raise UsageError(f"{scheme}://{authority}: not a bucket name", hint=hint)
