"""Generates the manifests in k8s/, files of the charts in helm/, and two reference pages.

`python -m raytrain.operator.install.manifests` writes them; a test checks that they are up to date.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raytrain.config.schema import DIALECT
from raytrain.config.schema import json_schema as job_schema
from raytrain.operator.install import deployment, monitoring, rbac
from raytrain.operator.install.crd import crd
from raytrain.operator.render.yaml_output import to_yaml
from raytrain.operator.settings import Settings
from raytrain.operator.settings import json_schema as settings_schema

ROOT = Path(__file__).parents[3]
_CHART, _JOB_CHART = "helm/raytrain-operator", "helm/finetune-job"
_GENERATED = "# Generated from raytrain/operator by `make generate`; do not edit.\n"


def files() -> dict[str, str]:
    """Returns the text of every generated file by its path in the repository."""
    definition = crd()
    crd_text = _GENERATED + to_yaml(definition)
    rbac_objects, manager = deployment.rbac_objects(), deployment.manager(Settings())
    return {
        "k8s/crd/finetunejobs.yaml": crd_text,
        "k8s/crd/kustomization.yaml": _kustomization("finetunejobs.yaml"),
        "k8s/rbac/rbac.yaml": _GENERATED + to_yaml(*rbac_objects),
        "k8s/rbac/kustomization.yaml": _kustomization("rbac.yaml"),
        "k8s/manager/manager.yaml": _GENERATED + to_yaml(deployment.namespace(), *manager),
        "k8s/manager/kustomization.yaml": _kustomization("manager.yaml"),
        "k8s/default/kustomization.yaml": _kustomization("../crd", "../rbac", "../manager"),
        "k8s/install.yaml": _GENERATED + to_yaml(*everything()),
        f"{_CHART}/files/crd.yaml": crd_text,
        f"{_CHART}/files/rbac.yaml": _GENERATED + to_yaml(_rbac_rules()),
        f"{_CHART}/files/alerts.yaml": _GENERATED + monitoring.alerts(),
        f"{_CHART}/files/dashboard.json": monitoring.dashboard(),
        f"{_CHART}/values.schema.json": _json(_chart_schema()),
        f"{_JOB_CHART}/values.schema.json": _json(_job_schema()),
        "docs/reference/crd.md": _crd_page(definition),
        "docs/reference/helm.md": _helm_page(),
    }


def everything() -> list[dict[str, Any]]:
    """Namespace, definition, permissions and operator with default settings, in this order."""
    return [deployment.namespace(), crd(), *deployment.rbac_objects(), *deployment.manager(Settings())]


def _rbac_rules() -> dict[str, Any]:
    return {
        "operator": list(rbac.OPERATOR),
        "operatorCluster": list(rbac.OPERATOR_CLUSTER),
        "editor": list(rbac.EDITOR),
        "viewer": list(rbac.VIEWER),
    }


def _kustomization(*resources: str) -> str:
    body = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": list(resources)}
    return _GENERATED + to_yaml(body)


def _json(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _job_schema() -> dict[str, Any]:
    """The job's schema for chart values, where apiVersion, kind and metadata have defaults."""
    schema = job_schema()
    schema = {key: value for key, value in schema.items() if key not in ("$id", "required")}
    metadata = schema["$defs"]["Metadata"]
    name = metadata["properties"]["name"]
    name["pattern"] = f"^$|{name['pattern']}"
    name["description"] += " If empty, the name of the release."
    metadata.pop("required")
    schema["properties"]["global"] = {"type": "object", "description": "Reserved by Helm."}
    # an empty spec is the chart's own default, which lint sees; the template refuses it
    schema["properties"]["spec"] = {"anyOf": [{"type": "object", "maxProperties": 0}, schema["properties"]["spec"]]}
    return schema


