"""What a cluster refuses, and the messages."""

import json

import pytest

from raytrain.config.job import FineTuneJob
from raytrain.operator.admission import check_admission
from raytrain.operator.settings import Settings
from tests.support.finetunejob_objects import finetunejob, task

MOUNTED = {"spec": {"containers": [{"name": "ray", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}}


def ray(**fields):
    return {"spec": {"containers": [{"name": "ray", **fields}]}}


def added(**fields):
    return {"name": "side", "image": "registry.example/side:1", **fields}


def reason(settings=None, namespace=None, labels=None, **job):
    body = finetunejob(**job)
    body["metadata"] = {"name": body["metadata"]["name"], "namespace": namespace, "labels": labels or {}}
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
        ({"model": "google/flan-t5-base@main"}, None),
        ({"model": "t5-small@refs/pr/3"}, None),
        ({"model": "./my-model@main"}, "LocalModel"),
        ({"model": "run://samsum"}, None),
        ({"model": "s3://models/t5"}, None),
        ({"resources": {"training": {"memory": "2e9"}}}, None),
    ],
)
def test_what_pods_cannot_read_is_refused(job, expected):
    assert reason(**job) == expected


def test_the_default_storage_is_used_if_the_job_has_none():
    assert reason({"runs": {"storage": "s3://bucket/raytrain"}}, storage=None) is None


def annotated(key):
    return {"metadata": {"annotations": {key: "x"}}}


def token_mount(name="side", **mount):
    return {"name": name, "image": "side:1", "volumeMounts": [{"name": "autoscaler-token", "mountPath": "/t", **mount}]}


