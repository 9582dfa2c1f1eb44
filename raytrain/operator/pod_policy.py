"""The platform's policy, applied to the finished pods of a run: every container and every volume.

What a job writes reaches its pods in several ways (`cluster.image`, `secrets`, `tolerations`,
`resourceName`, `podTemplate`), so the pods are checked as they will be created. What the operator's
own settings bring in is always allowed.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from raytrain.operator.image_reference import parse_image, parse_pattern
from raytrain.operator.render.names import TOPOLOGY_ANNOTATIONS
from raytrain.operator.render.pods import AUTOSCALER_CONTAINER, AUTOSCALER_VOLUMES
from raytrain.operator.settings import OPTIONAL_POD_FIELDS, Policy, Runs

POD_FIELDS = (
    *("activeDeadlineSeconds", "affinity", "automountServiceAccountToken", "containers", "enableServiceLinks"),
    *("imagePullSecrets", "initContainers", "nodeSelector", "priorityClassName", "securityContext"),
    *("serviceAccountName", "terminationGracePeriodSeconds", "tolerations", "topologySpreadConstraints", "volumes"),
)
"""Fields of a pod that a run may have; every other one, and every new one, is refused.

Settings may add those of `OPTIONAL_POD_FIELDS`.
"""
CONTAINER_FIELDS = (
    *("name", "image", "imagePullPolicy", "command", "args", "workingDir", "env", "envFrom", "ports", "resources"),
    *("volumeMounts", "securityContext", "lifecycle", "livenessProbe", "readinessProbe", "startupProbe"),
    *("restartPolicy", "terminationMessagePath", "terminationMessagePolicy"),
)
"""Fields of a container that a run may have."""
VOLUMES = ("configMap", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "secret")
"""Kinds of volumes that a run may have."""
_AUTOSCALERS = tuple(str(volume["name"]) for volume in AUTOSCALER_VOLUMES)
_TAKEN_NAMES = (AUTOSCALER_CONTAINER, "wait-gcs-ready")
"""Names of containers that KubeRay adds."""
SYSTEM_PRIORITY = "system-"
OUR_VARIABLES = "RAYTRAIN_"
"""Variables by which the operator tells a run what it is: no job may set one."""

Problem = tuple[str, str]
"""A reason in one word, and what is wrong."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A finished pod, and the same pod without what the job's podTemplate adds."""

    name: str
    metadata: Mapping[str, Any]
    spec: Mapping[str, Any]
    ours: Mapping[str, Any]


def check_pod(pod: Pod, policy: Policy, runs: Runs) -> Iterator[Problem]:
    """Yields what the policy refuses in a finished pod, by field."""
    spec, name = pod.spec, pod.name
    forbidden = "PodTemplateNotAllowed"
    yield from ((forbidden, f"{name} pod: {what}") for what in _fields(spec, policy))
    yield from ((forbidden, f"{name} pod: {what}") for what in _metadata(pod.metadata, policy, runs))
    yield from ((forbidden, f"{name} pod: {what}") for what in _account(pod))
    yield from ((forbidden, f"{name} pod: {what}") for what in _security(spec.get("securityContext"), pod=True))
    yield from ((forbidden, f"{name} pod: {what}") for what in _volumes(pod))
    for container in containers(spec):
        where = f"{name} pod, container {container['name']}"
        yield from ((forbidden, f"{where}: {what}") for what in _container(container, pod))
        yield from (("ImageNotAllowed", f"{where}: {what}") for what in _image(container, policy, runs))
    for secret, where in sorted(_secrets(spec)):
        if secret not in {*runs.secrets, *runs.image_pull_secrets} and not _matches(secret, policy.allowed_secrets):
            yield "SecretNotAllowed", f"{name} pod, {where}: secret {secret}: {_allowed(policy.allowed_secrets)}"
    yield from (("TolerationNotAllowed", f"{name} pod: {what}") for what in _tolerations(spec, policy))
    priority = str(spec.get("priorityClassName") or "")
    yield from (("PriorityClassNotAllowed", f"{name} pod: {what}") for what in check_priority(priority, policy))


