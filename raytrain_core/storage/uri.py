"""URIs and keys: which are allowed, and their normal form.

Decides for everything that reads a job: the command line, `submit`, the operator and the pods.
Touches no network. Messages never repeat what could be a secret.
"""

import ipaddress
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from raytrain_core.errors import UsageError
from raytrain_core.storage.bucket_uri import BUCKET_SCHEMES, BucketUri, bucket_uri, check_bucket, names_account

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BROKEN_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?=[/\\])")  # s3:/bucket; one letter is a Windows drive
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")
_SIGNED = re.compile(r"[?&](X-Amz-|AWSAccessKeyId=|Signature=|sig=|token=)", re.IGNORECASE)
_HUB_MODEL = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_METADATA_HOSTS = {
    *("metadata.google.internal", "metadata", "instance-data"),
    *("fd00:ec2::254", "100.100.100.200"),  # of clouds whose metadata service is not at a link-local address
}

FOREIGN_SCHEMES = frozenset(
    [
        *("s3a", "s3n", "gcs", "azure", "adl", "wasb", "wasbs", "hdfs", "webhdfs"),
        *("dbfs", "oss", "obs", "cos", "cosn", "r2", "b2", "minio", "swift", "ftp", "sftp", "http", "https"),
    ]
)
"""Schemes that other tools read and that are not read here (a custom reader may)."""
_MEANT = {
    **dict.fromkeys(("s3a", "s3n"), "s3://"),
    "gcs": "gs://",
    **dict.fromkeys(("azure", "wasb", "wasbs", "adl"), "az://container/prefix or abfs://"),
}
_KNOWN_SCHEMES = FOREIGN_SCHEMES | BUCKET_SCHEMES | {"file", "hf", "run"}


@dataclass(frozen=True, slots=True)
class FolderUri:
    """A local folder, absolute."""

    path: Path

    def __str__(self) -> str:
        return self.path.as_uri()


def split_scheme(uri: str, what: str) -> tuple[str, str]:
    """Splits a URI into its scheme in lower case (empty for a path) and the rest.

    Raises UsageError, which begins with `what`, for credentials, control characters, spaces at the
    ends, and for what looks like a URI but is none: s3:/bucket would otherwise be a folder.
    """
    if not uri.strip():
        raise UsageError(f"{what} is empty")
    if _CONTROL.search(uri):
        raise UsageError(f"{what} contains control characters")
    if uri != uri.strip():
        raise UsageError(f"{what} begins or ends with a space", hint="Remove it.")
    found = _SCHEME.match(uri)
    if found is None:
        return _without_slashes(uri, what)
    scheme, rest = found[1].lower(), uri[found.end() :]
    if _TOKEN.search(rest) or _SIGNED.search(rest) or _has_user(scheme, rest.split("/", 1)[0]):
        raise UsageError(
            f"{what} {scheme}://... contains credentials",
            hint="Remove them and set them in the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, HF_TOKEN, a role, ...).",
        )
    return scheme, rest


def _has_user(scheme: str, authority: str) -> bool:
    """Whether what is before an @ may be a user with a password."""
    return "@" in authority and scheme != "hf" and not names_account(scheme, authority)


def _without_slashes(uri: str, what: str) -> tuple[str, str]:
    """What has no `scheme://` is a path, unless it begins like a URI."""
    if uri[:6].lower() == "file:/":  # a valid spelling of file:///folder
        return "file", uri[5:]
    broken = _BROKEN_SCHEME.match(uri)
    name = broken[1] if broken else uri.partition(":")[0] if ":" in uri else ""
    if broken or name.lower() in _KNOWN_SCHEMES:
        raise UsageError(
            f"{what} begins with {name}: but not with {name}://",
            hint=f"Write {name}://...; for a folder of that name, write ./{name}:...",
        )
    return "", uri


def parse_uri(uri: str, what: str = "the storage URI") -> FolderUri | BucketUri:
    """Parses a path, file:///..., or a prefix in a bucket: s3://, gs://, az:// or abfs://.

    Raises UsageError for credentials, queries and other schemes; `what` names the URI in messages.
    """
    scheme, rest = split_scheme(uri, what)
    if scheme == "":
        return _path_uri(uri, what)
    if scheme in BUCKET_SCHEMES:
        return bucket_uri(scheme, rest)
    if scheme != "file":
        meant = f"Write {_MEANT[scheme]}" if scheme in _MEANT else "Use a folder, file://, s3://, gs:// or az://"
        raise UsageError(f"{what} {scheme}://...: unsupported kind of storage", hint=f"{meant}.")
    return _folder_uri(uri, rest.split("/", 1)[0], rest)


