"""Loads YAML (or Python data) into a pydantic model and reports all problems with line and column.

Job files and the operator's settings are loaded with it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from raytrain_core.config.fields import (
    PATTERNS_IN_WORDS,
    allowed_values,
    annotation_at,
    counted,
    fields_of,
    model_at,
    unwrap,
    walk,
)
from raytrain_core.config.yaml_source import Position, Problem, YamlData, parse_yaml
from raytrain_core.errors import ExitCode, UsageError
from raytrain_core.text import closest, did_you_mean, normalized

MAX_BYTES = 4 << 20
Location = tuple[str | int, ...]
ModelT = TypeVar("ModelT", bound=BaseModel)


class ConfigError(UsageError):
    """A job or settings file is invalid; the message has one line per problem."""

    exit_code = ExitCode.USAGE

    @classmethod
    def of(cls, name: str, problems: Sequence[Problem]) -> "ConfigError":
        """Builds lines `name:line:column: path: problem`, in text order, without repetitions."""
        ordered = sorted(problems, key=lambda p: p.position or Position(0, 0))
        return cls("\n".join(dict.fromkeys(_line(name, p) for p in ordered)))

    @property
    def lines(self) -> list[str]:
        """The problems, one line each."""
        return self.message.splitlines()


def load_config(path: str | Path, model: type[ModelT]) -> ModelT:
    """Loads the YAML file at `path` into `model`; ConfigError lists all problems."""
    return parse_config(read_text(path), model, name=str(path))


def parse_config(text: str, model: type[ModelT], *, name: str = "job") -> ModelT:
    """Parses YAML text into `model`; each line of a ConfigError begins with `name`."""
    data = parse_yaml(text)
    if data.value is None and data.problems:
        raise ConfigError.of(name, data.problems)
    if not isinstance(data.value, dict):
        fields = ", ".join(f.name for f in fields_of(model))
        what = f"must be a mapping with the fields {fields}; got {_show(data.value)}"
        raise ConfigError.of(name, [*data.problems, Problem(Position(1, 1), (), what)])
    found, problems = _validate(data, model, by_name=False)
    if found is None or data.problems:
        raise ConfigError.of(name, [*data.problems, *problems])
    return found


def from_mapping(mapping: Mapping[str, Any], model: type[ModelT], *, name: str = "job") -> ModelT:
    """Validates Python data in the same way; names may be camelCase or snake_case.

    Of a model in it, only the fields that were given count as given.
    """
    try:
        plain = json.loads(json.dumps(dict(mapping), ensure_ascii=False, default=_plain))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: holds a value that a job file cannot hold: {error}") from None
    found, problems = _validate(YamlData(value=plain), model, by_name=True)
    if found is None:
        raise ConfigError.of(name, problems)
    return found


def read_text(path: str | Path) -> str:
    """Reads a text file; ConfigError if it is missing, unreadable, too large or not UTF-8."""
    file = Path(path)
    try:
        if file.is_dir():
            raise ConfigError(f"{path}: is a folder; name the job file in it, e.g. {file / 'job.yaml'}")
        if not file.exists():
            near = closest(file.name, _yaml_files(file.parent))
            raise ConfigError(
                f"{path}: there is no such file" + (f", did you mean {file.with_name(near)}?" if near else "")
            )
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: is larger than {MAX_BYTES >> 20} MiB, too large for a job file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        byte = raw[error.start]
        raise ConfigError(f"{path}:{line}:{column}: not UTF-8 (byte 0x{byte:02X}); save the file as UTF-8") from None


def format_path(location: Sequence[str | int]) -> str:
    """`spec.tasks[2].source.uri` of ("spec", "tasks", 2, "source", "uri")."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _validate(data: YamlData, model: type[ModelT], *, by_name: bool) -> tuple[ModelT | None, list[Problem]]:
    try:
        # Through JSON, because that is where pydantic's strict mode means the same as the JSON
        # Schema: "3" and true are no numbers, a list is fine for a tuple.
        text = json.dumps(data.value, ensure_ascii=False)
        found = model.model_validate_json(text, strict=True, by_alias=True, by_name=by_name)
    except ValidationError as error:
        return None, [_problem(detail, data, model) for detail in error.errors(include_url=False)]
    return found, []


def _problem(detail: ErrorDetails, data: YamlData, model: type[BaseModel]) -> Problem:
    kind, context = detail["type"], detail.get("ctx", {})
    location: Location = tuple(detail["loc"])
    if location and location[-1] == "[key]":  # the name of an entry is wrong, not its value
        location = location[:-1]
        return Problem(_key(data, location), location, _bad_key(location, model))
    if kind == "extra_forbidden":
        return Problem(_key(data, location), location, _unknown(location, model))
    if kind == "missing":
        return Problem(_key(data, location[:-1]), location, "is required but missing")
    if kind == "value_error":  # of a validator of ours: about the mapping as a whole
        return Problem(_key(data, location), location, str(context.get("error", detail["msg"])))
    where = data.values.get(location) if detail["input"] is not None else _key(data, location)
    return Problem(
        where, location, _wrong_value(kind, context, detail["input"], annotation_at(model, location), detail)
    )


