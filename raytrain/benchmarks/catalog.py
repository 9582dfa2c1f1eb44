"""The benchmarks that lm-evaluation-harness and this package define.

Definitions are YAML files. Their names are found by a search for lines, because parsing all 14,000
files takes ten times as long; then only the folders of the benchmarks asked for are parsed.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from raytrain_core.errors import UsageError
from raytrain_core.extras import how_to_install
from raytrain_core.text import did_you_mean

OWN = Path(__file__).parent / "definitions"
"""Definitions of this package, in the harness's format."""
_NAME = re.compile(r"^[\"']?(?:task|group)[\"']?:[ \t]*[\"']?([^\s\"'\[\]{}#]+)[\"']?[ \t]*(?:#.*)?$", re.MULTILINE)
_TAGS = re.compile(
    r"^[\"']?tag[\"']?:[ \t]*(?:[\"']?([^\s\"'\[\]]+)[\"']?[ \t]*$|\n((?:[ \t]*-[ \t]*\S+[ \t]*\n)+))", re.MULTILINE
)


@cache
def folders() -> dict[str, tuple[Path, ...]]:
    """Maps the name of each benchmark (task, group or tag) to the folders that define it.

    Raises UsageError if lm-evaluation-harness is not installed.
    """
    found: dict[str, dict[Path, None]] = {}
    for top in (_harness() / "tasks", OWN):
        for folder, _, files in os.walk(top):
            for file in sorted(name for name in files if name.endswith("yaml")):  # templates too
                text = Path(folder, file).read_text(encoding="utf-8", errors="replace")
                for name in _names(text):
                    found.setdefault(name, {})[_top_folder(Path(folder), top)] = None
    return {name: tuple(sorted(places)) for name, places in found.items()}


def require(name: str, where: str) -> None:
    """Raises UsageError if there is no benchmark of this name; `where` names the field."""
    known = folders()
    if name not in known:
        beginning = sorted(one for one in known if one.startswith((f"{name}_", f"{name}-")))[:5]
        raise UsageError(
            f"{where}: there is no benchmark {name!r}{did_you_mean(name, known)}",
            hint=(f"Names that begin so: {', '.join(beginning)}. " if beginning else "")
            + "`lm_eval ls tasks` lists those of lm-evaluation-harness; raytrain adds arc, dialogsum and samsum.",
        )


@cache
def manager(name: str) -> Any:
    """Returns the harness's TaskManager with the folders that a known benchmark needs."""
    from lm_eval.tasks import TaskManager

    with quiet():
        places = set(folders()[name])
        while True:
            found: Any = TaskManager(include_defaults=False, include_path=sorted(map(str, places)))
            more = {folder for child in _children(found, name) for folder in folders().get(child, ())} - places
            if not more:
                return found
            places |= more


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the harness's log and progress bars: what matters is told by this package."""
    import io
    import logging

    log = logging.getLogger("lm_eval")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        log.setLevel(level)


def leaves(name: str) -> dict[str, dict[str, Any]]:
    """Maps each task of a benchmark to its definition, functions unresolved."""
    found = manager(name)
    entries = {one: found.task_index[one] for one in _children(found, name) if one in found.task_index}
    return {one: entry.cfg or {} for one, entry in entries.items() if entry.kind.name in ("TASK", "PY_TASK")}


def _children(found: Any, name: str) -> list[str]:
    """The names below a benchmark and its own; what `found` does not know has no children."""
    names, waiting = dict[str, None](), [name]
    while waiting:
        one = waiting.pop(0)
        names[one] = None
        entry = found.task_index.get(one)
        if entry is None:
            continue
        members = sorted(entry.tags) if entry.kind.name == "TAG" else (entry.cfg or {}).get("task")
        for member in members if isinstance(members, list) else []:
            child = member if isinstance(member, str) else member.get("task") or member.get("group")
            waiting += [child] if isinstance(child, str) and child not in names else []
            waiting += [c for c in child if isinstance(c, str)] if isinstance(child, list) else []
    return [one for one in names if one in folders()]


def _names(text: str) -> Iterator[str]:
    yield from _NAME.findall(text)
    for one, several in _TAGS.findall(text):
        yield from [one] if one else (line.strip(" \t-\"'") for line in several.splitlines())


def _top_folder(folder: Path, top: Path) -> Path:
    below = folder.relative_to(top).parts
    return top / below[0] if below else top


def _harness() -> Path:
    spec = find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise UsageError(
            "benchmarks need lm-evaluation-harness, which is not installed", hint=how_to_install("benchmarks")
        )
    return Path(spec.origin).parent
