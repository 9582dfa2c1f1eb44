"""Modules and files that docstrings and comments name in code spans exist."""

import io
import re
import tokenize
from pathlib import Path

from raytrain.config.explain import all_fields
from raytrain_core.text import normalized
from tests.support import REPOSITORY

FLOORS = ("raytrain", "data_prep", "raytrain_core")
FOLDERS = (*FLOORS, "tests", "benchmarks", "examples")
NOT_MODULES = ("raytrain.dev", "raytrain.metrics", "raytrain.readers", "raytrain.rows", "raytrain.test")
"""An API group, entry points, and a host name of the tests."""
FROM_RUNS = ("benchmarks/results/", "NAME")
_ROOMS = {path.name for floor in FLOORS for path in (REPOSITORY / floor).iterdir() if path.is_dir()}
_SPAN = re.compile(r"`([^`\n]+)`")
_NAME = re.compile(r"[a-z_]\w*(?:\.\w+)+(?<!\.json)(?<!\.log)")
_PATH = re.compile(rf"(?:{'|'.join(FOLDERS)}|docs|helm|k8s)/[\w./-]+\.\w+")


def spans():
    """(place, text) of every code span in comments and docstrings."""
    for folder in FOLDERS:
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            if "/out/" in path.as_posix():
                continue
            for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
                prose = token.type == tokenize.COMMENT or (
                    token.type == tokenize.STRING and token.string.startswith('"""')
                )
                for span in _SPAN.findall(token.string) if prose else ():
                    yield f"{path.relative_to(REPOSITORY)}:{token.start[0]}", span


def is_module_or_member(name: str) -> bool:
    """Whether a dotted name is a module, or a name that occurs in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        path = REPOSITORY.joinpath(*parts[:length])
        source = next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)
        if source is not None or path.is_dir():
            rest = parts[length:]
            return not rest or (source is not None and re.search(rf"\b{rest[0]}\b", source.read_text()) is not None)
    return False


def test_modules_exist():
    fields = {normalized(field.path.replace("[]", "").removeprefix("spec.")) for field in all_fields()}
    missing = []
    for place, span in spans():
        name = span.removesuffix("()")
        if not _NAME.fullmatch(name) or normalized(name) in fields or name.startswith(NOT_MODULES):
            continue
        first = name.partition(".")[0]
        candidates = [name] if first in FOLDERS else [f"{floor}.{name}" for floor in FLOORS] if first in _ROOMS else []
        if candidates and not any(is_module_or_member(candidate) for candidate in candidates):
            missing.append(f"{place} {span}")
    assert not missing, "\n".join(missing)


def test_files_exist():
    missing = [
        f"{place} {span}"
        for place, span in spans()
        if _PATH.fullmatch(span) and not any(part in span for part in FROM_RUNS) and not Path(REPOSITORY, span).exists()
    ]
    assert not missing, "\n".join(missing)
