"""Bundles what helps to debug a job in a cluster: its objects and events, without secrets.

Secrets are never read. Values of environment variables, and everything that looks like a secret,
are redacted.
"""

import json
import platform
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from raytrain.cluster import doctor, jobs
from raytrain.kubernetes.client import RAY_JOBS, KubernetesApi
from raytrain.operator.render.names import JOB_LABEL
from raytrain.telemetry.redaction import mask_secrets
from raytrain_core.errors import UserError

REDACTED = "(redacted)"
_RAY_CLUSTERS = ("ray.io/v1", "RayCluster")
_KINDS = {"rayjobs": RAY_JOBS, "rayclusters": _RAY_CLUSTERS, "pods": ("v1", "Pod")}
_EVENTS = ("v1", "Event")
_PACKAGES = ("raytrain", "ray", "torch", "transformers", "kubernetes")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"  # a copy of the job in one string
_SECRET = re.compile(r"token|secret|password|passwd|credential|api_?key|access_?key", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")


def write(api: KubernetesApi, namespace: str, name: str, file: Path) -> list[str]:
    """Writes the bundle, a zip of JSON files, and returns the names of its parts."""
    parts = dict(_parts(api, namespace, name))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        for part, content in parts.items():
            bundle.writestr(f"{name}/{part}.json", json.dumps(redact(content), indent=1))
    return list(parts)


def _parts(api: KubernetesApi, namespace: str, name: str) -> Iterator[tuple[str, Any]]:
    yield "machine", {"python": platform.python_version(), "system": platform.platform(), "packages": _versions()}
    yield "job", jobs.get(api, namespace, name)
    findings = doctor.of_cluster(api, namespace)
    yield "doctor", _or_error(lambda: [{"what": result.what, "ok": result.ok} for result in findings])
    for part, kind in _KINDS.items():
        yield part, _or_error(partial(api.list, kind, namespace, f"{JOB_LABEL}={name}"))
    # the names of all objects of a job begin with the job's name
    yield (
        "events",
        _or_error(
            lambda: [
                event
                for event in api.list(_EVENTS, namespace)
                if re.fullmatch(rf"{re.escape(name)}(-.*)?", event["involvedObject"].get("name", ""))
            ]
        ),
    )


def _or_error(look: Callable[[], Any]) -> Any:
    """The result, or why there is none: a bundle with a gap is better than no bundle."""
    try:
        return look()
    except UserError as error:
        return {"error": error.message}


def _versions() -> dict[str, str]:
    result = {}
    for package in _PACKAGES:
        try:
            result[package] = version(package)
        except PackageNotFoundError:
            result[package] = "not installed"
    return result


def redact(value: Any) -> Any:
    """Removes values of variables, of fields named like a secret, and passwords in URLs."""
    if isinstance(value, Mapping):
        return {
            key: REDACTED if _is_secret(key, item, value) else redact(item)
            for key, item in value.items()
            if key not in (_LAST_APPLIED, "managedFields")
        }
    if isinstance(value, list):
        return [redact(item) for item in value]
    return _USER_INFO.sub(f"{REDACTED}@", mask_secrets(value)) if isinstance(value, str) else value


def _is_secret(key: str, item: Any, owner: Mapping[str, Any]) -> bool:
    variable = key == "value" and set(owner) == {"name", "value"}
    return variable or (isinstance(item, str) and _SECRET.search(key) is not None)
