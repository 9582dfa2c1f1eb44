"""What k8s/, helm/ and the reference pages hold of the operator, written from the code.

`python -m raytrain.operator.install.manifests` writes it; a test says that it is up to date.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raytrain.config.schema import DIALECT
from raytrain.config.schema import json_schema as job_schema
from raytrain.operator.install import deployment
from raytrain.operator.install import rbac as rights
from raytrain.operator.install.crd import crd
from raytrain.operator.render.yaml_text import yaml_text
from raytrain.operator.settings import Settings
from raytrain.operator.settings import json_schema as settings_schema

ROOT = Path(__file__).parents[3]
_CHART, _JOB_CHART = "helm/raytrain-operator", "helm/finetune-job"
_GENERATED = "# Written by `make generate` from raytrain/operator.\n"


def files() -> dict[str, str]:
    """Text of every generated file by its path from the root of the repository."""
    definition, settings = crd(), Settings()
    crd_text = _GENERATED + yaml_text(definition)
    rbac, manager = deployment.rbac(), deployment.manager(settings)
    everything = [deployment.namespace(), definition, *rbac, *manager]
    return {
        "k8s/crd/finetunejobs.yaml": crd_text,
        "k8s/crd/kustomization.yaml": _kustomization("finetunejobs.yaml"),
        "k8s/rbac/rbac.yaml": _GENERATED + yaml_text(*rbac),
        "k8s/rbac/kustomization.yaml": _kustomization("rbac.yaml"),
        "k8s/manager/manager.yaml": _GENERATED + yaml_text(deployment.namespace(), *manager),
        "k8s/manager/kustomization.yaml": _kustomization("manager.yaml"),
        "k8s/default/kustomization.yaml": _kustomization("../crd", "../rbac", "../manager"),
        "k8s/install.yaml": _GENERATED + yaml_text(*everything),
        f"{_CHART}/files/crd.yaml": crd_text,
        f"{_CHART}/files/rights.yaml": _GENERATED + yaml_text(_rights()),
        f"{_CHART}/values.schema.json": _json(_chart_schema()),
        f"{_JOB_CHART}/values.schema.json": _json(_job_schema()),
        "docs/reference/crd.md": _crd_page(definition),
        "docs/reference/helm.md": _helm_page(),
    }


def _rights() -> dict[str, Any]:
    return {
        "operator": list(rights.OPERATOR),
        "operatorCluster": list(rights.OPERATOR_CLUSTER),
        "editor": list(rights.EDITOR),
        "viewer": list(rights.VIEWER),
    }


def _kustomization(*resources: str) -> str:
    body = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": list(resources)}
    return _GENERATED + yaml_text(body)


def _json(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _job_schema() -> dict[str, Any]:
    """The job's schema as that of values: apiVersion, kind and metadata have defaults there."""
    schema = job_schema()
    schema = {key: value for key, value in schema.items() if key not in ("$id", "required")}
    metadata = schema["$defs"]["Metadata"]
    name = metadata["properties"]["name"]
    name["pattern"] = f"^$|{name['pattern']}"
    name["description"] += " Empty: the release's name."
    metadata.pop("required")
    schema["properties"]["global"] = {"type": "object", "description": "Helm's own."}
    schema["required"] = ["spec"]
    return schema


def _chart_schema() -> dict[str, Any]:
    """Schema of the operator chart's values: the settings as the operator reads them, the rest as Kubernetes has it."""
    settings = settings_schema()
    definitions = settings.pop("$defs")
    runs = definitions["Runs"]["properties"]
    runs.pop("image")  # made of runImage
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
            networkPolicy=_closed(enabled=flag),
            monitoring=_closed(podMonitor=flag, rules=flag, dashboard=flag, labels=labels),
            **{"global": mapping},
        ),
        "$defs": definitions,
    }


def _closed(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with these keys and no others."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _crd_page(definition: Mapping[str, Any]) -> str:
    version = definition["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    lines = [
        "# FineTuneJob in a cluster: columns, status, rules",
        "",
        "Written by `make generate` from `raytrain/operator`. The fields of `spec` are those of",
        "[the job](job.md); `kubectl explain ftj.spec --recursive` says the same.",
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
        "## Rules that the API server checks",
        "",
        "Types, ranges, required fields and names of fields come first; `kubectl` refuses unknown fields by name,",
        "other clients have them removed (except below `cluster.podTemplate` and `cluster.tolerations`, which are",
        "taken as they are and checked by the operator). Then these, in the Common Expression Language:",
        "",
        "| at | refused with |",
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
        "Written by `make generate` from `helm/raytrain-operator/values.yaml`; `values.schema.json` checks them.",
        "The values of the chart `finetune-job` are [the job](job.md) itself.",
        "",
        "| value | default | meaning |",
        "| --- | --- | --- |",
        *(f"| `{name}` | `{default}` | {_cell(text)} |" for name, default, text in _documented(values)),
    ]
    return "\n".join(lines) + "\n"


def _documented(values: str) -> Iterator[tuple[str, str, str]]:
    """(dotted name, default, description) of every value that a `# --` comment precedes."""
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
    """Write the files."""
    for path, text in files().items():
        target = ROOT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
