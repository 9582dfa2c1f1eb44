"""Storage URIs and keys: which are allowed, and their normal form.

Touches neither disk nor network.
"""

import ipaddress
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from raytrain_core.errors import UsageError

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_METADATA_HOSTS = {
    *("metadata.google.internal", "metadata", "instance-data"),
    *("fd00:ec2::254", "100.100.100.200"),  # of clouds whose metadata service is not at a link-local address
}

LEFTOVERS = ".tmp"  # folder of unfinished files in a local store; no key may start with it


@dataclass(frozen=True, slots=True)
class FolderUri:
    """A local folder, absolute."""

    path: Path

    def __str__(self) -> str:
        return self.path.as_uri()


@dataclass(frozen=True, slots=True)
class S3Uri:
    """A bucket and a prefix in it, without slashes at the ends; it may be empty."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


def parse_uri(uri: str) -> FolderUri | S3Uri:
    """Parses a path, file:///... or s3://bucket/prefix.

    Raises UsageError for credentials, queries and other schemes; messages never repeat what could
    be a secret.
    """
    if not uri.strip():
        raise UsageError("the storage URI is empty", hint="Give a folder, file:///folder or s3://bucket/prefix.")
    scheme = _SCHEME.match(uri)
    if scheme is None:
        if _CONTROL.search(uri):
            raise UsageError("the storage path contains control characters")
        return FolderUri(Path(uri).expanduser().resolve())
    name = scheme[1].lower()
    rest = uri[scheme.end() :]
    authority = rest.split("/", 1)[0]
    if name not in ("file", "s3"):
        raise UsageError(f"{name}://: unsupported kind of storage", hint="Use a folder, file:// or s3://.")
    if "@" in authority:
        raise UsageError(
            f"{name}:// URI contains credentials",
            hint="Remove them and set them in the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, a role, ...).",
        )
    return _folder_uri(uri, authority, rest) if name == "file" else _s3_uri(authority, rest)


def _folder_uri(uri: str, authority: str, rest: str) -> FolderUri:
    if authority not in ("", "localhost"):
        raise UsageError(f"{uri}: a file:// URI must name a local folder", hint="Write file:///absolute/path.")
    path = unquote(rest[len(authority) :])
    if not path or _CONTROL.search(path):
        raise UsageError(f"{uri!r}: not a folder")
    return FolderUri(Path(path).resolve())


def _s3_uri(authority: str, rest: str) -> S3Uri:
    if "?" in rest or "#" in rest:
        bucket = authority.partition("?")[0]
        raise UsageError(f"s3://{bucket}/...: a storage URI must not have a query", hint="Write s3://bucket/prefix.")
    if not _BUCKET.match(authority):
        raise UsageError(f"s3://{authority}: not a bucket name", hint="Write s3://bucket/prefix.")
    prefix = "/".join(part for part in rest[len(authority) :].split("/") if part)
    if prefix:
        check_key(prefix)
    return S3Uri(authority, prefix)


def check_endpoint(endpoint: str) -> str:
    """Returns the endpoint without a trailing slash.

    Raises UsageError unless it is http(s)://host[:port] and not a metadata service.
    """
    parts = urlsplit(endpoint)
    if parts.username is not None or parts.password is not None:
        raise UsageError("the storage endpoint contains credentials", hint="Set them in the environment.")
    try:
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        port_is_right = False
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host or not port_is_right or parts.query or parts.fragment:
        raise UsageError(f"{endpoint!r} is not a storage endpoint", hint="Write http(s)://host:port.")
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


def check_key(key: str) -> str:
    """Returns `key` if it is relative without empty, `.` or `..` parts.

    Raises UsageError otherwise.
    """
    parts = key.split("/")
    if (
        not key
        or any(part in ("", ".", "..") for part in parts)
        or "\\" in key
        or _CONTROL.search(key)
        or parts[0] == LEFTOVERS
        or len(key.encode()) > 900
    ):
        raise UsageError(f"{key!r} is not a storage key", hint="Keys are relative paths with / and without . or ..")
    return key


def check_prefix(prefix: str) -> str:
    """Returns `prefix` if a key can begin with it; it may be empty or end in `/`."""
    stem = prefix[:-1] if prefix.endswith("/") else prefix
    if stem:
        check_key(stem)
    elif prefix:
        check_key(prefix)
    return prefix
