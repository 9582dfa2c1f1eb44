"""Which URIs a source may have. Messages never repeat what could be a secret."""

import re
from pathlib import PurePosixPath

from raytrain_core.errors import UsageError
from raytrain_core.storage.bucket_uri import BUCKET_SCHEMES, check_bucket
from raytrain_core.storage.uri import split_scheme

SCHEMES = ("path", "file", *sorted(BUCKET_SCHEMES), "hf")
WILD = re.compile(r"[*?\[]")


def split_source_uri(uri: str, where: str) -> tuple[str, str]:
    """Splits a URI into scheme (`path` if it has none) and rest.

    Raises UsageError if it is not allowed.

    Credentials and control characters are refused, and `..` after a wildcard or in a bucket or data
    set: a pattern matches only below the folder that it begins with.
    """
    scheme, rest = split_scheme(uri, f"{where}: the source")
    kind = scheme or "path"
    named = f"{where}: the source {kind}://..." if scheme else f"{where}: the source's path"
    if kind in BUCKET_SCHEMES:
        check_bucket(kind, rest.split("/", 1)[0])
    wild = WILD.search(rest)
    checked = rest if kind in (*BUCKET_SCHEMES, "hf") else rest[wild.start() :] if wild else ""
    if ".." in PurePosixPath(checked.replace("@", "/").replace(":", "/")).parts:
        what = "" if kind in (*BUCKET_SCHEMES, "hf") else " after a wildcard"
        raise UsageError(f"{named} contains ..{what}", hint="Name the folder itself.")
    return kind, rest
