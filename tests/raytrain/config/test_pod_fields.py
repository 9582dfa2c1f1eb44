"""What a job file passes on to Kubernetes has Kubernetes' types."""

import pytest
from pydantic import ValidationError

from raytrain.config.job import FineTuneJob
from raytrain.config.resources import Resources
from raytrain_core.config.loader import ConfigError, from_mapping
from tests.support.finetunejob_objects import finetunejob


def problems(**cluster):
    body = finetunejob(cluster=cluster)
    try:
        from_mapping({**body, "metadata": {"name": "assistant"}}, FineTuneJob)
    except ConfigError as error:
        return error.message
    return ""


def ray(**fields):
    return {"spec": {"containers": [{"name": "ray", **fields}]}}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"metadata": {"labels": None}}, "metadata.labels: is null; leave the field out"),
        ({"metadata": {"labels": 5}}, "metadata.labels: must be a mapping"),
        ({"metadata": {"labels": {"team": 5}}}, "metadata.labels.team: must be a string"),
        ({"metadata": {"annotations": {"team": None}}}, "metadata.annotations.team: is null"),
        ({"metadata": []}, "metadata: must be a mapping"),
        ({"spec": None}, "spec: is null"),
        ({"spec": "text"}, "spec: must be a mapping"),
        ({"spec": {"containers": {}}}, "spec.containers: must be a list"),
        ({"spec": {"containers": [None]}}, "spec.containers[0]: is null"),
        ({"spec": {"containers": [{"image": "x"}]}}, "spec.containers[0].name: is required but missing"),
        ({"spec": {"containers": [{"name": ["ray"]}]}}, "spec.containers[0].name: must be a string"),
        ({"spec": {"containers": [{"name": "ray"}, {"name": "ray"}]}}, "spec.containers: ray is there twice"),
        (ray(volumeMounts=None), "spec.containers[0].volumeMounts: is null"),
        (ray(volumeMounts=["/data"]), "spec.containers[0].volumeMounts[0]: must be a mapping"),
        (ray(volumeMounts=[{"name": "data", "mountPath": 5}]), "volumeMounts[0].mountPath: must be a string"),
        (ray(env={"A": "b"}), "spec.containers[0].env: must be a list"),
        (ray(env=[{"value": "b"}]), "spec.containers[0].env[0].name: is required but missing"),
        (ray(envFrom=["secret"]), "spec.containers[0].envFrom[0]: must be a mapping"),
        (ray(securityContext=None), "spec.containers[0].securityContext: is null"),
        ({"spec": {"volumes": None}}, "spec.volumes: is null"),
        ({"spec": {"initContainers": 1}}, "spec.initContainers: must be a list"),
        ({"spec": {"tolerations": ["spot"]}}, "spec.tolerations[0]: must be a mapping"),
        ({"spec": {"imagePullSecrets": ["pull"]}}, "spec.imagePullSecrets[0]: must be a mapping"),
    ],
)
def test_a_wrong_type_in_a_pod_template_is_refused_by_its_path(template, message):
    assert message in problems(podTemplate=template)
    assert problems(podTemplate=template).startswith("job: spec.cluster.podTemplate: ")


@pytest.mark.parametrize(
    ("toleration", "message"),
    [
        ({"key": 5}, "key: must be a string"),
        ({"key": "spot", "operator": "exists"}, "operator: "),
        ({"key": "spot", "effect": "NoRun"}, "effect: "),
        ({"keyy": "spot"}, "keyy: unknown field"),
        ({"tolerationSeconds": "60"}, "tolerationSeconds: must be a whole number"),
    ],
)
def test_a_wrong_toleration_is_refused_by_its_place(toleration, message):
    assert f"job: spec.cluster.tolerations[0]: {message}" in problems(tolerations=[toleration])


def test_a_message_names_three_problems_and_counts_the_others():
    found = problems(podTemplate=ray(env=None, envFrom=None, ports=None, command=None, args=None))
    assert found.count("is null") == 3
    assert found.endswith("and 2 more")


def test_a_value_is_never_repeated():
    assert "hunter2" not in problems(podTemplate=ray(env=["PASSWORD=hunter2"]))


def test_fields_that_are_not_ours_are_left_to_the_api_server():
    template = {"spec": {"terminationGracePeriodSeconds": None, "affinity": {"nodeAffinity": {}}, "dnsPolicy": 5}}
    assert problems(podTemplate=template) == ""
    assert problems(tolerations=[{"key": "spot", "operator": "Exists"}, {"operator": "Exists"}]) == ""


@pytest.mark.parametrize("ttl", ["999999999d", "100000d", "99999999h", "0s", "5", "1w"])
def test_a_ttl_that_ends_beyond_the_calendar_is_refused(ttl):
    assert "spec.cluster.ttl" in problems(ttl=ttl)


@pytest.mark.parametrize("ttl", ["999999999s", "999999999m", "9999999h", "99999d", "1h"])
def test_an_ordinary_ttl_is_fine(ttl):
    assert problems(ttl=ttl) == ""


@pytest.mark.parametrize("amount", ["0", "-1Gi", "24GB", "a lot"])
@pytest.mark.parametrize("part", ["training", "evaluation", "preparation"])
def test_an_amount_of_memory_that_kubernetes_does_not_know_is_refused(part, amount):
    with pytest.raises(ValidationError, match=f"{part}.memory\n.*is not an amount of memory"):
        Resources.model_validate({part: {"memory": amount}})
    assert Resources.model_validate({part: {"memory": "2e9"}})
