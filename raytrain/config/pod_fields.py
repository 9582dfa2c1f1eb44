"""The shape of what names Kubernetes' own things: memory, objects, `podTemplate`, `tolerations`.

The last two are passed on to Kubernetes, so a job file holds them as plain data. What the operator
reads of them must have Kubernetes' types: a list that YAML made null is found here and not in a
pod. Fields that are not named here are left to the API server.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from raytrain_core.config.base import checked_by
from raytrain_core.quantities import parse_bytes

Memory = Annotated[str, checked_by(parse_bytes)]
"""An amount of memory as Kubernetes writes it, above 0."""

ObjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
"""Name of another Kubernetes object."""

_SHOWN = 3
"""Problems in a message."""


class _Part(BaseModel):
    """Part of a pod; strict, because the API server converts nothing."""

    model_config = ConfigDict(alias_generator=to_camel, extra="allow", strict=True)


class _Named(_Part):
    name: str = Field(min_length=1)


class _VolumeMount(_Named):
    mount_path: str = Field(min_length=1)


class _Handler(_Part):
    http_get: dict[str, Any] | None = None
    tcp_socket: dict[str, Any] | None = None


class _Lifecycle(_Part):
    post_start: _Handler | None = None
    pre_stop: _Handler | None = None


class _Container(_Named):
    image: str = ""
    command: list[str] = []
    args: list[str] = []
    env: list[_Named] = []
    env_from: list[dict[str, Any]] = []
    ports: list[dict[str, Any]] = []
    resources: dict[str, Any] = {}
    security_context: dict[str, Any] = {}
    volume_mounts: list[_VolumeMount] = []
    liveness_probe: _Handler | None = None
    readiness_probe: _Handler | None = None
    startup_probe: _Handler | None = None
    lifecycle: _Lifecycle | None = None


class _Toleration(_Part):
    model_config = ConfigDict(extra="forbid")

    key: str | None = None
    operator: Literal["Exists", "Equal", "Lt", "Gt"] | None = None
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = None


class _PodSpec(_Part):
    containers: list[_Container] = []
    init_containers: list[_Container] = []
    volumes: list[_Named] = []
    image_pull_secrets: list[_Named] = []
    tolerations: list[_Toleration] = []
    node_selector: dict[str, str] = {}
    security_context: dict[str, Any] = {}


class _Metadata(_Part):
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _PodTemplate(_Part):
    metadata: _Metadata = _Metadata()
    spec: _PodSpec = _PodSpec()


def _check_template(value: dict[str, Any]) -> dict[str, Any]:
    """Returns the template; ValueError names the fields that do not have Kubernetes' types."""
    _check(_PodTemplate, value)
    for kind in ("containers", "initContainers", "volumes", "imagePullSecrets"):
        names = [item["name"] for item in value.get("spec", {}).get(kind, [])]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"spec.{kind}: {', '.join(twice)} is there twice")
    return value


def _check_toleration(value: dict[str, Any]) -> dict[str, Any]:
    _check(_Toleration, value)
    return value


def _check(model: type[BaseModel], value: Mapping[str, Any]) -> None:
    try:
        model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False)
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ValueError("; ".join(map(_told, found[:_SHOWN])) + more) from None


def _told(detail: ErrorDetails) -> str:
    path = ""
    for part in detail["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    if detail["type"] == "missing":
        return f"{path}: is required but missing"
    if detail["input"] is None:
        return f"{path}: is null; leave the field out or give it a value"
    expected = next((words for kind, words in _TYPES.items() if detail["type"].startswith(kind)), "")
    return f"{path}: {expected or detail['msg'][:1].lower() + detail['msg'][1:]}"


_TYPES = {
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "list": "must be a list",
    "dict": "must be a mapping",
    "model": "must be a mapping",
    "extra_forbidden": "unknown field",
}
"""What pydantic calls a wrong type, and what it should have been."""


PodTemplate = Annotated[dict[str, Any], AfterValidator(_check_template)]
"""A pod's metadata and spec, as plain data."""
Toleration = Annotated[dict[str, Any], AfterValidator(_check_toleration)]
"""A toleration, as plain data."""
