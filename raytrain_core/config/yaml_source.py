"""Parses YAML into plain data, with the line and column of every key and value.

YAML 1.2 as ruamel.yaml reads it, without duplicate keys, merge keys, tags that create objects, and
more than one document. Anchors are allowed within limits: a small file cannot expand into a large
one.
"""

import warnings
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

Path = tuple[str | int, ...]

MAX_NODES = 200_000
MAX_DEPTH = 60
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Line and column, counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: its position (None without a text), its field, and what is wrong."""

    position: Position | None
    path: Path
    text: str


@dataclass(slots=True)
class YamlData:
    """Parsed YAML: the data, the positions of keys and values, and the problems."""

    value: Any = None
    keys: dict[Path, Position] = field(default_factory=dict)
    values: dict[Path, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class _TooLargeError(Exception):
    """More nodes than `MAX_NODES` or deeper than `MAX_DEPTH` once anchors are expanded."""


def parse_yaml(text: str) -> YamlData:
    """Parses one YAML document; problems are collected in the result, nothing is raised."""
    result = YamlData()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReusedAnchorWarning)
            nodes = list(YAML(typ="rt", pure=True).compose_all(text))
    except MarkedYAMLError as error:
        result.problems.append(Problem(_mark(error), (), _syntax(error)))
        return result
    except ReaderError as error:
        before = text[: error.position]
        where = Position(before.count("\n") + 1, error.position - before.rfind("\n"))
        result.problems.append(
            Problem(where, (), f"the character U+{_code(error.character):04X} is not allowed in YAML")
        )
        return result
    except RecursionError:
        result.problems.append(Problem(None, (), "nested too deeply for a job file"))
        return result
    except YAMLError as error:
        result.problems.append(Problem(None, (), f"not valid YAML: {error}"))
        return result
    nodes = [n for n in nodes if n is not None]
    if not nodes:
        result.problems.append(Problem(None, (), "the file is empty"))
    elif len(nodes) > 1:
        result.problems.append(
            Problem(_start(nodes[1]), (), "a second YAML document begins here; a file may hold only one")
        )
    else:
        try:
            result.value = _Converter(result).read(nodes[0], (), 0)
        except _TooLargeError:
            what = f"expands to more than {MAX_NODES:,} values or {MAX_DEPTH} levels; do anchors repeat each other?"
            result.problems.append(Problem(None, (), what))
    return result


class _Converter:
    """Converts composed nodes into plain data and records their positions."""

    def __init__(self, result: YamlData) -> None:
        self.result = result
        self.count = 0

    def read(self, node: Node, path: Path, depth: int) -> Any:
        self.count += 1
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            raise _TooLargeError
        self.result.values[path] = _start(node)
        tag = str(node.tag)
        if isinstance(node, MappingNode) and tag == _TAG + "map":
            return self._mapping(node, path, depth)
        if isinstance(node, SequenceNode) and tag == _TAG + "seq":
            return [self.read(item, (*path, i), depth + 1) for i, item in enumerate(node.value)]
        if isinstance(node, ScalarNode):
            try:
                return _scalar(tag.removeprefix(_TAG), _text(node))
            except KeyError:
                pass
            except ValueError:
                self._problem(node, path, f"cannot be read as a number: {str(node.value)[:40]}")
                return None
        self._problem(node, path, f"the tag {tag.replace(_TAG, '!!')} is not allowed; write plain values")
        return None

    def _mapping(self, node: MappingNode, path: Path, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._problem(key, path, "a list or a mapping cannot be the name of a field")
                continue
            if str(key.tag) == _TAG + "merge":
                self._problem(key, path, "merge keys (<<) are not part of YAML 1.2; write the fields out")
                continue
            name = str(key.value)
            here = (*path, name)
            if name in found:
                first = self.result.keys[here].line
                self._problem(key, here, f"given twice, first on line {first}")
                continue
            self.result.keys[here] = _start(key)
            found[name] = self.read(value, here, depth + 1)
        return found

    def _problem(self, node: Node, path: Path, text: str) -> None:
        self.result.problems.append(Problem(_start(node), path, text))


def _text(node: ScalarNode) -> str:
    """The text of a scalar, without the BELs that ruamel puts into folded blocks (`>`)."""
    text = str(node.value)
    return text.replace("\a", "") if node.style == ">" else text


def _scalar(kind: str, text: str) -> Any:
    """Parses a scalar; KeyError for a tag outside YAML's core, ValueError for a bad number."""
    plain = text.replace("_", "").lower()
    match kind:
        case "str" | "timestamp" | "value":  # YAML 1.2 has no dates: they stay text
            return text
        case "null":
            return None
        case "bool":
            return plain in ("true", "yes", "on")
        case "int":
            sign, digits = (-1, plain[1:]) if plain.startswith("-") else (1, plain.lstrip("+"))
            base = {"0x": 16, "0o": 8, "0b": 2}.get(digits[:2], 10)
            return sign * int(digits, base)
        case "float":
            return float(plain.replace(".inf", "inf").replace(".nan", "nan"))
        case _:
            raise KeyError(kind)


def _start(node: Node) -> Position:
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)


def _mark(error: MarkedYAMLError) -> Position | None:
    mark = error.problem_mark or error.context_mark
    return Position(mark.line + 1, mark.column + 1) if mark else None


def _code(character: str | int) -> int:
    return character if isinstance(character, int) else ord(character)


def _syntax(error: MarkedYAMLError) -> str:
    """YAML's own message; for frequent mistakes, one that says what to do."""
    problem = str(error.problem or error)
    if "\\t" in problem:
        return "a tab is used here; YAML is indented with spaces"
    if problem.startswith("mapping values are not allowed"):
        return "not valid YAML: a colon where no field can begin; check the indentation, or put the text in quotes"
    if problem.startswith("found unexpected end of stream"):
        return "not valid YAML: a quoted text is never closed"
    if problem.startswith("found undefined alias"):
        return f"not valid YAML: {problem.replace('found undefined alias', 'no anchor has the name')}"
    if "cannot start any token" in problem:
        words = problem.replace("found ", "the ").replace(" that cannot", " cannot")
        return f"not valid YAML: {words}; put the text in quotes?"
    context = f" ({error.context})" if error.context else ""
    return f"not valid YAML: {problem}{context}"
