"""Converts pydantic's JSON Schema into the structural schema that a CRD requires.

Structural schemas have no `$ref`, no unions of types and no `const`; they mark fields that may be
null as `nullable`, and remove unknown fields instead of refusing them. Every string, list and map
needs a bound: otherwise the API server takes the cost of rules over it to be unlimited.
"""

import re
from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

STRING_BOUND = 2048
LIST_BOUND = 200
MAP_BOUND = 2000
_KEPT = ("description", "type", "enum", "pattern", "format", "minLength", "maxLength", "minItems", "maxItems")


def structural(schema: Mapping[str, Any]) -> Schema:
    """Converts a JSON Schema with `$defs`; ValueError for what has no structural counterpart."""
    return _convert(schema, schema.get("$defs", {}))


def _convert(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    if "$ref" in node:
        target = definitions[node["$ref"].removeprefix("#/$defs/")]
        return _convert({**target, **{k: v for k, v in node.items() if k != "$ref"}}, definitions)
    if "anyOf" in node:
        return _optional(node, definitions)
    found = {key: node[key] for key in _KEPT if key in node}
    if "const" in node:
        found["enum"] = [node["const"]]
    found |= _limits(node)
    found |= _for_type(node, found, definitions)
    if node.get("default") is not None:
        found["default"] = node["default"]
    return found


def _for_type(node: Mapping[str, Any], found: Schema, definitions: Mapping[str, Any]) -> Schema:
    """What a type needs in addition to the keywords that are kept as they are."""
    match node.get("type"):
        case "object":
            return _mapping(node, definitions)
        case "array":
            return _list(node, definitions)
        case "string" if "enum" not in found and "maxLength" not in found:
            return {"maxLength": _longest(found.get("pattern", ""))}
        case "integer":
            return {"format": "int64"}
        case None:
            if set(node) - {"title", "description", "default"}:
                raise ValueError(f"no structural counterpart of {node}")
            return {"x-kubernetes-preserve-unknown-fields": True}
    return {}


def _optional(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """Converts "X or null" into a nullable X."""
    rest = [option for option in node["anyOf"] if option.get("type") != "null"]
    if len(rest) != 1:
        raise ValueError(f"a union of types has no structural counterpart: {node}")
    outer = {key: value for key, value in node.items() if key != "anyOf"}
    found = _convert({**rest[0], **outer}, definitions) | {"nullable": True}
    if "enum" in found:  # the API server refuses null for an enum even if it is nullable
        found["pattern"] = f"^({'|'.join(map(re.escape, found.pop('enum')))})$"
        found["maxLength"] = STRING_BOUND
    return found


def _limits(node: Mapping[str, Any]) -> Schema:
    """Bounds of numbers: exclusive ones become flags, those beyond 2**53 are left out."""
    found: Schema = {}
    for plain, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if plain in node:
            found[plain] = node[plain]
        elif exclusive in node and abs(node[exclusive]) < 1 << 53:
            found |= {plain: node[exclusive], exclusive: True}
    return found


def _longest(pattern: str) -> int:
    """The length that a pattern such as ^[a-z][-a-z0-9]{0,39}$ implies, which CRDs do not infer."""
    match = re.fullmatch(r"\^\[[^]]+\]\[[^]]+\]\{0,(\d+)\}\$", pattern)
    return int(match[1]) + 1 if match else STRING_BOUND


def _mapping(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    if "properties" in node:
        required = node.get("required", [])
        properties = {name: _convert(value, definitions) for name, value in node["properties"].items()}
        for name, value in properties.items():  # defaults below a mapping are filled in only if the mapping exists
            if name not in required and "properties" in value and not value.get("nullable"):
                value.setdefault("default", _filled(value))
        return {"properties": properties} | ({"required": required} if required else {})
    values = node.get("additionalProperties", True)
    if values is True:
        return {"x-kubernetes-preserve-unknown-fields": True}
    if "enum" in node.get("propertyNames", {}):
        return {"properties": {key: _convert(values, definitions) for key in node["propertyNames"]["enum"]}}
    bound = node.get("maxProperties", MAP_BOUND)
    return {"additionalProperties": _convert(values, definitions), "maxProperties": bound}


def _filled(schema: Schema) -> Schema:
    """An empty mapping with its defaults: the API server validates a default as it is written."""
    return {name: value["default"] for name, value in schema["properties"].items() if "default" in value}


def _list(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    if "prefixItems" in node:  # a tuple; all members have the same type here
        first, *others = [_convert(item, definitions) for item in node["prefixItems"]]
        if any(item != first for item in others):
            raise ValueError(f"a tuple of several types has no structural counterpart: {node}")
        return {"items": first, "minItems": len(others) + 1, "maxItems": len(others) + 1}
    items = node["items"]
    if {"type": "string"} in items.get("anyOf", ()):  # a name is short for a mapping; objects have mappings alone
        (items,) = [option for option in items["anyOf"] if option != {"type": "string"}]
    return {"items": _convert(items, definitions), "maxItems": node.get("maxItems", LIST_BOUND)}
