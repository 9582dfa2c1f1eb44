"""What a cluster refuses, and the messages."""

import pytest

from raytrain.config.job import FineTuneJob
from raytrain.operator.admission import check_admission
from raytrain.operator.settings import Settings
from tests.support.finetunejob_objects import finetunejob, task

MOUNTED = {"spec": {"containers": [{"name": "ray", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}}


def reason(settings=None, **job):
    body = finetunejob(**job)
    body["metadata"] = {"name": body["metadata"]["name"]}
    found = check_admission(FineTuneJob.model_validate(body), Settings.model_validate(settings or {}))
    return found and found.reason


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ({}, None),
        ({"tasks": [task(source={"uri": "hf://knkarthick/dialogsum"})]}, None),
        ({"tasks": [task(source={"uri": "./rows.jsonl"})]}, "LocalSource"),
        ({"tasks": [task(source={"uri": "/data/rows.jsonl"})]}, "LocalSource"),
        ({"tasks": [task(source={"splits": {"train": "s3://bucket/b.jsonl", "test": "c.jsonl"}})]}, "LocalSource"),
        ({"tasks": [task(source={"uri": "/data/rows.jsonl"})], "cluster": {"podTemplate": MOUNTED}}, None),
        ({"tasks": [task(source={"uri": "/dat/rows.jsonl"})], "cluster": {"podTemplate": MOUNTED}}, "LocalSource"),
        ({"storage": {"uri": "file:///data/raytrain"}, "cluster": {"podTemplate": MOUNTED}}, None),
        ({"storage": {"uri": "file:///data/raytrain"}}, "LocalStorage"),
        ({"storage": {"uri": "./raytrain-storage"}}, "LocalStorage"),
        ({"storage": None}, "NoStorage"),
        ({"storage": {"uri": "s3://bucket/r", "endpoint": "http://minio.storage.svc:9000"}}, None),
        ({"storage": {"uri": "s3://bucket/r", "endpoint": "http://10.0.0.7:9000"}}, None),
        ({"model": "./my-model"}, "LocalModel"),
        ({"model": "/models/t5"}, "LocalModel"),
        ({"model": "run://samsum"}, None),
        ({"model": "s3://models/t5"}, None),
        ({"resources": {"training": {"memory": "24GB"}}}, "InvalidSpec"),
        ({"resources": {"training": {"memory": "-1Gi"}}}, "InvalidSpec"),
        ({"resources": {"training": {"memory": "2e9"}}}, None),
    ],
)
def test_what_pods_cannot_read_is_refused(job, expected):
    assert reason(**job) == expected


def test_the_default_storage_is_used_if_the_job_has_none():
    assert reason({"runs": {"storage": "s3://bucket/raytrain"}}, storage=None) is None


@pytest.mark.parametrize(
    "template",
    [
        {"spec": {"hostNetwork": True}},
        {"spec": {"serviceAccountName": "admin"}},
        {"spec": {"automountServiceAccountToken": True}},
        {"spec": {"nodeName": "control-plane"}},
        {"spec": {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}},
        {"spec": {"volumes": [{"name": "token", "projected": {"sources": []}}]}},
        {"spec": {"containers": [{"name": "ray", "securityContext": {"privileged": True}}]}},
        {"spec": {"containers": [{"name": "ray", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]}},
        {"spec": {"containers": [{"name": "ray", "securityContext": {"runAsNonRoot": None}}]}},
        {"spec": {"initContainers": [{"name": "x", "securityContext": {"allowPrivilegeEscalation": True}}]}},
        {"spec": {"containers": [{"name": "ray", "ports": [{"containerPort": 1, "hostPort": 1}]}]}},
        {"spec": {"securityContext": {"runAsUser": 0}}},
        {"metadata": {"labels": {"raytrain.dev/job": "another"}}},
        {"metadata": {"labels": {"ray.io/cluster": "another"}}},
        {"metadata": {"ownerReferences": []}},
        {"kind": "Pod"},
    ],
)
def test_a_pod_template_cannot_exceed_its_limits(template):
    assert reason(cluster={"podTemplate": template}) == "PodTemplateNotAllowed"


def test_a_pod_template_may_set_ordinary_fields():
    template = {
        "metadata": {"annotations": {"cost-centre": "nlp"}, "labels": {"team": "nlp"}},
        "spec": {
            "priorityClassName": "batch",
            "topologySpreadConstraints": [],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "rows"}}],
            "containers": [{"name": "ray", "resources": {"requests": {"cpu": "200m"}}}],
        },
    }
    assert reason(cluster={"podTemplate": template}) is None
    assert reason({"policy": {"podTemplate": False}}, cluster={"podTemplate": template}) == "PodTemplateNotAllowed"


def test_only_allowed_images_and_secrets_are_accepted():
    policy = {"policy": {"allowedImages": ["registry.example/"], "allowedSecrets": ["raytrain-*"]}}
    assert reason(policy, cluster={"image": "registry.example/raytrain:1", "secrets": ["raytrain-bucket"]}) is None
    assert reason(policy, cluster={"image": "elsewhere/raytrain:1"}) == "ImageNotAllowed"
    assert reason(policy, cluster={"secrets": ["database"]}) == "SecretNotAllowed"
    assert reason(policy, cluster={"imagePullSecrets": ["database"]}) == "SecretNotAllowed"