TOKEN = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
HOSTILE = {
    "token into a side container": {"spec": {"containers": [token_mount()]}},
    "token into an init container": {"spec": {"initContainers": [token_mount()]}},
    "token into Ray's container": {"spec": {"containers": [token_mount("ray")]}},
    "token by sub-path": {"spec": {"containers": [token_mount(subPath="token")]}},
    "token by a sidecar": {"spec": {"initContainers": [token_mount() | {"restartPolicy": "Always"}]}},
    "autoscaler's folder": {
        "spec": {"containers": [added(volumeMounts=[{"name": "autoscaler-scratch", "mountPath": "/t"}])]}},
    "autoscaler's folder replaced": {
        "spec": {"volumes": [{"name": "autoscaler-scratch", "emptyDir": None,
                              "persistentVolumeClaim": {"claimName": "mine"}}]}},
    "token volume replaced": {"spec": {"volumes": [{"name": "autoscaler-token", "projected": None, "emptyDir": {}}]}},
    "token volume enlarged": {
        "spec": {"volumes": [{"name": "autoscaler-token", "projected": {"sources": [{"secret": {"name": "x"}}]}}]}},
    "token volume of its own": {"spec": {"volumes": [TOKEN], "containers": [added()]}},
    "in the autoscaler's place": {"spec": {"containers": [added() | {"name": "autoscaler"}]}},
    "in KubeRay's place": {"spec": {"initContainers": [added() | {"name": "wait-gcs-ready"}]}},
    "automatic token for all": {"spec": {"automountServiceAccountToken": None}},
    "other account": {"spec": {"serviceAccountName": None}},
    "old name of the account": {"spec": {"serviceAccount": "admin"}},
    "targeted debugger": {"spec": {"ephemeralContainers": [{"name": "d", "targetContainerName": "autoscaler"}]}},
    "device": {"spec": {"containers": [added(volumeDevices=[{"name": "disk", "devicePath": "/dev/x"}])]}},
    "new field of a container": {"spec": {"containers": [added(restartPolicyRules=[])]}},
    "mask of proc": ray(securityContext={"procMount": "Unmasked"}),
    "AppArmor": ray(securityContext={"appArmorProfile": {"type": "Unconfined"}}),
    "AppArmor by annotation": annotated("container.apparmor.security.beta.kubernetes.io/ray"),
    "seccomp by annotation": annotated("seccomp.security.alpha.kubernetes.io/pod"),
    "SELinux": {"spec": {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}},
    "Multus": annotated("k8s.v1.cni.cncf.io/networks"),
    "CRI-O": annotated("io.kubernetes.cri-o.userns-mode"),
    "CRI-O's CPUs": annotated("cpu-load-balancing.crio.io"),
    "Kata": annotated("io.katacontainers.config.hypervisor.kernel_params"),
    "kube2iam": annotated("iam.amazonaws.com/role"),
    "Vault": annotated("vault.hashicorp.com/agent-inject"),
    "KubeRay's command": annotated("ray.io/overwrite-container-cmd"),
    "runtime class": {"spec": {"runtimeClassName": "runc-debug"}},
    "hosts": {"spec": {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["s3.example"]}]}},
    "name server": {"spec": {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.0.0.1"]}}},
    "scheduler": {"spec": {"schedulerName": "mine"}},
    "preemption": {"spec": {"preemptionPolicy": "PreemptLowerPriority"}},
    "devices by claim": {"spec": {"resourceClaims": [{"name": "g", "resourceClaimName": "admin"}]}},
    "our variables by prefix": ray(envFrom=[{"prefix": "RAYTRAIN_KUBERNETES_", "configMapRef": {"name": "x"}}]),
    "our variables by half a prefix": ray(envFrom=[{"prefix": "RAY", "configMapRef": {"name": "x"}}]),
}  # fmt: skip


@pytest.mark.parametrize("name", ["token by a sidecar", "autoscaler's folder", "token volume of its own"])
def test_what_is_forbidden_on_a_head_is_forbidden_in_a_queue_too(name):
    assert reason(cluster={"podTemplate": HOSTILE[name], "queue": "team"}) == "PodTemplateNotAllowed"


def test_settings_open_annotations_and_fields_one_by_one():
    template = {"metadata": {"annotations": {"prometheus.io/scrape": "true"}}, "spec": {"runtimeClassName": "gvisor"}}
    opened = {"allowedAnnotations": ["prometheus.io/*"], "allowedPodFields": ["runtimeClassName"]}
    assert reason({"policy": opened}, cluster={"podTemplate": template}) is None
    for field in opened:
        policy = {key: value for key, value in opened.items() if key != field}
        assert reason({"policy": policy}, cluster={"podTemplate": template}) == "PodTemplateNotAllowed"


def test_settings_cannot_open_the_host():
    with pytest.raises(ValueError, match="allowedPodFields"):
        Settings.model_validate({"policy": {"allowedPodFields": ["hostNetwork"]}})


@pytest.mark.parametrize("selector", ["kuberaySelector", "prometheusSelector"])
def test_no_job_takes_the_labels_that_other_runs_let_in(selector):
    settings = {"runs": {selector: {"app": "monitor"}}}
    template = {"metadata": {"labels": {"app": "monitor"}}}
    assert reason(settings, cluster={"podTemplate": template}) == "PodTemplateNotAllowed"
    assert reason(settings, labels={"app": "monitor"}) == "PodTemplateNotAllowed"
    assert reason(settings, labels={"app": "shop"}) is None


def test_the_priority_class_of_kueue_is_bound():
    policy = {"policy": {"allowedPriorityClasses": ["batch-*"]}}
    for label, expected in (("urgent", "PriorityClassNotAllowed"), ("batch-low", None)):
        assert reason(policy, labels={"kueue.x-k8s.io/priority-class": label}) == expected


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
        ray(livenessProbe={"httpGet": {"host": "169.254.169.254", "port": 80}}),
        ray(lifecycle={"postStart": {"tcpSocket": {"host": "10.0.0.1", "port": 80}}}),
        {"spec": {"initContainers": [added(startupProbe={"httpGet": {"host": "10.0.0.1", "port": 80}})]}},
        {"spec": {"securityContext": {"runAsUser": 0}}},
        {"metadata": {"labels": {"raytrain.dev/job": "another"}}},
        {"metadata": {"labels": {"ray.io/cluster": "another"}}},
        {"metadata": {"ownerReferences": []}},
        {"kind": "Pod"},
        {"spec": {"hostPID": True}},
        {"spec": {"hostIPC": True}},
        {"spec": {"hostUsers": True}},
        {"spec": {"shareProcessNamespace": True}},
        {"spec": {"ephemeralContainers": []}},
        {"spec": {"newFieldOfKubernetes": 1}},
        {"spec": {"volumes": [{"name": "x", "csi": {"driver": "secrets-store.csi.k8s.io"}}]}},
        {"spec": {"volumes": [{"name": "x", "image": {"reference": "docker.io/x/y"}}]}},
        {"spec": {"initContainers": [added(securityContext={"privileged": True})]}},
        {"spec": {"initContainers": [added(securityContext={"capabilities": {"drop": []}})]}},
        {"spec": {"containers": [added(securityContext={"capabilities": None})]}},
        {"spec": {"containers": [added(securityContext={"runAsUser": 0})]}},
        {"spec": {"securityContext": {"supplementalGroups": [0]}}},
        {"spec": {"securityContext": {"windowsOptions": {"hostProcess": True}}}},
        {"spec": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}},
        {"spec": {"securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}}},
        ray(env=[{"name": "RAYTRAIN_KUBERNETES_OBJECT", "value": "team/another"}]),
        ray(env=[{"name": "RAYTRAIN_STORAGE", "value": "s3://elsewhere"}]),
        {"metadata": {"labels": {"app.kubernetes.io/name": "kuberay-operator"}}},
        {"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "another"}}},
        *HOSTILE.values(),
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


PATCHES = {
    "secretKeyRef": ray(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "payroll", "key": "a"}}}]),
    "envFrom": ray(envFrom=[{"secretRef": {"name": "payroll"}}]),
    "volume": {"spec": {"volumes": [{"name": "v", "secret": {"secretName": "payroll"}}]}},
    "pull secret": {"spec": {"imagePullSecrets": [{"name": "payroll"}]}},
    "init container": {"spec": {"initContainers": [added(envFrom=[{"secretRef": {"name": "payroll"}}])]}},
    "side container": {"spec": {"containers": [added(envFrom=[{"secretRef": {"name": "payroll"}}])]}},
}


