"""Configures the boto3 client: endpoint, addressing style, proxy, retries, credentials."""

import ipaddress
import os
import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit, urlunsplit

import boto3
from botocore.config import Config

from raytrain_core.errors import UsageError
from raytrain_core.storage.s3_errors import RetriesExhaustedError, is_lasting
from raytrain_core.storage.uri import refuse_metadata

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

ATTEMPTS = 20  # for one request; usually the deadline comes first
DEADLINE_SECONDS = 90.0  # a request is retried for so long after its first failure: an outage of a minute is survived
CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0

_HOSTS_OF_BUCKETS = re.compile(
    r"(s3[.-]|[^.]+\.r2\.cloudflarestorage\.com$|storage\.googleapis\.com$|[^.]+\.digitaloceanspaces\.com$"
    r"|[^.]+\.linodeobjects\.com$|oss-[^.]+\.aliyuncs\.com$|cos\.[^.]+\.myqcloud\.com$)"
)
"""What follows the bucket in a host that is named after it."""
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


@dataclass(frozen=True, slots=True)
class Connection:
    """A client, its credentials (never shown) and where they came from."""

    client: "S3Client"
    credentials: tuple[str | None, ...] | None
    source: str


def connect(bucket: str, endpoint: str | None, region: str | None, attempts: int) -> Connection:
    """Creates a client in a new session, which looks up credentials again; contacts nothing yet.

    Raises UsageError if the endpoint resolves to a metadata service, or if AWS_CA_BUNDLE names no
    file; OSError if a file with credentials cannot be read.
    """
    _check_ca_bundle()
    style: Literal["auto", "virtual", "path"] = "auto"
    if endpoint is not None:
        _refuse_resolved_metadata(endpoint)
        endpoint, style = addressing(bucket, endpoint)
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
            s3={"addressing_style": style},
            proxies={} if endpoint is not None and bypasses_proxy(endpoint) else None,
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


def addressing(bucket: str, endpoint: str) -> tuple[str, Literal["virtual", "path"]]:
    """Returns the endpoint without the bucket, and the addressing style: virtual or path.

    Path style is the rule with a custom endpoint, where virtual hosts seldom resolve. An endpoint
    that names the bucket (https://bucket.s3.example.org, https://host/bucket) would have it twice.
    """
    parts = urlsplit(endpoint)
    host, path = parts.netloc, parts.path.rstrip("/")
    if host.startswith(f"{bucket}.") and _HOSTS_OF_BUCKETS.match(
        parts.hostname[len(bucket) + 1 :] if parts.hostname else ""
    ):
        return urlunsplit(parts._replace(netloc=host[len(bucket) + 1 :])), "virtual"
    if path == f"/{bucket}":
        return urlunsplit(parts._replace(path="")), "path"
    return endpoint, "path"


def bypasses_proxy(endpoint: str) -> bool:
    """Whether NO_PROXY has a range (CIDR) that holds the endpoint's address.

    Urllib, which botocore asks, knows names and addresses there but no ranges. As in Go and curl, a
    range applies to an endpoint that is given as an address.
    """
    listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    with suppress(ValueError):
        address = ipaddress.ip_address(urlsplit(endpoint).hostname or "")
        for entry in listed.split(","):
            with suppress(ValueError):
                if "/" in entry and address in ipaddress.ip_network(entry.strip(), strict=False):
                    return True
    return False


def _check_ca_bundle() -> None:
    bundle = os.environ.get("AWS_CA_BUNDLE")
    if bundle and not Path(bundle).exists():
        raise UsageError(f"AWS_CA_BUNDLE: there is no file {bundle}", hint="Correct the variable, or unset it.")


def _refuse_resolved_metadata(endpoint: str) -> None:
    with suppress(OSError):  # a name that cannot be resolved is reported at first use
        for *_, address in socket.getaddrinfo(urlsplit(endpoint).hostname, None, type=socket.SOCK_STREAM):
            refuse_metadata(str(address[0]))


def _keep_deadline(
    response: Any, attempts: int, caught_exception: BaseException | None, request_dict: dict[str, Any], **_: Any
) -> None:
    """Ends the retries of a request after the deadline, and at once where another try cannot help.

    Botocore counts attempts but not seconds.
    """
    if caught_exception is not None and is_lasting(caught_exception):
        raise caught_exception
    begun = request_dict["context"].setdefault("raytrain_first_answer", time.monotonic())
    if time.monotonic() - begun < DEADLINE_SECONDS:
        return
    if caught_exception is not None:
        raise caught_exception
    http, parsed = response
    if http.status_code >= 500 or http.status_code == 429:
        raise RetriesExhaustedError(http.status_code, str(parsed.get("Error", {}).get("Code", "")), attempts)
