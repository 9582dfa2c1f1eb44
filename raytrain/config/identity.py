"""The identity of a run: the fields of the job that may change its result, and no others.

A run's name stands for one identity; a job of the same name with another identity is refused, and
the differences are listed. Storage, resources, cluster, serving, device, the number of checkpoints
kept, the batch size of evaluation and licences are left out, so they may change between attempts.
How often checkpoints are written is included, because the best one becomes the model.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from raytrain.config.job import FineTuneJob

LEFT_OUT: Any = {
    "storage": True,
    "resources": True,
    "cluster": True,
    "serving": True,
    "tasks": {"__all__": {"source": {"licence"}}},
    "training": {"device", "keep_checkpoints", "hang_timeout_seconds", "trackers", "register_model"},
    "evaluation": {"batch_size"},
}
_MISSING = object()


def identity(job: FineTuneJob) -> dict[str, Any]:
    """Returns the identity as plain data: the job's field names, with defaults filled in."""
    spec = job.spec.model_dump(mode="json", by_alias=True, exclude=LEFT_OUT)
    if job.spec.training.epochs is not None or job.spec.training.tokens is not None:
        spec["training"]["steps"] = None  # follows from the data, is not part of the job
    if not spec["probes"]:  # as if there were no such field
        del spec["probes"]
    return {"apiVersion": job.api_version, "spec": spec}


def digest(identity: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of an identity in hex; the order of keys does not matter."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lists the differences between two identities: `spec.training.steps: was 100, is 200`."""
    return list(_diff("", old, new))


def _diff(path: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(k for k in new if k not in old)]:
            yield from _diff(f"{path}.{key}" if path else key, old.get(key, _MISSING), new.get(key, _MISSING))
    elif _named(old) and _named(new):
        yield from _diff_named(path, {i["name"]: i for i in old}, {i["name"]: i for i in new})
    elif old != new:
        yield f"{path}: {_was(old)}, {_is(new)}"


def _diff_named(path: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """Compares tasks by name: a task that moved has not changed."""
    for name in [n for n in old if n not in new]:
        yield f"{path}: {name} was removed"
    for name in [n for n in new if n not in old]:
        yield f"{path}: {name} was added"
    both = [n for n in old if n in new]
    for name in both:
        yield from _diff(f"{path}[{name}]", old[name], new[name])
    if both != (order := [n for n in new if n in old]):
        yield f"{path}: the order was {', '.join(both)}, is {', '.join(order)}"


def _named(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(i, Mapping) and "name" in i for i in value)


def _was(value: Any) -> str:
    return "was not set" if value is _MISSING else f"was {_show(value)}"


def _is(value: Any) -> str:
    return "is not set" if value is _MISSING else f"is {_show(value)}"


def _show(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)
