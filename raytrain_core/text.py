"""Small pieces of message text: lengths of time, and suggestions for mistyped names."""

import difflib
from collections.abc import Iterable
from typing import Any

_SIMILARITY = 0.6
"""How similar two names must be for a suggestion (0 to 1, difflib's ratio)."""


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 05 min`, `3 d 4 h`."""
    whole = round(max(seconds, 0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def closest(name: str, known: Iterable[str]) -> str | None:
    """Returns the known name that was probably meant, or None if none is similar.

    Case, underscores and dashes do not count; of equally similar names the first wins.
    """
    by_normalized: dict[str, str] = {}
    for candidate in known:
        by_normalized.setdefault(normalized(candidate), candidate)
    word = normalized(name)
    if word in by_normalized:
        return by_normalized[word]
    near = difflib.get_close_matches(word, list(by_normalized), n=1, cutoff=_SIMILARITY)
    return by_normalized[near[0]] if near else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `, did you mean X?` to append to a message, or "" if no known name is similar."""
    meant = closest(name, known)
    return f", did you mean {meant}?" if meant else ""


def normalized(name: str) -> str:
    """A name without case, underscores and dashes."""
    return name.replace("_", "").replace("-", "").lower()


def show_value(value: Any) -> str:
    """Returns a value of a row as it stands in a message: on one line, at most 60 characters."""
    text = "null" if value is None else ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
