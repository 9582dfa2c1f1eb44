"""What keeps an attempt's pods from starting, in the words of scheduler, kubelet and KubeRay.

The kind decides what follows: a `mistake` has to be corrected and ends the job, lacking `capacity`
is waited for, any other `failure` is tried again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from raytrain.config.job_status import Obstacle, ObstacleKind
from raytrain_core.quantities import parse_quantity

Object = Mapping[str, Any]

_IMAGE = (
    *("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"),
    *("ImageInspectError", "SignatureValidationFailed"),
)
_CONFIGURATION = ("CreateContainerConfigError", "InvalidImageName", "ErrImageNeverPull")
_CRASHED = ("CreateContainerError", "RunContainerError", "CrashLoopBackOff", "OOMKilled", "Error")
_PASSES = re.compile(
    r"(?<![\w./-])time(d )?out|deadline exceeded|connection re(fused|set)|no such host|too ?many ?requests|"
    r"(?<!\S)(429|5\d\d)\b(?![.\w/-])|\bEOF\b|registry is unavailable|no space left",
    re.I,
)
"""A registry that does not answer, or a full node: nobody's mistake. No part of an image's name."""
_MISSING = re.compile(
    r"(secret|configmap|persistentvolumeclaim) \"[^\"]+\" not found|references non-existent (secret|config) key", re.I
)
_NO_SUCH_NODE = re.compile(r"\b0/(\d+) nodes are available: \1 node\(s\) didn't match Pod's node affinity/selector")
_ORDER: tuple[ObstacleKind, ...] = ("mistake", "capacity", "failure")


def find_obstacle(statuses: Iterable[Object], pods: Iterable[Object], events: Iterable[Object] = ()) -> Obstacle | None:
    """The worst obstacle in statuses of RayClusters, in their pods and events; None without one."""
    found = [*_of_clusters(statuses), *_of_pods(pods), *_of_volumes(events)]
    return min(found, key=lambda obstacle: _ORDER.index(obstacle.kind), default=None)


def seen_since(found: Obstacle, before: Obstacle | None, time: str) -> Obstacle:
    """The obstacle with the time since when there has been one of its kind.

    Older kubelets forget why they could not pull an image once they wait for the next try.
    """
    if before is None:
        return found.model_copy(update={"since": time})
    forgotten = found.reason == "ImagePullBackOff" and "ErrImagePull" not in found.message
    if forgotten and before.reason == "ErrImagePull":
        return before
    return found.model_copy(update={"since": before.since if before.kind == found.kind else time})


def _of_clusters(statuses: Iterable[Object]) -> Iterator[Obstacle]:
    for status in statuses:
        for condition in _mappings(status.get("conditions")):
            kind, holds = condition.get("type"), condition.get("status") == "True"
            reason, message = _text(condition, "reason"), _text(condition, "message")
            if kind == "ReplicaFailure" and holds:
                yield _refused_pod(reason or "ReplicaFailure", message or "pods could not be created")
            elif kind == "HeadPodReady" and not holds and reason in (*_IMAGE, *_CONFIGURATION, *_CRASHED):
                yield _container(reason, message, "the head pod")


def _refused_pod(reason: str, message: str) -> Obstacle:
    """A pod that the API server did not take: by a quota, a webhook or a policy."""
    if "exceeded quota" in message:
        if lacking := quota_too_small(message):
            return _obstacle("mistake", "QuotaTooSmall", f"{lacking}: the job can never start here; {message}")
        return _obstacle("capacity", "QuotaExceeded", f"waiting for quota: {message}")
    if "failed calling webhook" in message:
        return _obstacle("failure", reason, message)
    refused = ("denied the request", "failed quota", "violates PodSecurity", "is forbidden", "is invalid")
    if any(words in message for words in refused) and "serviceaccount" not in message.lower():
        return _obstacle("mistake", reason, f"the pods are refused: {message}")
    return _obstacle("failure", reason, message)


def quota_too_small(message: str) -> str:
    """Names what one pod requests more of than the whole quota; empty if it would ever fit."""
    requested, limited = (_amounts(message, word) for word in ("requested", "limited"))
    for name, amount in requested.items():
        if name in limited and _number(amount) > _number(limited[name]):
            return f"one pod requests {amount} of {name}, and the quota is {limited[name]}"
    return ""


def _amounts(message: str, word: str) -> dict[str, str]:
    found = re.search(rf"\b{word}: (\S+?=[^\s:]+)(?:, \w+:|$|\s)", message)
    pairs = (pair.partition("=") for pair in found[1].rstrip(",").split(",")) if found else ()
    return {name: amount for name, _, amount in pairs if amount}


def _number(quantity: str) -> Decimal:
    try:
        return parse_quantity(quantity)
    except ValueError:
        return Decimal(0)


def _of_pods(pods: Iterable[Object]) -> Iterator[Obstacle]:
    for pod in pods:
        metadata, status = pod.get("metadata") or {}, pod.get("status") or {}
        if metadata.get("deletionTimestamp"):
            continue
        name = f"pod {metadata.get('name', '?')}"
        yield from _unscheduled(status, name)
        for container in (*_mappings(status.get("initContainerStatuses")), *_mappings(status.get("containerStatuses"))):
            waiting = (container.get("state") or {}).get("waiting") or {}
            if _text(waiting, "reason") in (*_IMAGE, *_CONFIGURATION, *_CRASHED):
                yield _container(_text(waiting, "reason"), _text(waiting, "message"), name)


def _of_volumes(events: Iterable[Object]) -> Iterator[Obstacle]:
    """Volumes that the kubelet cannot mount, e.g. because their secret is not there."""
    for event in events:
        reason, message = _text(event, "reason"), _text(event, "message")
        if reason in ("FailedMount", "FailedAttachVolume", "FailedMapVolume"):
            name = (event.get("involvedObject") or {}).get("name", "?")
            kind: ObstacleKind = "mistake" if _MISSING.search(message) else "failure"
            yield _obstacle(kind, reason, f"pod {name} does not start: {message}")


def _unscheduled(status: Object, name: str) -> Iterator[Obstacle]:
    for condition in _mappings(status.get("conditions")):
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            message = _text(condition, "message")
            missing = "persistentvolumeclaim" in message and "not found" in message
            kind: ObstacleKind = "mistake" if missing else "capacity"
            if _NO_SUCH_NODE.search(message):
                message = f"no node has the labels of cluster.nodeSelector: {message}"
            yield _obstacle(kind, "Unschedulable", f"{name} cannot be scheduled: {message}")


def _container(reason: str, message: str, where: str) -> Obstacle:
    passes = reason in (*_CRASHED, "RegistryUnavailable") or _PASSES.search(message)
    kind: ObstacleKind = "failure" if passes else "mistake"
    return _obstacle(kind, reason, f"{where} does not start: {message or reason}")


def _obstacle(kind: ObstacleKind, reason: str, message: str) -> Obstacle:
    return Obstacle(kind=kind, reason=reason, message=message[:1024])


def _mappings(value: Any) -> list[Object]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _text(holder: Object, key: str) -> str:
    """In one line: KubeRay joins several with line breaks."""
    return " ".join(str(holder.get(key) or "").split())
