"""What is at an export's destination already, and whether the export may go there."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from raytrain_core.errors import UsageError

_MODEL_FILES = (".safetensors", ".bin", ".onnx", ".pt", ".ckpt", ".h5", ".msgpack")
_MODEL_NAMES = {"config.json", "adapter_config.json", "model.safetensors.index.json", "tokenizer.json"}


@dataclass(frozen=True, slots=True)
class HubPlace:
    """A repository on the hub: the branch that gets the commit, a tag for it, who may read it."""

    repo: str
    branch: str = "main"
    tag: str | None = None
    public: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    """How an export went: names of files written, found there as they should be, and removed."""

    uri: str
    written: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    others: int = 0
    """Files there that are not of the export; they were left alone."""
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Comparison:
    """The destination beside the export, by names."""

    same: tuple[str, ...]
    unlike: tuple[str, ...]
    """There with another content."""
    missing: tuple[str, ...]
    stale: tuple[str, ...]
    """Of an earlier export, and not of this one."""
    others: tuple[str, ...]


def compare(
    names: Collection[str],
    there: Collection[str],
    same: Collection[str],
    earlier: Collection[str],
    own: Collection[str],
) -> Comparison:
    """Compares the names of an export with those at its destination.

    `same` are those with equal content, `earlier` those that an earlier export lists, `own` those
    that a destination always has (the listing itself, a hub's .gitattributes).
    """
    return Comparison(
        same=tuple(sorted(same)),
        unlike=tuple(sorted((set(names) & set(there)) - set(same))),
        missing=tuple(sorted(set(names) - set(there))),
        stale=tuple(sorted((set(earlier) & set(there)) - set(names) - set(own))),
        others=tuple(sorted(set(there) - set(names) - set(earlier) - set(own))),
    )


def refuse(found: Comparison, uri: str, *, force: bool) -> None:
    """Raises UsageError where the export would replace something, or would lie beside a model.

    A reader would take a foreign adapter or foreign weights for part of the model, so those stay
    refused with `force`.
    """
    if beside := [name for name in found.others if name in _MODEL_NAMES or name.endswith(_MODEL_FILES)]:
        raise UsageError(
            f"{uri} holds files of another model: {_some(beside)}; a reader would take them for part of this one",
            hint="remove them, or choose another place",
        )
    if force or not (found.unlike or found.stale):
        return
    what = [f"other content than the export: {_some(found.unlike)}"] if found.unlike else []
    what += [f"files of an earlier export: {_some(found.stale)}"] if found.stale else []
    raise UsageError(f"{uri} has {'; and '.join(what)}", hint="choose another place, or replace them with --force")


def listed(data: bytes | None) -> Mapping[str, str]:
    """Returns the files that an earlier export lists, with their sha256; empty if it lists none."""
    try:
        document: Any = json.loads(data or b"{}")
        return {str(one["name"]): str(one["sha256"]) for one in document.get("files", [])}
    except (ValueError, KeyError, TypeError, AttributeError):  # nobody's listing, or a damaged one
        return {}


def _some(names: Collection[str]) -> str:
    first = ", ".join(sorted(names)[:3])
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"
