"""The resolved document as the report needs it: read leniently, for a report must not fail over a field."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raytrain.evaluation.report.texts import readable

DATA_NOTE = "raytrain.dev/data-note"


@dataclass(frozen=True, slots=True)
class DocumentTask:
    """A task as the document declares it."""

    type: str
    probe: bool
    source: str | None
    templates: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Document:
    """The few fields that the report shows in places of their own."""

    model: str | None = None
    steps: int | None = None
    note: str | None = None
    identity: str | None = None
    tasks: dict[str, DocumentTask] = field(default_factory=dict)
    mixture: dict[str, Any] = field(default_factory=dict)


def parse(text: str) -> Document:
    """The stored document (`job.yaml`), with or without the identity around it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        loaded = [d for d in YAML(typ="safe", pure=True).load_all(text) if isinstance(d, Mapping)]
    except YAMLError:
        return Document()
    whole: Mapping[str, Any] = loaded[0] if loaded else {}
    job = _mapping(whole.get("document") or whole.get("job") or whole)
    spec = _mapping(job.get("spec"))
    annotations = _mapping(_mapping(job.get("metadata")).get("annotations"))
    note = annotations.get(DATA_NOTE)
    identity = whole.get("identity") or annotations.get("raytrain.dev/identity")
    return Document(
        model=str(spec["model"]) if spec.get("model") else None,
        steps=_mapping(spec.get("training")).get("steps"),
        note=readable(str(note), 2000) if note else None,
        identity=identity if isinstance(identity, str) else None,
        tasks={str(t["name"]): _task(t) for t in spec.get("tasks") or [] if isinstance(t, Mapping) and "name" in t},
        mixture=dict(_mapping(spec.get("mixture"))),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _task(task: Mapping[str, Any]) -> DocumentTask:
    source = _mapping(task.get("source"))
    uri = source.get("uri") or ", ".join(str(v) for v in _mapping(source.get("splits")).values())
    return DocumentTask(
        type=str(task.get("type", "text")),
        probe=bool(task.get("probe")),
        source=readable(str(uri), 500) if uri else None,
        templates=[str(t) for t in task.get("templates") or []],
    )