def _key(data: YamlData, location: Location) -> Position | None:
    """Returns the position of a location's key; for an item of a list, that of the item."""
    if not data.values:
        return None
    return data.keys.get(location) or data.values.get(location) or Position(1, 1)


def _unknown(location: Location, model: type[BaseModel]) -> str:
    name, parent = str(location[-1]), model_at(model, location[:-1])
    if parent is None:
        return "unknown field"
    known = [f.name for f in fields_of(parent)]
    if meant := did_you_mean(name, known):
        return f"unknown field{meant}"
    if elsewhere := [f.path for f in walk(model) if normalized(f.name) == normalized(name)][:3]:
        return f"unknown field here, did you mean {' or '.join(elsewhere)}?"
    return f"unknown field; the known ones are {', '.join(known)}"


def _bad_key(location: Location, model: type[BaseModel]) -> str:
    mapping = unwrap(annotation_at(model, location[:-1]))[0]
    allowed = allowed_values(get_args(mapping)[0]) if get_args(mapping) else ()
    return _not_one_of(str(location[-1]), allowed)


def _not_one_of(value: Any, allowed: Sequence[str]) -> str:
    tail = did_you_mean(value, allowed) if isinstance(value, str) else ""
    one_of = f"must be {allowed[0]}" if len(allowed) == 1 else f"must be one of {', '.join(allowed)}"
    return f"{one_of}; got {_show(value)}{tail}"


def _wrong_value(kind: str, context: Mapping[str, Any], value: Any, annotation: Any, detail: ErrorDetails) -> str:
    unit = "character" if kind.startswith("string") else "entry"
    match kind:
        case "literal_error":
            return _not_one_of(value, allowed_values(annotation))
        case "string_pattern_mismatch":
            pattern = str(context.get("pattern"))
            words = f"must be {PATTERNS_IN_WORDS.get(pattern, f'a string that matches {pattern}')}"
        case "too_short" | "string_too_short":
            words = f"must have at least {counted(context['min_length'], unit)}"
        case "too_long" | "string_too_long":
            words = f"must have at most {counted(context['max_length'], unit)}"
        case _ if kind in _BOUNDS:
            comparison, limit = _BOUNDS[kind]
            words = f"must be {comparison} {_number(context[limit])}"
        case _:
            expected = [w for prefix, w in _TYPES if kind.startswith(prefix)]
            words = f"must be {expected[0]}" if expected else f"{detail['msg'][:1].lower()}{detail['msg'][1:]}"
    return f"{words}, got {_show(value)}{_quotes(kind, value)}"


_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}
_TYPES = (
    ("int_", "an integer"),
    ("float_", "a number"),
    ("finite_number", "a finite number"),
    ("string_", "a string"),
    ("bool_", "true or false"),
    ("dict_", "a mapping"),
    ("model_", "a mapping"),
    ("list_", "a list"),
    ("tuple_", "a list"),
)


def _quotes(kind: str, value: Any) -> str:
    """Returns advice for the most frequent mistake: quotes that are missing or too many."""
    if kind == "string_type" and isinstance(value, bool | int | float):
        return "; put it in quotes"
    if kind in ("int_type", "float_type", "bool_type") and isinstance(value, str) and _is_number_or_bool(value):
        return "; remove the quotes"
    return ""


def _is_number_or_bool(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in ("true", "false")
    return True


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)


def _show(value: Any) -> str:
    """A value for a message, shortened to one line."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return _number(value) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        shown = json.dumps(value if len(value) <= 60 else value[:57] + "...", ensure_ascii=False)
        return shown if value else "an empty string"
    if not value:
        return "an empty list" if isinstance(value, list) else "an empty mapping"
    return "a list" if isinstance(value, list) else "a mapping"


def _line(name: str, problem: Problem) -> str:
    where = f"{name}:{problem.position.line}:{problem.position.column}" if problem.position else name
    path = format_path(problem.path)
    line = f"{where}: {path}: {problem.text}" if path else f"{where}: {problem.text}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def _yaml_files(folder: Path) -> list[str]:
    try:
        return [p.name for p in folder.iterdir() if p.suffix in (".yaml", ".yml")]
    except OSError:
        return []


def _plain(value: Any) -> Any:
    """Converts what `json` cannot serialize by itself."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} of type {type(value).__name__}")
