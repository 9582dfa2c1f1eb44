"""The CRD is structural, bounded, small, and agrees with the models."""

import json
import re

import pytest

from raytrain.config.explain import all_fields
from raytrain.config.identity import LEFT_OUT
from raytrain.config.job import FineTuneJob, Spec
from raytrain.config.starter import STARTER
from raytrain.operator.conditions import ENDED_BADLY, PREPARED_PHASES, WORKING_PHASES
from raytrain.operator.install.cel_rules import place, rules
from raytrain.operator.install.crd import crd
from raytrain.operator.install.structural import structural
from raytrain.operator.render.yaml_output import to_yaml
from raytrain_core.config.yaml_source import parse_yaml
from tests.support.finetunejob_objects import finetunejob
from tests.support.structural_walk import problems

CRD = crd()
VERSION = CRD["spec"]["versions"][0]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]
KNOWN = {
    "type", "description", "properties", "items", "required", "enum", "default", "nullable", "pattern", "format",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems",
    "maxProperties", "additionalProperties", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
}  # fmt: skip


def nodes(schema, path=""):
    yield path, schema
    for name, value in schema.get("properties", {}).items():
        yield from nodes(value, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from nodes(schema["additionalProperties"], f"{path}.*")


def test_the_crd_is_small_enough_for_a_client_side_apply():
    assert len(to_yaml(CRD)) < 120_000
    assert len(json.dumps(CRD)) < 120_000  # what client-side apply copies into an annotation


def test_the_schema_is_structural_and_bounded():
    for path, node in nodes(SCHEMA):
        assert set(node) <= KNOWN, path
        assert "type" in node or node.get("x-kubernetes-preserve-unknown-fields"), path
        if node.get("type") == "string" and path not in (".apiVersion", ".kind"):
            assert "enum" in node or node["maxLength"] <= 4096, path
        if node.get("type") == "array":
            assert node["maxItems"] <= 2000, path
        assert not ("properties" in node and "additionalProperties" in node), path
        if isinstance(node.get("additionalProperties"), dict):
            assert node["maxProperties"] <= 2000, path


def test_every_field_of_the_job_is_in_the_schema_with_its_description():
    there = {path.removeprefix(".spec.") for path, node in nodes(SCHEMA) if path.startswith(".spec.")}
    wanted = {f.path.removeprefix("spec.").removesuffix("[]") for f in all_fields() if f.path.startswith("spec.")}
    assert {w for w in wanted if "<name>" not in w} - there == set()
    assert [path for path, node in nodes(SCHEMA["properties"]["spec"]) if path.count("*") == path.count("[]") == 0
            and "description" not in node and not path.startswith(".tasks") and path] == []  # fmt: skip


def test_defaults_apply_inside_omitted_mappings():
    spec = SCHEMA["properties"]["spec"]["properties"]
    assert spec["mixture"]["default"] == {"strategy": "proportional", "temperature": 2.0, "seed": 17}
    assert spec["mixture"]["properties"]["strategy"]["default"] == "proportional"
    training = {"workers": 1, "gpus": 0, "resourceName": "nvidia.com/gpu", "cpus": 1, "sharding": "ddp"}
    assert spec["resources"]["default"]["training"] == training
    assert "default" not in spec["training"]  # required: nothing to fill in
    assert "default" not in spec["cluster"]  # may be null


def test_null_is_allowed_where_the_job_allows_it():
    training = SCHEMA["properties"]["spec"]["properties"]["training"]["properties"]
    assert (training["gradientClip"]["nullable"], training["gradientClip"]["default"]) == (True, 1.0)
    assert "nullable" not in training["checkpointEvery"]


def test_columns_and_names():
    assert [c["name"] for c in VERSION["additionalPrinterColumns"] if not c.get("priority")] == [
        "Phase", "Progress", "ROUGE-L", "Workers", "Attempts", "Age",
    ]  # fmt: skip
    assert CRD["spec"]["names"]["shortNames"] == ["ftj"]
    assert VERSION["subresources"] == {"status": {}}
    for column in VERSION["additionalPrinterColumns"]:
        path = column["jsonPath"].replace("[-1:]", "[]")
        assert path.startswith(".metadata") or path in {p for p, _ in nodes(SCHEMA)}, path


WIDEST = {"Phase": 13, "Progress": 8, "ROUGE-L": 13, "Workers": 7, "Attempts": 8, "Age": 5}
"""The longest value of each column: ScoringBefore, 31.5 → 48.5."""


def test_the_columns_fit_a_terminal():
    """Kubectl puts three spaces between columns; a name has at most 40 characters."""
    columns = [c["name"] for c in VERSION["additionalPrinterColumns"] if not c.get("priority")]
    assert sum(max(len(name), WIDEST[name]) + 3 for name in columns) + 40 <= 120
    assert max(map(len, (*PREPARED_PHASES, *ENDED_BADLY, *WORKING_PHASES))) <= WIDEST["Phase"]


def test_explain_speaks_of_the_cluster():
    for path, node in nodes(SCHEMA["properties"]["spec"]):
        text = node.get("description", "")
        for word in ("laptop", "local folder", "job file", "the flag", "./", "this machine", "RAYTRAIN_"):
            assert word not in text, f"{path}: {text}"


def test_only_fields_of_the_identity_are_immutable():
    fixed = {
        rule["message"].split(" cannot change")[0]
        for rule in SCHEMA["x-kubernetes-validations"]
        if "cannot change" in rule["message"]
    }
    assert {"spec.model", "spec.tasks", "spec.mixture", "spec.training.steps", "spec.evaluation.every"} <= fixed
    for section, left in LEFT_OUT.items():
        names = {section} if left is True else {f"{section}.{_camel(name)}" for name in left if name != "__all__"}
        assert not {f"spec.{name}" for name in names} & fixed


def _camel(name):
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


def test_what_a_structural_schema_cannot_express_is_refused():
    with pytest.raises(ValueError, match="union"):
        structural({"anyOf": [{"type": "string"}, {"type": "integer"}]})
    with pytest.raises(ValueError, match="tuple"):
        structural({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]})