@pytest.mark.parametrize("template", PATCHES.values(), ids=PATCHES)
def test_a_secret_is_bound_by_whatever_way_it_comes_in(template):
    policy = {"policy": {"allowedSecrets": ["raytrain-*"]}}
    assert reason(policy, cluster={"podTemplate": template}) == "SecretNotAllowed"
    assert reason(cluster={"podTemplate": template}) is None
    allowed = json.loads(json.dumps(template).replace("payroll", "raytrain-x"))
    assert reason(policy, cluster={"podTemplate": allowed}) is None


@pytest.mark.parametrize("field", ["secrets", "imagePullSecrets"])
def test_secrets_of_the_cluster_fields_are_bound_and_those_of_the_settings_are_not(field):
    policy = {
        "policy": {"allowedSecrets": ["raytrain-*"]},
        "runs": {"secrets": ["bucket"], "imagePullSecrets": ["pull"]},
    }
    assert reason(policy, cluster={field: ["payroll"]}) == "SecretNotAllowed"
    assert reason(policy, cluster={field: ["raytrain-x"]}) is None
    assert reason(policy) is None


@pytest.mark.parametrize(
    "cluster",
    [
        {"image": "elsewhere.example/raytrain:1"},
        {"image": "registry.example/../elsewhere/x"},
        {"image": "registry.example.evil.example/x"},
        {"podTemplate": ray(image="docker.io/other/x")},
        {"podTemplate": {"spec": {"initContainers": [added(image="docker.io/other/x")]}}},
        {"podTemplate": {"spec": {"containers": [added(image="docker.io/other/x")]}}},
        {"podTemplate": {"spec": {"containers": [{"name": "side"}]}}},
    ],
)
def test_an_image_is_bound_in_every_container(cluster):
    policy = {"policy": {"allowedImages": ["registry.example/"]}}
    assert reason(policy, cluster=cluster) == "ImageNotAllowed"
    assert reason(policy, cluster={"image": "registry.example/raytrain:1"}) is None
    assert reason(policy) is None  # the image of the settings


@pytest.mark.parametrize("text", ["Registry/X Y", "x:", "registry.example/../x"])
def test_an_image_that_no_runtime_accepts_is_refused_without_a_policy_too(text):
    assert reason(cluster={"image": text}) == "ImageNotAllowed"


@pytest.mark.parametrize(
    "job",
    [
        {"cluster": {"tolerations": [{"key": "infra", "operator": "Exists"}]}},
        {"cluster": {"tolerations": [{"operator": "Exists"}]}},
        {"cluster": {"podTemplate": {"spec": {"tolerations": [{"key": "infra"}]}}}},
        {"resources": {"training": {"gpus": 1, "resourceName": "infra.example/node"}}},
    ],
)
def test_a_toleration_is_bound_by_whatever_way_it_comes_in(job):
    assert reason({"policy": {"allowedTolerations": ["spot", "gpu.*"]}}, **job) == "TolerationNotAllowed"
    assert reason({"policy": {"allowedTolerations": ["*"]}}, **job) is None
    assert reason(**job) is None


@pytest.mark.parametrize("name", ["gpu", "memory", "Nvidia.com/gpu", "nvidia.com/", "nvidia.com/gpu 1"])
def test_a_gpu_has_the_name_of_an_extended_resource(name):
    with pytest.raises(ValueError, match="resourceName"):
        reason(resources={"training": {"gpus": 1, "resourceName": name}})


def test_allowed_tolerations_and_the_one_of_gpus_are_accepted():
    policy = {"policy": {"allowedTolerations": ["spot"]}}
    assert reason(policy, cluster={"tolerations": [{"key": "spot", "operator": "Exists"}]}) is None


def test_priority_classes_are_bound():
    def with_class(name, settings=None):
        return reason(settings, cluster={"podTemplate": {"spec": {"priorityClassName": name}}})

    assert with_class("batch") is None
    assert with_class("system-node-critical") == "PriorityClassNotAllowed"
    policy = {"policy": {"allowedPriorityClasses": ["batch-*"]}}
    assert with_class("batch-low", policy) is None
    assert with_class("urgent", policy) == "PriorityClassNotAllowed"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://models/team", None),
        ("s3://models", None),  # the run is stored in s3://models/team
        ("s3://models/other", "StorageNotAllowed"),
        ("s3://models/team-b", "StorageNotAllowed"),
        ("s3://models-b/team", "StorageNotAllowed"),
    ],
)
def test_a_namespace_stores_below_its_prefixes(uri, expected):
    policy = {"policy": {"storagePrefixes": {"te*": ["s3://models/{namespace}"]}}}
    assert reason(policy, namespace="team", storage={"uri": uri}) == expected
    assert reason(policy, namespace="other", storage={"uri": uri}) == "StorageNotAllowed"
    assert reason({"policy": {}}, namespace="other", storage={"uri": uri}) is None
