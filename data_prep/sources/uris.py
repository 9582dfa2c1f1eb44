"""Which URIs a source may have. Messages never repeat what could be a secret."""

import re
from pathlib import PurePosixPath

from raytrain_core.errors import UsageError

SCHEMES = ("path", "file", "s3", "hf")
WILD = re.compile(r"[*?\[]")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")
_SIGNED = re.compile(r"[?&](X-Amz-|AWSAccessKeyId=|Signature=|sig=|token=)", re.IGNORECASE)


def split_source_uri(uri: str, where: str) -> tuple[str, str]:
    """Splits a URI into scheme (`path` if it has none) and rest.

    Raises UsageError if it is not allowed.

    Credentials and control characters are refused, and `..` after a wildcard or in a bucket or data
    set: a pattern matches only below the folder that it begins with.
    """
    if not uri.strip():
        raise UsageError(f"{where}: the source's URI is empty")
    found = _SCHEME.match(uri)
    kind = found[1].lower() if found else "path"
    rest = uri[found.end() :] if found else uri
    named = f"{where}: the source {kind}://..." if found else f"{where}: the source's path"
    if _CONTROL.search(uri):
        raise UsageError(f"{named} contains control characters")
    secret = _TOKEN.search(rest) or _SIGNED.search(rest)
    if found and (secret or (kind != "hf" and "@" in rest.split("/", 1)[0])):
        raise UsageError(
            f"{named} contains credentials",
            hint="Remove them and set them in the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, HF_TOKEN, ...).",
        )
    wild = WILD.search(rest)
    checked = rest if kind in ("s3", "hf") else rest[wild.start() :] if wild else ""
    if ".." in PurePosixPath(checked.replace("@", "/").replace(":", "/")).parts:
        what = "" if kind in ("s3", "hf") else " after a wildcard"
        raise UsageError(f"{named} contains ..{what}", hint="Name the folder itself.")
    return kind, rest
