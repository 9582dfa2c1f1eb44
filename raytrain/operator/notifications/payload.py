"""Notifications as receivers read them: Slack's text, plain JSON, CloudEvents 1.0."""

from __future__ import annotations

import json
from typing import Any

from raytrain.operator.notifications.due import Notification

_VERBS = {"started": "has started", "finished": "is complete", "failed": "has failed", "stalled": "makes no progress"}
_LONGEST = 2000  # characters


def payload(found: Notification) -> tuple[str, bytes]:
    """The content type and the body."""
    if found.channel.format == "slack":
        return "application/json", _json({"text": _text(found)})
    if found.channel.format == "cloudevents":
        return "application/cloudevents+json", _json(_cloud_event(found))
    return "application/json", _json(_data(found))


def _data(found: Notification) -> dict[str, Any]:
    data = {
        "id": found.id,
        "event": found.kind,
        "namespace": found.namespace,
        "job": found.job,
        "phase": found.phase,
        "message": found.message[:_LONGEST],
        "report": found.report,
        "time": found.time,
        "gpuHours": found.gpu_hours,
        "cost": found.cost,
    }
    return {key: value for key, value in data.items() if value is not None}


def _cloud_event(found: Notification) -> dict[str, Any]:
    """https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md."""
    return {
        "specversion": "1.0",
        "id": found.id,
        "source": f"/apis/raytrain.dev/namespaces/{found.namespace}/finetunejobs",
        "type": f"dev.raytrain.finetunejob.{found.kind}",
        "subject": found.job,
        "time": found.time,
        "datacontenttype": "application/json",
        "data": _data(found),
    }


def _text(found: Notification) -> str:
    """A line of text; Slack's three control characters are escaped."""
    line = f"{found.namespace}/{found.job} {_VERBS[found.kind]}: {found.message[:_LONGEST]}"
    for sign, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        line = line.replace(sign, escaped)
    return line


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()