def check_source_uri(uri: str, *, has_reader: bool = False) -> None:
    """Raises UsageError for a URI that no source can have, whatever is installed.

    A scheme of another storage is refused unless the job names a reader for it; any other scheme
    may belong to a reader that is installed where the rows are read.
    """
    scheme, rest = split_scheme(uri, "the source")
    if scheme in BUCKET_SCHEMES:
        check_bucket(scheme, rest.split("/", 1)[0])
    if scheme in FOREIGN_SCHEMES and not has_reader:
        raise UsageError(
            f"the source {scheme}://...: unsupported kind of storage",
            hint="Use a path, s3://, gs://, az:// or hf://, or name the reader (source.reader) that reads it.",
        )


def is_hub_model(name: str) -> bool:
    """Whether a model may be named by an id of the hub, with or without @ and a revision."""
    return _HUB_MODEL.fullmatch(name) is not None


def check_model_uri(uri: str) -> None:
    """Raises UsageError unless `uri` can be a model.

    That is a path, a hub id, hf://, run://NAME, or a prefix in a bucket.
    """
    scheme, rest = split_scheme(uri, "the model")
    if scheme in BUCKET_SCHEMES:
        bucket_uri(scheme, rest)
    elif scheme not in ("", "file", "run", "hf"):
        raise UsageError(
            f"the model {scheme}://...: unsupported kind of storage",
            hint="Use a folder, a Hugging Face id, run://NAME, or a prefix in a bucket: s3://, gs://, az://.",
        )


def _path_uri(path: str, what: str) -> FolderUri:
    try:
        return FolderUri(Path(path).expanduser().resolve())
    except (RuntimeError, OSError) as error:  # ~nobody/x, a loop of symbolic links
        raise UsageError(f"{what} {path!r} is not a folder: {error}") from None


def _folder_uri(uri: str, authority: str, rest: str) -> FolderUri:
    if authority not in ("", "localhost"):
        raise UsageError(f"{uri}: a file:// URI must name a local folder", hint="Write file:///absolute/path.")
    path = unquote(rest[len(authority) :])
    if not path or _CONTROL.search(path):
        raise UsageError(f"{uri!r}: not a folder")
    return FolderUri(Path(path).resolve())


def check_endpoint(endpoint: str) -> str:
    """Returns the endpoint without a trailing slash.

    Raises UsageError unless it is http(s)://host[:port] and not a metadata service.
    """
    if "@" in endpoint:
        raise UsageError("the storage endpoint contains credentials", hint="Set them in the environment.")
    shown = endpoint.partition("?")[0]
    try:
        parts = urlsplit(endpoint)
        host, is_valid_port = parts.hostname, parts.port is None or parts.port > 0
    except ValueError:
        raise UsageError(f"{shown!r} is not a storage endpoint", hint="Write http(s)://host:port.") from None
    if parts.scheme not in ("http", "https") or not host or not is_valid_port or parts.query or parts.fragment:
        raise UsageError(f"{shown!r} is not a storage endpoint", hint="Write http(s)://host:port.")
    refuse_metadata(host)
    return endpoint.rstrip("/")


def refuse_metadata(host: str) -> None:
    """Raises UsageError for a metadata service, which hands out a machine's credentials."""
    if host.rstrip(".").lower() in _METADATA_HOSTS or ((address := _address(host)) and _is_forbidden(address)):
        raise UsageError(f"{host}: a metadata or link-local address cannot be a storage endpoint")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parses an address like the system's resolver, which also accepts 2852039166."""
    with suppress(ValueError):
        address = ipaddress.ip_address(host.partition("%")[0])
        return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address
    with suppress(OSError, UnicodeEncodeError):
        return ipaddress.IPv4Address(socket.inet_aton(host))
    return None


def _is_forbidden(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_link_local or address.is_multicast or address.is_unspecified or str(address) in _METADATA_HOSTS
