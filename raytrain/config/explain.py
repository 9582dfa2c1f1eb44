"""Explains the fields of a job: one field, or the tree of all fields."""

from typing import Any

from raytrain.config.job import FineTuneJob
from raytrain_core.config.fields import ConfigField, walk
from raytrain_core.errors import UsageError
from raytrain_core.text import closest


def all_fields() -> list[ConfigField]:
    """Returns every field of a FineTuneJob, depth first."""
    return list(walk(FineTuneJob))


def find_field(path: str) -> ConfigField:
    """Returns the field at a dotted path; `spec.` and list marks may be left out.

    Raises UsageError, with the closest field, if there is none.
    """
    known = {_plain(f.path): f for f in all_fields()}
    name = _plain(path)
    for candidate in (name, f"spec.{name}"):
        if candidate in known:
            return known[candidate]
    ends = [f.path for plain, f in known.items() if plain.rpartition(".")[2].lower() == name.lower()]
    meant = closest(name, list(known)) or closest(f"spec.{name}", [k for k in known if k.startswith("spec.")])
    if ends or meant:
        best = " or ".join(ends[:3]) if ends else known[str(meant)].path
        raise UsageError(f"the job has no field {path}, did you mean {best}?")
    raise UsageError(f"the job has no field {path}", hint="`raytrain explain` lists all fields")


def describe(field: ConfigField) -> dict[str, Any]:
    """Returns a field as plain data, for `-o json`."""
    return {
        "path": field.path,
        "type": field.type_words,
        "description": field.description,
        "required": field.required,
        "default": field.default,
        "allowed": list(field.allowed),
        "limits": field.limits,
        "examples": list(field.examples),
        "fields": [f.path for f in below(field)],
    }


def in_words(field: ConfigField) -> str:
    """Explains a field: meaning, type, default, limits, allowed values, and the fields below it."""
    lines = [field.path, f"  {field.description}", "", f"  type     {field.type_words}"]
    lines.append(f"  default  {field.default_text}")
    if field.allowed:
        lines.append(f"  allowed  {', '.join(field.allowed)}")
    if field.limits:
        lines.append(f"  limits   {field.limits}")
    if field.examples:
        lines.append(f"  example  {', '.join(field.examples)}")
    children = below(field)
    if children:
        width = max(len(c.name) for c in children)
        lines += ["", "  fields"]
        lines += [f"    {c.name:<{width}}  {c.description}" for c in children]
    return "\n".join(lines)


def tree() -> str:
    """All fields, indented as in a job file, with type and default."""
    lines = []
    for field in all_fields():
        indent = "  " * field.path.count(".")
        mark = "[]" if field.path.endswith("[]") else ""
        if field.model is not None:
            tail = " (required)" if field.required else ""
        else:
            words = " | ".join(field.allowed) or field.type_words
            tail = f": {words}, " + ("required" if field.required else f"default {field.default_text}")
        lines.append(f"{indent}{field.name}{mark}{tail}")
    return "\n".join(lines)


def below(field: ConfigField) -> list[ConfigField]:
    """Returns the fields directly below a field."""
    if field.model is None:
        return []
    return [f for f in walk(field.model, field.path) if "." not in f.path.removeprefix(field.path + ".")]


def _plain(path: str) -> str:
    """Removes list marks and indices: `tasks[2].source` and `tasks[].source` are the same field."""
    parts = (part.partition("[")[0] for part in path.strip().strip(".").split("."))
    return ".".join(parts)
