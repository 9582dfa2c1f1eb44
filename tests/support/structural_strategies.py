"""Hypothesis strategies of what an API server lets through a structural schema.

Nulls where they are allowed, and any plain data where unknown fields are kept.
"""

from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

KEYS = (
    *("metadata", "spec", "labels", "annotations", "containers", "initContainers", "volumes", "volumeMounts", "env"),
    *("envFrom", "securityContext", "name", "image", "mountPath", "key", "operator", "value", "ports", "hostPort"),
    *("tolerations", "imagePullSecrets", "secret", "secretName", "secretRef", "valueFrom", "secretKeyRef", "ray"),
)
"""Names that the operator looks for."""

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(KEYS)
)
ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
"""Any JSON value; mappings often have fields of a pod."""
MAPPING = st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), ANYTHING, max_size=4)


def admitted(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """What the API server accepts for a structural schema, apart from its rules."""
    found = _of_type(schema)
    return st.none() | found if schema.get("nullable") else found


def _of_type(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    made: dict[str, Callable[[Mapping[str, Any]], st.SearchStrategy[Any]]] = {
        "object": _mapping,
        "array": lambda list_: st.lists(admitted(list_["items"]), min_size=list_.get("minItems", 0), max_size=3),
        "string": _string,
        "integer": lambda number: st.integers(*(int(number.get(e, d)) for e, d in _INTEGERS.items())),
        "number": _number,
        "boolean": lambda _: st.booleans(),
    }
    return made[schema["type"]](schema) if "type" in schema else ANYTHING


_INTEGERS = {"minimum": -(2**63), "maximum": 2**63 - 1}


def _string(schema: Mapping[str, Any]) -> st.SearchStrategy[str]:
    if "pattern" in schema:
        return st.from_regex(schema["pattern"]).map(lambda text: text.rstrip("\n"))
    return st.text(min_size=schema.get("minLength", 0), max_size=min(schema.get("maxLength", 12), 12))


def _number(schema: Mapping[str, Any]) -> st.SearchStrategy[float]:
    return st.floats(
        schema.get("minimum"),
        schema.get("maximum"),
        allow_nan=False,
        allow_infinity=False,
        exclude_min="exclusiveMinimum" in schema,
        exclude_max="exclusiveMaximum" in schema,
    )


def _mapping(schema: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    if "additionalProperties" in schema:
        return st.dictionaries(st.text(max_size=8), admitted(schema["additionalProperties"]), max_size=3)
    if "properties" not in schema:
        return MAPPING
    required = set(schema.get("required", ()))
    properties = {name: admitted(value) for name, value in schema["properties"].items()}
    return st.fixed_dictionaries(
        {name: value for name, value in properties.items() if name in required},
        optional={name: value for name, value in properties.items() if name not in required},
    )
