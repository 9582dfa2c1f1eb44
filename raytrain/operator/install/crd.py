"""The CustomResourceDefinition of FineTuneJob, generated from the models of job and status.

`python -m raytrain.operator.install.crd` prints it; `raytrain.operator.install.manifests` writes it
to the manifests and the chart.
"""

import sys
from typing import Any

from raytrain.config.job import API_VERSION, KIND, Spec
from raytrain.config.job_status import Status
from raytrain.operator.install.cel_rules import field_path, place, rules
from raytrain.operator.install.descriptions import IN_A_CLUSTER
from raytrain.operator.install.structural import structural
from raytrain.operator.render.names import GROUP, PLURAL
from raytrain.operator.render.yaml_output import to_yaml

VERSION = API_VERSION.split("/")[1]
SINGULAR, SHORT = "finetunejob", "ftj"
NAME = f"{PLURAL}.{GROUP}"

_COLUMNS = (
    # heading, type, path, shown only by `-o wide`, description
    ("Phase", "string", ".status.phase", False, "Phase of the job"),
    ("Progress", "string", ".status.progress.percent", False, "Share of optimizer steps done"),
    ("ROUGE-L", "string", ".status.progress.rougeL", False, "Before → now, mean of the trained tasks"),
    ("Workers", "string", ".status.workers", False, "Pods of the Ray cluster, ready/desired"),
    ("Attempts", "integer", ".status.attempts[-1:].number", False, "Number of attempts"),
    ("Age", "date", ".metadata.creationTimestamp", False, "Time since the object was created"),
    ("Model", "string", ".spec.model", True, "Model to start from"),
    ("Steps", "integer", ".spec.training.steps", True, "Optimizer steps"),
    ("Loss", "number", ".status.progress.loss", True, "Training loss"),
    ("RayJob", "string", ".status.attempts[-1:].rayJob", True, "RayJob of the newest attempt"),
    ("Report", "string", ".status.progress.report", True, "URI of the report, which fills up while the run goes on"),
    ("Message", "string", ".status.message", True, "The phase as a sentence"),
)


def crd() -> dict[str, Any]:
    """Returns the definition as plain data."""
    spec = structural(Spec.model_json_schema(by_alias=True))
    status = structural(Status.model_json_schema(by_alias=True))
    for name, key in (("conditions", "type"), ("attempts", "number"), ("tasks", "name")):
        _by_key(status["properties"][name], key)
    _by_key(spec["properties"]["tasks"], "name")
    schema: dict[str, Any] = {
        "type": "object",
        "description": "A multitask fine-tuning of a T5 model, from raw rows to a before/after report.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }
    for path, text in IN_A_CLUSTER.items():
        place(schema, path)["description"] = text
    for path, rule, message in rules():
        holder = place(schema, path)
        field = field_path(holder, rule)
        found = {"rule": rule, "message": message} | ({"fieldPath": field} if field else {})
        holder.setdefault("x-kubernetes-validations", []).append(found)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": NAME,
            "labels": {"app.kubernetes.io/name": "raytrain-operator", "app.kubernetes.io/part-of": "raytrain"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": SINGULAR,
                "shortNames": [SHORT],
                "categories": ["ml"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path, "description": text}
                        | ({"priority": 1} if wide else {})
                        for name, kind, path, wide, text in _COLUMNS
                    ],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def _by_key(schema: dict[str, Any], key: str) -> None:
    """Makes a list a map by one field: its values are unique, and several managers may write it."""
    schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


def main() -> int:
    """Prints the definition."""
    sys.stdout.write(to_yaml(crd()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
