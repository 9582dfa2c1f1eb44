"""CEL rules of the CRD: what the API server validates beyond types and bounds.

They repeat the models' validators, so an invalid job is refused when it is applied. What no rule
can express (names in templates, local paths) the operator reports in the condition `Accepted`.
"""

import re
from collections.abc import Iterator
from typing import Any

from raytrain.config.identity import LEFT_OUT
from raytrain.config.job import Spec
from raytrain_core.config.base import SpecModel

Path = tuple[str, ...]
"""Property names from the root of the object; `[]` stands for the items of a list."""

NAME = "^[a-z][-a-z0-9]{0,39}$"


def rules() -> Iterator[tuple[Path, str, str]]:
    """Yields (path, rule, message) of every rule."""
    name = f"self.metadata.name.matches('{NAME}')"
    yield (
        (),
        name,
        "metadata.name: a lower-case letter, then lower-case letters, digits or dashes, at most 40 characters",
    )
    yield from _fixed_once_started()
    spec: Path = ("spec",)
    yield spec, "self.tasks.exists(t, !t.probe)", "every task is a probe: nothing would be trained"
    yield (
        spec,
        f"!{_given('self.mixture', 'weights')} || {_given('self.mixture', 'replay')} || "
        "(self.tasks.all(t, t.probe || t.name in self.mixture.weights) && "
        "self.tasks.filter(t, !t.probe).size() == self.mixture.weights.size())",
        "mixture.weights must name exactly the trained tasks",
    )
    mixture = (*spec, "mixture")
    for shares in (mixture, (*mixture, "groups", "[]"), (*mixture, "replay")):
        yield (
            shares,
            f"(self.strategy == 'weights') == {_given('self', 'weights')}",
            "weights must be given exactly when strategy is weights",
        )
        yield (
            shares,
            f"!{_given('self', 'weights')} || self.weights.all(w, self.weights[w] > 0.0)",
            "every weight must be positive; leave the task out or make it a probe instead",
        )
    task = (*spec, "tasks", "[]")
    yield (
        (*task, "source"),
        f"{_given('self', 'uri')} != {_given('self', 'splits')}",
        "give either uri or splits",
    )
    yield (
        (*task, "columns"),
        f"{_given('self', 'tokens')} == {_given('self', 'tags')}",
        "tokens and tags belong together: map both or none",
    )
    yield (*task, "split"), "self.validation + self.test < 1.0", "validation + test must be less than 1"
    training = (*spec, "training")
    lengths = ", ".join(_given("self", length) for length in ("steps", "epochs", "tokens"))
    yield (
        training,
        f"[{lengths}].filter(given, given).size() == 1",
        "give exactly one of steps, epochs and tokens",
    )
    yield (
        training,
        f"!{_given('self', 'packing')} || "
        "(self.packing.source >= self.maxInputTokens && self.packing.target >= self.maxTargetTokens)",
        "packing is too small for an example: it needs at least maxInputTokens and maxTargetTokens",
    )
    yield (
        training,
        f"!{_given('self', 'packing')} || self.packing.source + self.packing.target <= self.batchTokens",
        "batchTokens is smaller than one packed row",
    )
    yield (
        (*spec, "resources", "training"),
        f"!{_given('self', 'minWorkers')} || self.minWorkers <= self.workers",
        "minWorkers must not exceed workers",
    )
    for place in ("training", "evaluation", "preparation"):
        yield (
            (*spec, "resources", place),
            f"!{_given('self', 'memory')} || isQuantity(self.memory)",
            "memory must be a quantity, e.g. 24Gi",
        )
    yield (*spec, "cluster", "head"), "isQuantity(self.memory)", "memory must be a quantity, e.g. 4Gi"
    yield (*spec, "serving", "resources"), "isQuantity(self.memory)", "memory must be a quantity, e.g. 8Gi"
    yield (*spec, "serving", "replicas"), "self.min <= self.max", "min must not exceed max"


def _fixed_once_started() -> Iterator[tuple[Path, str, str]]:
    """Fields of the run's identity may change only until the first attempt.

    Tasks are compared completely, which is stricter than the identity: rules for their individual
    fields would exceed the API server's cost limit.
    """
    for field, info in Spec.model_fields.items():
        left, model = LEFT_OUT.get(field), info.annotation
        if left is True:
            continue
        if isinstance(left, set) and isinstance(model, type) and issubclass(model, SpecModel):
            for name, part in model.model_fields.items():
                if name not in left:
                    yield from _fixed(f"spec.{field}.{part.alias or name}")
        else:
            yield from _fixed(f"spec.{field}")


def _fixed(path: str) -> Iterator[tuple[Path, str, str]]:
    started = "has(oldSelf.status) && has(oldSelf.status.attempts) && size(oldSelf.status.attempts) > 0"
    same = f"has(self.{path}) == has(oldSelf.{path}) && (!has(self.{path}) || self.{path} == oldSelf.{path})"
    yield (
        (),
        f"!({started}) || ({same})",
        f"{path} cannot change once the run has started, because it is part of the run's identity; "
        "give the job another name",
    )


def _given(owner: str, field: str) -> str:
    """Tests whether a nullable field has a value."""
    return f"(has({owner}.{field}) && dyn({owner}.{field}) != null)"


def place(schema: dict[str, Any], path: Path) -> dict[str, Any]:
    """Returns the part of a structural schema at a path."""
    for name in path:
        schema = schema["items"] if name == "[]" else schema["properties"][name]
    return schema


def field_path(schema: dict[str, Any], rule: str) -> str:
    """The first field of the schema that a rule names, which the API server then names as wrong."""
    for names in re.findall(r"\bself((?:\.[a-zA-Z]\w*)+)", rule):
        path, inner = "", schema
        for name in names[1:].split("."):
            if name not in inner.get("properties", {}):
                break
            path, inner = f"{path}.{name}", inner["properties"][name]
        if path:
            return "" if path == ".metadata" else path
    return ""