def _chart_schema() -> dict[str, Any]:
    """The schema of the operator chart's values."""
    settings = settings_schema()
    definitions = settings.pop("$defs")
    runs = definitions["Runs"]["properties"]
    runs.pop("image")  # built from runImage
    runs["storage"] = {"type": "string", "description": runs["storage"]["description"]}
    text: dict[str, Any] = {"type": "string"}
    flag: dict[str, Any] = {"type": "boolean"}
    mapping: dict[str, Any] = {"type": "object"}
    labels = {"type": "object", "additionalProperties": text}
    objects = {"type": "array", "items": mapping}
    digest = {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"}
    image = {"registry": text, "repository": {"type": "string", "minLength": 1}, "tag": text, "digest": digest}
    return {
        "$schema": DIALECT,
        **_closed(
            image=_closed(**image, pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]}),
            runImage=_closed(**image),
            imagePullSecrets=objects,
            watchNamespaces={"type": "array", "items": {"type": "string", "minLength": 1}},
            crds=_closed(enabled=flag, keep=flag),
            serviceAccount=_closed(create=flag, name=text, annotations=labels),
            rbac=_closed(create=flag, aggregate=flag),
            settings=settings,
            verbose=flag,
            resources=mapping,
            podLabels=labels,
            podAnnotations=labels,
            nodeSelector=labels,
            tolerations=objects,
            affinity=mapping,
            priorityClassName=text,
            admissionPolicy=_closed(enabled=flag),
            kueue=_closed(
                localQueues={"type": "array", "items": _closed(name=text, namespace=text, clusterQueue=text)}
            ),
            networkPolicy=_closed(enabled=flag),
            notifications=_closed(secret=text),
            monitoring=_closed(podMonitor=flag, rules=flag, dashboard=flag, labels=labels),
            **{"global": mapping},
        ),
        "$defs": definitions,
    }


def _closed(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a mapping with exactly these keys."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _crd_page(definition: Mapping[str, Any]) -> str:
    version = definition["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    lines = [
        "# FineTuneJob in a cluster: columns, status, rules",
        "",
        "Generated from `raytrain/operator` by `make generate`. The fields of `spec` are described on",
        "[the reference page of the job](job.md) and by `kubectl explain ftj.spec --recursive`.",
        "",
        "## Columns of `kubectl get ftj`",
        "",
        "| column | only with `-o wide` | meaning |",
        "| --- | --- | --- |",
        *(
            f"| {column['name']} | {'yes' if column.get('priority') else ''} | {column['description']} |"
            for column in version["additionalPrinterColumns"]
        ),
        "",
        "## Status",
        "",
        "| field | type | meaning |",
        "| --- | --- | --- |",
        *(f"| `{path}` | {kind} | {text} |" for path, kind, text in _fields(schema["properties"]["status"], "")),
        "",
        "## Validation rules of the API server",
        "",
        "Types, ranges, required fields and field names are validated first. `kubectl` refuses unknown fields; for",
        "other clients they are removed (except below `cluster.podTemplate` and `cluster.tolerations`, which the",
        "operator checks). Then come these rules in the Common Expression Language:",
        "",
        "| field | message |",
        "| --- | --- |",
        *(f"| `{path or 'the object'}` | {message} |" for path, message in _refusals(schema, "")),
    ]
    return "\n".join(lines) + "\n"


def _fields(schema: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, value in schema.get("properties", {}).items():
        path = f"{prefix}.{name}" if prefix else name
        yield path, value["type"], _cell(value.get("description", ""))
        items = value.get("items", {}) if value["type"] == "array" else value
        yield from _fields(items, f"{path}[]" if items is not value else path)


def _refusals(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", []):
        yield path, _cell(rule["message"])
    for name, value in schema.get("properties", {}).items():
        yield from _refusals(value, f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from _refusals(schema["items"], f"{path}[]")


def _helm_page() -> str:
    values = (ROOT / _CHART / "values.yaml").read_text(encoding="utf-8")
    lines = [
        "# Values of the chart raytrain-operator",
        "",
        "Generated from `helm/raytrain-operator/values.yaml` by `make generate`; `values.schema.json` validates them.",
        "The values of the chart `finetune-job` are [the job](job.md) itself.",
        "",
        "| value | default | meaning |",
        "| --- | --- | --- |",
        *(f"| `{name}` | `{default}` | {_cell(text)} |" for name, default, text in _documented(values)),
    ]
    return "\n".join(lines) + "\n"


def _documented(values: str) -> Iterator[tuple[str, str, str]]:
    """Yields (dotted name, default, description) of every value with a `# --` comment."""
    from ruamel.yaml import YAML

    data = YAML(typ="safe", pure=True).load(values)
    path: list[tuple[int, str]] = []
    text = ""
    for line in values.splitlines():
        if comment := re.fullmatch(r" *# -- (.*)", line):
            text = comment[1]
        elif key := re.match(r"( *)([\w./-]+):", line):
            path = [*(p for p in path if p[0] < len(key[1])), (len(key[1]), key[2])]
            if text:
                names = [name for _, name in path]
                value = data
                for name in names:
                    value = value[name]
                yield ".".join(names), json.dumps(value, ensure_ascii=False), text
            text = ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> int:
    """Writes the files."""
    for path, text in files().items():
        target = ROOT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
