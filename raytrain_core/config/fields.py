"""Describes the fields of a pydantic model: name, type in words, default, limits, allowed values.

Error messages, `raytrain explain` and the generated reference are built from it.
"""

import json
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

PATTERNS_IN_WORDS = {
    r"^[a-z][-a-z0-9]{0,39}$": "a lower-case letter, then lower-case letters, digits or dashes, at most 40 characters",
    r"^[a-z][-a-z0-9]{0,25}$": "a lower-case letter, then lower-case letters, digits or dashes, at most 26 characters",
    r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$": "a Kubernetes name: lower-case letters, digits, dashes and dots",
    r"^([1-9][0-9]{0,8}[sm]|[1-9][0-9]{0,6}h|[1-9][0-9]{0,4}d)$": (
        "a number and s, m, h or d, e.g. 90m; at most 99999d"
    ),
}


@dataclass(frozen=True, slots=True)
class ConfigField:
    """One field of a configuration file."""

    path: str
    """Dotted path; `[]` stands for the items of a list, `<name>` for the entries of a mapping."""
    name: str
    type_words: str
    description: str
    required: bool
    default: Any
    """Plain data; None if there is no default."""
    allowed: tuple[str, ...]
    limits: str
    examples: tuple[str, ...]
    model: type[BaseModel] | None
    """The model of the fields below this one, if it has any."""

    @property
    def default_text(self) -> str:
        """The default as it is written in the file."""
        if self.required:
            return "none, it is required"
        if self.model is not None and self.default is not None:
            return "the defaults of its fields"
        return "none" if self.default is None else json.dumps(self.default, ensure_ascii=False)


def written_name(name: str, info: FieldInfo) -> str:
    """A field's name as it is written in the file."""
    return info.alias or name


def fields_of(model: type[BaseModel], prefix: str = "") -> list[ConfigField]:
    """Returns the fields of one model, without those of nested models."""
    return [_field(prefix, name, info) for name, info in model.model_fields.items()]


def walk(model: type[BaseModel], prefix: str = "") -> Iterator[ConfigField]:
    """Yields every field, depth first."""
    for field in fields_of(model, prefix):
        yield field
        if field.model is not None:
            yield from walk(field.model, field.path)


def annotation_at(model: type[BaseModel], location: Sequence[str | int]) -> Any:
    """Returns the type of the value at a location, None if the models have no such location."""
    here: Any = model
    for part in location:
        here = unwrap(here)[0]
        if isinstance(here, type) and issubclass(here, BaseModel):
            found = [i for n, i in here.model_fields.items() if part in (n, written_name(n, i))]
            if not found:
                return None
            here = found[0].annotation
        elif get_origin(here) is dict:
            here = get_args(here)[1]
        elif get_origin(here) in (list, tuple) and isinstance(part, int):
            here = get_args(here)[0]
        else:
            return None
    return here


def model_at(model: type[BaseModel], location: Sequence[str | int]) -> type[BaseModel] | None:
    """Returns the model of the mapping at a location."""
    core = unwrap(annotation_at(model, location))[0]
    return core if isinstance(core, type) and issubclass(core, BaseModel) else None


def allowed_values(annotation: Any) -> tuple[str, ...]:
    """Returns the values of a Literal (also in a list or an optional) as text."""
    core = unwrap(annotation)[0]
    if get_origin(core) is Literal:
        return tuple(str(v) for v in get_args(core))
    if get_origin(core) is list:
        return allowed_values(get_args(core)[0])
    return ()


def type_in_words(annotation: Any) -> str:
    """A type in words: integer, list of strings, ..."""
    core, nullable = unwrap(annotation)
    origin, args = get_origin(core), get_args(core)
    if origin is Literal:
        words = "string"
    elif origin is list:
        words = f"list of {_plural(args[0])}"
    elif origin is tuple:
        words = f"list of {len(args)} {_plural(args[0])}"
    elif origin is dict:
        words = f"mapping of names to {_plural(args[1])}"
    elif isinstance(core, type) and issubclass(core, BaseModel):
        words = "mapping"
    else:
        words = {bool: "boolean", int: "integer", float: "number", str: "string"}.get(core, "anything")
    return f"{words} or null" if nullable else words


def counted(number: int, unit: str) -> str:
    """`1 entry`, `2 entries`, `3 characters`."""
    many = unit[:-1] + "ies" if unit.endswith("y") else unit + "s"
    return f"{number:,} {unit if number == 1 else many}"


def _plural(annotation: Any) -> str:
    words = type_in_words(annotation)
    return words if words == "anything" or " " in words else f"{words}s"


def unwrap(annotation: Any) -> tuple[Any, bool]:
    """Returns the annotation without Annotated and None, and whether it included None."""
    if get_origin(annotation) is Annotated:
        return unwrap(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [a for a in get_args(annotation) if a is not type(None)]
        if len(rest) == 1:
            return unwrap(rest[0])[0], len(rest) < len(get_args(annotation))
    return annotation, False


def _below(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """Returns the model below a field, and what its path adds: nothing, [] or .<name>."""
    core = unwrap(annotation)[0]
    if isinstance(core, type) and issubclass(core, BaseModel):
        return core, ""
    if get_origin(core) is list:
        return _below(get_args(core)[0])[0], "[]"
    if get_origin(core) is dict:
        return _below(get_args(core)[1])[0], ".<name>"
    return None, ""


def _field(prefix: str, name: str, info: FieldInfo) -> ConfigField:
    written = written_name(name, info)
    model, mark = _below(info.annotation)
    default: Any = None
    if not info.is_required():
        default = info.get_default(call_default_factory=True, validated_data={})
        if isinstance(default, BaseModel):
            default = default.model_dump(mode="json", by_alias=True)
    if isinstance(default, tuple):
        default = list(default)
    return ConfigField(
        path=(f"{prefix}.{written}" if prefix else written) + (mark if model else ""),
        name=written,
        type_words=type_in_words(info.annotation),
        description=info.description or "",
        required=info.is_required(),
        default=default,
        allowed=allowed_values(info.annotation),
        limits=", ".join(_limits(info.metadata, info.annotation)),
        examples=tuple(str(e) for e in info.examples or ()),
        model=model,
    )


def _limits(metadata: Sequence[Any], annotation: Any) -> Iterator[str]:
    unit = "character" if unwrap(annotation)[0] is str else "entry"
    if get_origin(annotation) is Annotated:
        metadata = [*metadata, *get_args(annotation)[1:]]
    for limit in metadata:
        match limit:
            case annotated_types.MinLen(min_length=low):
                yield f"at least {counted(low, unit)}"
            case annotated_types.MaxLen(max_length=high):
                yield f"at most {counted(high, unit)}"
            case _ if isinstance(pattern := getattr(limit, "pattern", None), str):
                yield PATTERNS_IN_WORDS.get(pattern, f"must match {pattern}")
            case _:
                yield from _bounds(limit)


def _bounds(limit: Any) -> Iterator[str]:
    match limit:
        case annotated_types.Ge(ge=low):
            yield f"at least {low}"
        case annotated_types.Gt(gt=low):
            yield f"more than {low}"
        case annotated_types.Le(le=high):
            yield f"at most {high}"
        case annotated_types.Lt(lt=high):
            yield f"less than {high}"
