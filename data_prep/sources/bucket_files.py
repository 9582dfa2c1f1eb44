"""Finds the objects of a path in a bucket: an object, a folder, or a pattern.

The rules are those of `local_files`.
"""

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from data_prep.sources.file_names import format_of, is_hidden
from data_prep.sources.uris import WILD
from raytrain_core.errors import UsageError
from raytrain_core.storage import Stat, Store


@dataclass(frozen=True, slots=True)
class BucketFinding:
    """The objects of a source in order, and what else was there."""

    stats: list[Stat]
    top: str
    """The folder below which names tell splits; None if the object was named itself."""
    alone: bool = False
    """Whether the source names one object."""
    passed_over: list[tuple[str, str]] = field(default_factory=list)


def find_in_bucket(store: Store, key: str, *, any_name: bool) -> BucketFinding:
    """Returns the objects at `key`, sorted; `any_name` takes unknown formats too."""
    if key and not key.endswith("/") and (stat := store.stat(key)) is not None:
        return BucketFinding([stat], "", alone=True)
    top, pattern = _divided(store, key)
    prefix = f"{top}/" if top else ""
    found = BucketFinding([], top)
    if pattern:
        matches = _compiled(pattern, f"{store.uri}/{key}")
        start = WILD.search(pattern).start()  # type: ignore[union-attr]
        stats = [s for s in store.list(prefix + pattern[:start]) if matches.fullmatch(s.key[len(prefix) :])]
    else:
        stats = list(store.list(prefix))
    for stat in stats:
        name = stat.key[len(prefix) :]
        hidden = next((part for part in PurePosixPath(name).parts if is_hidden(part)), "") if not pattern else ""
        if hidden:
            found.passed_over.append((stat.key, f"the name {hidden} begins with {hidden[0]}"))
        elif name.endswith("/") and not stat.bytes:
            continue  # how some programs mark a folder
        elif not any_name and format_of(stat.key) is None:
            found.passed_over.append((stat.key, "not a known format"))
        else:
            found.stats.append(stat)
    return found


def _divided(store: Store, key: str) -> tuple[str, str]:
    """The folder that a key begins with, and the pattern after it, if there is one.

    A folder that exists is no pattern, whatever its name.
    """
    parts = [part for part in key.split("/") if part]
    for number, part in enumerate(parts):
        folder = "/".join(parts[: number + 1]) + "/"
        if WILD.search(part) and next(iter(store.list(folder)), None) is None:
            return "/".join(parts[:number]), "/".join(parts[number:])
    return "/".join(parts), ""


def _compiled(pattern: str, where: str) -> re.Pattern[str]:
    try:
        return re.compile(_regular_expression(pattern))
    except re.error as error:
        raise UsageError(f"{where}: not a pattern ({error.msg})", hint="In brackets: [0-9], [abc], [!a].") from None


def _regular_expression(pattern: str) -> str:
    """Of a glob: * matches within a name, ** any number of folders; neither a leading dot."""
    known = {"**/": "(?:(?!\\.)[^/]*/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    expression, at_start = "", True
    for token in re.findall(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]/]*\]|.", pattern, re.DOTALL):
        if at_start and token in ("*", "?", "**"):
            expression += "(?!\\.)"
        is_set = token.startswith("[") and len(token) > 1
        literal = token.replace("[!", "[^").replace("\\", "\\\\") if is_set else re.escape(token)
        expression += known.get(token, literal)
        at_start = token.endswith("/")
    return expression