def containers(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yields every container of a pod, init containers and sidecars included."""
    for kind in ("containers", "initContainers"):
        yield from spec.get(kind, [])


def _fields(spec: Mapping[str, Any], policy: Policy) -> Iterator[str]:
    for key in spec:
        if key in OPTIONAL_POD_FIELDS and key not in policy.allowed_pod_fields:
            yield f"{key} may not be set, unless policy.allowedPodFields in the operator's settings has it"
        elif key not in (*POD_FIELDS, *OPTIONAL_POD_FIELDS):
            yield f"{key} may not be set"


def _metadata(metadata: Mapping[str, Any], policy: Policy, runs: Runs) -> Iterator[str]:
    """Annotations that software acts on, and labels by which NetworkPolicies let a pod in."""
    allowed = policy.allowed_annotations
    for key in metadata.get("annotations", {}).keys() - set(TOPOLOGY_ANNOTATIONS):
        # Software reads keys with a domain; those of CRI-O have no slash.
        if ("." in key or "/" in key) and not any(fnmatchcase(key, pattern) for pattern in allowed):
            yield f"annotation {key}: {_allowed(allowed) if allowed else 'policy.allowedAnnotations allows none'}"
    labels = metadata.get("labels", {})
    for who, selector in (("KubeRay", runs.kuberay_selector), ("Prometheus", runs.prometheus_selector)):
        if selector and all(labels.get(key) == value for key, value in selector.items()):
            yield f"its labels ({', '.join(selector)}) are those of {who}, which other runs let in"


def _account(pod: Pod) -> Iterator[str]:
    if (found := pod.spec.get("serviceAccountName")) != pod.ours.get("serviceAccountName"):
        yield f"serviceAccountName {found} is not the run's own"
    if pod.spec.get("automountServiceAccountToken", True) and not pod.ours.get("automountServiceAccountToken", True):
        yield "automountServiceAccountToken may not be true here"


def _security(found: Any, *, pod: bool) -> Iterator[str]:
    """What loosens the restricted Pod Security standard (kubernetes.io/docs, Pod Security)."""
    context = found if isinstance(found, Mapping) else {}
    rules = _POD_RULES if pod else _CONTAINER_RULES
    for key, is_right in rules.items():
        if key in context and not is_right(context[key]):
            yield f"securityContext.{key} may not be {context[key]}"
    yield from (f"securityContext.{key} may not be set" for key in context if key not in rules)


def _container(container: Mapping[str, Any], pod: Pod) -> Iterator[str]:
    yield from (f"{key} may not be set" for key in container if key not in CONTAINER_FIELDS)
    if container["name"] in _TAKEN_NAMES:
        yield "this name is KubeRay's own"
    if any(mount.get("name") in _AUTOSCALERS for mount in container.get("volumeMounts", [])):
        yield "the autoscaler's volumes may not be mounted"
    yield from _security(container.get("securityContext"), pod=False)
    context = container.get("securityContext") or {}
    yield from (f"securityContext.{key} must be set" for key in _REQUIRED if key not in context)
    if any(isinstance(port, Mapping) and port.get("hostPort") for port in container.get("ports", [])):
        yield "ports.hostPort may not be set"
    yield from (f"{path} may not be set" for path in _hosts(container))
    for variable in container.get("env", []):
        ours = [known for each in containers(pod.ours) for known in each["env"]]
        if variable["name"].startswith(OUR_VARIABLES) and variable not in ours:
            yield f"env {variable['name']} is the operator's own"
    for source in container.get("envFrom", []):
        if (prefix := str(source.get("prefix") or "")) and (
            prefix.startswith(OUR_VARIABLES) or OUR_VARIABLES.startswith(prefix)
        ):
            yield f"envFrom.prefix {prefix}: {OUR_VARIABLES}... are the operator's own"


def _hosts(container: Mapping[str, Any]) -> Iterator[str]:
    """Probes and hooks that name a host: the kubelet would connect to it from the node."""
    lifecycle = container.get("lifecycle") or {}
    handlers = {key: container.get(key) for key in _PROBES} | {f"lifecycle.{key}": lifecycle.get(key) for key in _HOOKS}
    for path, handler in handlers.items():
        for kind in ("httpGet", "tcpSocket"):
            if ((handler or {}).get(kind) or {}).get("host"):
                yield f"{path}.{kind}.host"


_PROBES, _HOOKS = ("livenessProbe", "readinessProbe", "startupProbe"), ("postStart", "preStop")


def _is_true(value: Any) -> bool:
    return value is True


def _is_false(value: Any) -> bool:
    return value is False


def _is_user(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_default_profile(value: Any) -> bool:
    return bool(value == {"type": "RuntimeDefault"})


_COMMON: Mapping[str, Callable[[Any], bool]] = {
    "runAsNonRoot": _is_true,
    "runAsUser": _is_user,
    "runAsGroup": _is_user,
    "seccompProfile": _is_default_profile,
}
_POD_RULES: Mapping[str, Callable[[Any], bool]] = {
    **_COMMON,
    "fsGroup": _is_user,
    "fsGroupChangePolicy": lambda value: isinstance(value, str),
    "supplementalGroups": lambda value: isinstance(value, list) and all(map(_is_user, value)),
}
_CONTAINER_RULES: Mapping[str, Callable[[Any], bool]] = {
    **_COMMON,
    "allowPrivilegeEscalation": _is_false,
    "privileged": _is_false,
    "readOnlyRootFilesystem": lambda value: isinstance(value, bool),
    "capabilities": lambda value: value == {"drop": ["ALL"]},
}
_REQUIRED = ("allowPrivilegeEscalation", "capabilities", "runAsNonRoot", "seccompProfile")


def _volumes(pod: Pod) -> Iterator[str]:
    """Volumes of kinds that are not allowed; the autoscaler's must be as the operator made them."""
    ours = {volume["name"]: volume for volume in pod.ours.get("volumes", []) if volume["name"] in _AUTOSCALERS}
    for volume in pod.spec.get("volumes", []):
        if volume["name"] in _AUTOSCALERS:
            if volume != ours.get(volume["name"]):
                yield f"volume {volume['name']} is the autoscaler's own"
            continue
        for kind in volume.keys() - {"name", *VOLUMES}:
            yield f"volume {volume['name']}: {kind} is not allowed; allowed are {', '.join(VOLUMES)}"


def _image(container: Mapping[str, Any], policy: Policy, runs: Runs) -> Iterator[str]:
    image = container.get("image")
    if image == runs.image:
        return
    try:
        found = parse_image(str(image or ""))
    except ValueError as error:
        yield str(error)
        return
    patterns = [parse_pattern(text) for text in policy.allowed_images]
    if patterns and not any(pattern.allows(found) for pattern in patterns):
        yield f"image {image}: {_allowed(policy.allowed_images)}"


def _secrets(spec: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Every secret that a pod uses, and where: environment, volumes, pulling of images."""
    found = {(str(item["name"]), "imagePullSecrets") for item in spec.get("imagePullSecrets", [])}
    for container in containers(spec):
        for part in ("env", "envFrom"):
            found |= {(name, f"container {container['name']}, {part}") for name in _references(container.get(part))}
    for volume in spec.get("volumes", []):
        found |= {(name, f"volume {volume['name']}") for name in _references(volume)}
    return found


def _references(part: Any) -> Iterator[str]:
    """Names of secrets anywhere in a part: secretRef, secretKeyRef, secret, ...SecretRef."""
    if isinstance(part, list):
        for item in part:
            yield from _references(item)
    elif isinstance(part, Mapping):
        for key, value in part.items():
            if "secret" in key.lower():
                yield from _names(value)
            yield from _references(value)


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (str(value[key]) for key in ("name", "secretName") if value.get(key))


def _tolerations(spec: Mapping[str, Any], policy: Policy) -> Iterator[str]:
    allowed = policy.allowed_tolerations
    if not allowed or "*" in allowed:
        return
    for toleration in spec.get("tolerations", []):
        key = toleration.get("key")
        if not key:
            yield f"tolerates every taint: {_allowed(allowed)}"
        elif key != DEFAULT_GPU and not _matches(key, allowed):
            yield f"tolerates the taint {key}: {_allowed(allowed)}"


DEFAULT_GPU = "nvidia.com/gpu"
"""The taint of GPU nodes that every GPU pod tolerates by default."""


def check_priority(name: str, policy: Policy) -> Iterator[str]:
    """Yields what the policy refuses in a priority class, be it Kubernetes' or Kueue's."""
    if name.startswith(SYSTEM_PRIORITY):
        yield f"priority class {name} is for the cluster's own pods"
    elif name and not _matches(name, policy.allowed_priority_classes):
        yield f"priority class {name}: {_allowed(policy.allowed_priority_classes)}"


def _matches(name: str, patterns: Collection[str]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def _allowed(patterns: Sequence[str]) -> str:
    return f"allowed are {' or '.join(patterns)}"