def test_jobs_that_the_models_accept_fit_the_schema():
    starter = parse_yaml(STARTER).value
    for body in (starter, finetunejob()):
        FineTuneJob.model_validate({**body, "metadata": {"name": body["metadata"]["name"]}})
        assert problems(body["spec"], SCHEMA["properties"]["spec"]) == []
    full = Spec.model_validate(finetunejob()["spec"]).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert problems(full, SCHEMA["properties"]["spec"]) == []


def test_the_rules_name_fields_that_exist():
    """An API server refuses a CRD whose rules name unknown fields; this finds them without one."""
    for path, rule, _ in rules():
        for name in re.findall(r"\b(?:self|oldSelf)((?:\.[a-zA-Z]\w*)+)\b(?!\()", rule):
            schema = place(SCHEMA, path)
            for part in name[1:].split("."):
                if "properties" not in schema:
                    break
                assert part in schema["properties"], f"{path}: {name} in {rule}"
                schema = schema["properties"][part]


def test_a_rule_tells_the_api_server_which_field_is_wrong():
    fields = {
        rule["message"]: rule.get("fieldPath") for rule in SCHEMA["properties"]["spec"]["x-kubernetes-validations"]
    }
    assert fields["every task is a probe: nothing would be trained"] == ".tasks"
    assert fields["mixture.weights must name exactly the trained tasks"] == ".mixture.weights"
    training = SCHEMA["properties"]["spec"]["properties"]["training"]["x-kubernetes-validations"]
    assert {rule["fieldPath"] for rule in training} == {".steps", ".packing"}
    fixed = [rule for rule in SCHEMA["x-kubernetes-validations"] if "identity" in rule["message"]]
    assert all(rule["message"].startswith(rule["fieldPath"].removeprefix(".") + " ") for rule in fixed)
