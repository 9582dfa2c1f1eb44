"""Keys: the relative names of objects in a store."""

import re

from raytrain_core.errors import UsageError

LEFTOVERS = ".tmp"  # folder of unfinished files in a local store; no key may start with it
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


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
