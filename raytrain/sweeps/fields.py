"""Fields of a job as a sweep names them: `training.learningRate`, `tasks[reviews].probe`.

Pure functions on job files as plain data.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic.alias_generators import to_camel

from raytrain.config.explain import find_field
from raytrain.config.job import FineTuneJob
from raytrain_core.config.fields import annotation_at, unwrap
from raytrain_core.errors import UsageError
from raytrain_core.text import did_you_mean

Location = tuple[str | int, ...]
Plain = dict[str, Any]
"""A job file as plain data."""

_STEP = re.compile(r"([^.\[\]]+)((?:\[[^\[\]]+\])*)")
_SCORED = "it changes which rows are scored, or how: scores could not be compared with the job as written"
_REFUSED = {
    "metadata": "names are the sweep's to give",
    "spec.storage": "all runs of a sweep share one storage",
    "spec.resources": "results do not depend on it",
    "spec.cluster": "results do not depend on it",
    "spec.serving": "results do not depend on it",
    "spec.probes": _SCORED,
    "spec.training.device": "results do not depend on it",
    "spec.training.trackers": "results do not depend on it",
    "spec.training.registerModel": "results do not depend on it",
    "spec.training.keepCheckpoints": "results do not depend on it",
    "spec.training.hangTimeoutSeconds": "results do not depend on it",
    "spec.training.seed": "set seeds instead, so that every setting gets each seed",
    "spec.mixture.seed": "set seeds instead, so that every setting gets each seed",
    "spec.training.precision": _SCORED,
    "spec.training.maxInputTokens": _SCORED,
    "spec.training.maxTargetTokens": _SCORED,
    "spec.evaluation.examplesPerTask": _SCORED,
    "spec.evaluation.maxNewTokens": _SCORED,
    "spec.evaluation.batchSize": "results do not depend on it",
    "spec.evaluation.beams": _SCORED,
}
_OF_A_TASK = "probe"


def locate(path: str, job: Plain) -> Location:
    """Returns where a field is in this job; items of lists are named, as in `tasks[reviews].probe`.

    Raises UsageError if the job has no such field, with the one that was probably meant, and for a
    field that a sweep must not change.
    """
    location: Location = ()
    for part in _parts(path):
        location = (*location, _item(location, part, job) if isinstance(part, _Item) else part)
    if annotation_at(FineTuneJob, location) is None:
        raise _unknown(path)
    if reason := _refusal(location):
        raise UsageError(f"{path} cannot be swept: {reason}")
    return location


def is_integer(location: Location) -> bool:
    """Whether the field at a location holds an integer."""
    return unwrap(annotation_at(FineTuneJob, location))[0] is int


def is_number(location: Location) -> bool:
    """Whether the field at a location holds a number."""
    return unwrap(annotation_at(FineTuneJob, location))[0] in (int, float)


def with_values(job: Plain, values: Mapping[Location, Any]) -> Plain:
    """Returns the job with other values at these locations; the given one stays as it is."""
    changed = job
    for location, value in values.items():
        changed = _replaced(changed, location, value)
    return changed


class _Item(str):
    """The name of an item of a list."""

    __slots__ = ()


def _parts(path: str) -> list[str]:
    parts, end = list[str](), 0
    for match in _STEP.finditer(path):
        if match.start() != end:
            break
        parts.append(to_camel(match[1]) if "_" in match[1] else match[1])
        parts += [_Item(name) for name in re.findall(r"\[([^\[\]]+)\]", match[2])]
        end = match.end() + (path[match.end() :][:1] == ".")
    if end != len(path) or not parts or path.endswith("."):
        raise UsageError(f"{path!r} is not the path of a field", hint="write it like training.learningRate")
    return parts if parts[0] in FineTuneJob.model_fields or parts[0] == "apiVersion" else ["spec", *parts]


def _item(location: Location, name: str, job: Plain) -> int:
    items = _at(job, location)
    names = [str(item.get("name")) for item in items] if isinstance(items, list) else []
    if name not in names:
        where = ".".join(str(part) for part in location).removeprefix("spec.")
        raise UsageError(f"{where}[{name}]: the job has no such item{did_you_mean(name, names)}")
    return names.index(name)


def _unknown(path: str) -> UsageError:
    try:
        known = find_field(re.sub(r"\[[^\]]*\]", "", path))
    except UsageError as error:
        return error
    return UsageError(f"the job has no field {path}: it is {known.path}, so name the item, e.g. tasks[NAME].probe")


def _refusal(location: Location) -> str | None:
    """Returns why a sweep must not change this field, None if it may."""
    name = ".".join(str(part) for part in location)
    for refused, reason in _REFUSED.items():
        if refused.startswith(f"{name}."):
            return "name a field below it"
        if name == refused or name.startswith(f"{refused}."):
            return reason
    if location[:2] == ("spec", "tasks") and location[3:] != (_OF_A_TASK,):
        return f"{_SCORED}; of a task, only {_OF_A_TASK} can be"
    return None if location[:1] == ("spec",) else "only fields of spec can be"


def _at(value: Any, location: Sequence[str | int]) -> Any:
    for part in location:
        value = value.get(part) if isinstance(value, dict) else value[part] if isinstance(part, int) else None
    return value


def _replaced(value: Any, location: Location, new: Any) -> Any:
    if not location:
        return new
    first, rest = location[0], location[1:]
    if isinstance(first, int):
        return [_replaced(item, rest, new) if place == first else item for place, item in enumerate(value)]
    inside = value if isinstance(value, dict) else {}
    return {**inside, first: _replaced(inside.get(first), rest, new)}
