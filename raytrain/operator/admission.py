"""Checks whether a valid job can run in this cluster, and whether its policy allows it."""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from raytrain.config.job import ClusterSpec, FineTuneJob
from raytrain.operator.settings import Policy, Settings
from raytrain_core.errors import UsageError
from raytrain_core.quantities import parse_bytes

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
MAX_JOB_BYTES = 900_000
"""In bytes; a ConfigMap holds 1 MiB."""

_FORBIDDEN_POD = (
    *("hostNetwork", "hostPID", "hostIPC", "hostUsers", "serviceAccountName", "serviceAccount", "nodeName"),
    *("automountServiceAccountToken", "ephemeralContainers", "shareProcessNamespace"),
)
_FORBIDDEN_VOLUMES = ("hostPath", "projected", "csi", "flexVolume", "nfs", "iscsi", "rbd", "glusterfs")
_FORBIDDEN_SECURITY = ("capabilities", "seccompProfile", "seLinuxOptions", "procMount", "sysctls", "appArmorProfile")
_ALLOWED_SECURITY = {"privileged": (False,), "allowPrivilegeEscalation": (False,), "runAsNonRoot": (True,)}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a job is not accepted: a word for programs, and a sentence with the remedy for people."""

    reason: str
    message: str


def check_admission(job: FineTuneJob, settings: Settings) -> Refusal | None:
    """Returns the first obstacle, None if the job can run."""
    cluster = job.spec.cluster or ClusterSpec()
    checks = (
        _storage(job, settings, cluster),
        _local_files(job, cluster),
        _quantities(job, cluster),
        _images_and_secrets(cluster, settings.policy),
        _pod_template(cluster.pod_template, settings.policy),
    )
    return next((found for check in checks for found in check), None)


def _storage(job: FineTuneJob, settings: Settings, cluster: ClusterSpec) -> Iterator[Refusal]:
    uri = job.spec.storage.uri if job.spec.storage else settings.runs.storage
    if uri is None:
        yield Refusal(
            "NoStorage",
            "no storage: set spec.storage.uri to s3://bucket/prefix, or runs.storage in the operator's settings",
        )
    elif _is_local(uri, cluster):
        yield Refusal(
            "LocalStorage",
            f"storage {uri} is a folder in a pod and is lost with the pod: use s3://bucket/prefix, or mount a "
            "shared volume there with cluster.podTemplate",
        )


def _local_files(job: FineTuneJob, cluster: ClusterSpec) -> Iterator[Refusal]:
    remedy = "use `raytrain submit`, which uploads it, or copy it to the bucket and give its s3:// URI"
    for task in job.spec.tasks:
        for uri in [task.source.uri] if task.source.uri else (task.source.splits or {}).values():
            if _is_local(str(uri), cluster):
                yield Refusal(
                    "LocalSource", f"task {task.name}: {uri} is a local file, which pods cannot read: {remedy}"
                )
    model = job.spec.model
    by_name = _HUB_ID.fullmatch(model) is not None
    if not by_name and not model.startswith("run://") and _is_local(model, cluster):
        yield Refusal("LocalModel", f"model {model} is a local folder, which pods cannot read: {remedy}")


def _is_local(uri: str, cluster: ClusterSpec) -> bool:
    """Whether `uri` is a path outside the volumes mounted into the pods."""
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        return False
    path = PurePosixPath(parts.path if parts.scheme else uri)
    return not any(path.is_relative_to(mount) for mount in _mounts(cluster.pod_template))


def _mounts(template: Mapping[str, Any]) -> Iterator[PurePosixPath]:
    containers = template.get("spec", {}).get("containers", []) if isinstance(template.get("spec"), Mapping) else []
    for container in containers if isinstance(containers, list) else []:
        for mount in container.get("volumeMounts", []) if isinstance(container, Mapping) else []:
            yield PurePosixPath(str(mount.get("mountPath", "/nowhere")))


def _quantities(job: FineTuneJob, cluster: ClusterSpec) -> Iterator[Refusal]:
    resources = job.spec.resources
    memory = {
        "resources.training.memory": resources.training.memory,
        "resources.evaluation.memory": resources.evaluation.memory,
        "resources.preparation.memory": resources.preparation.memory,
        "cluster.head.memory": cluster.head.memory,
    }
    for field, text in memory.items():
        try:
            if text is not None:
                parse_bytes(text)
        except UsageError as error:
            yield Refusal("InvalidSpec", f"spec.{field}: {error.message}")


def _images_and_secrets(cluster: ClusterSpec, policy: Policy) -> Iterator[Refusal]:
    image = cluster.image
    if image and policy.allowed_images and not any(image.startswith(prefix) for prefix in policy.allowed_images):
        yield Refusal(
            "ImageNotAllowed",
            f"cluster.image {image}: allowed are images that begin with {' or '.join(policy.allowed_images)}",
        )
    for secret in [*cluster.secrets, *cluster.image_pull_secrets]:
        if policy.allowed_secrets and not any(fnmatch.fnmatchcase(secret, p) for p in policy.allowed_secrets):
            allowed = " or ".join(policy.allowed_secrets)
            yield Refusal("SecretNotAllowed", f"cluster.secrets {secret}: allowed are {allowed}")


def _pod_template(template: Mapping[str, Any], policy: Policy) -> Iterator[Refusal]:
    """Refuses patches that would give a pod more rights than the job's author has."""
    if template and not policy.pod_template:
        yield Refusal("PodTemplateNotAllowed", "cluster.podTemplate is disabled in the operator's settings")
        return
    for path in _forbidden(template):
        yield Refusal("PodTemplateNotAllowed", f"a job may not set cluster.podTemplate.{path}")


def _forbidden(template: Mapping[str, Any]) -> Iterator[str]:
    yield from (key for key in template if key not in ("metadata", "spec"))
    metadata, spec = template.get("metadata", {}), template.get("spec", {})
    yield from (key for key, value in (("metadata", metadata), ("spec", spec)) if not isinstance(value, Mapping))
    if not isinstance(metadata, Mapping) or not isinstance(spec, Mapping):
        return
    yield from (f"metadata.{key}" for key in metadata if key not in ("labels", "annotations"))
    for key in ("labels", "annotations"):
        yield from (f"metadata.{key}.{name}" for name in metadata.get(key) or {} if _is_reserved(name))
    yield from (f"spec.{key}" for key in _FORBIDDEN_POD if key in spec)
    yield from _security_context("spec", spec)
    for i, volume in enumerate(_items(spec.get("volumes"))):
        yield from (f"spec.volumes[{i}].{kind}" for kind in _FORBIDDEN_VOLUMES if kind in volume)
    for kind in ("containers", "initContainers"):
        for i, container in enumerate(_items(spec.get(kind))):
            yield from _security_context(f"spec.{kind}[{i}]", container)
            yield from (f"spec.{kind}[{i}].ports" for p in _items(container.get("ports")) if "hostPort" in p)


def _is_reserved(label: str) -> bool:
    """Whether a label is one by which the operator, KubeRay or Kueue find their objects."""
    return label.split("/", maxsplit=1)[0] in ("raytrain.dev", "ray.io", "kueue.x-k8s.io", "app.kubernetes.io")


def _security_context(where: str, holder: Mapping[str, Any]) -> Iterator[str]:
    security = holder.get("securityContext", {})
    if not isinstance(security, Mapping):
        yield f"{where}.securityContext"
        return
    for key, value in security.items():
        allowed = _ALLOWED_SECURITY.get(key)
        root = key in ("runAsUser", "runAsGroup", "fsGroup") and value == 0
        if value is None or root or key in _FORBIDDEN_SECURITY or (allowed is not None and value not in allowed):
            yield f"{where}.securityContext.{key}"


def _items(value: Any) -> Iterable[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
