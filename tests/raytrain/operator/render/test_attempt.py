"""The objects of an attempt: golden files, and a test for each guarantee."""

import copy
import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from raytrain.config.job import FineTuneJob
from raytrain.config.resources import Resources
from raytrain.operator.reconcile import reconcile
from raytrain.operator.render.groups import groups
from raytrain.operator.render.pods import merge
from raytrain.operator.render.yaml_output import to_yaml
from raytrain.operator.settings import Settings
from raytrain.operator.snapshot import Observed
from tests.support import REPOSITORY
from tests.support.finetunejob_objects import NOW, finetunejob, task
from tests.support.kubernetes_tools import ToolsUnavailableError, kuberay_crds
from tests.support.structural_walk import problems

GOLDEN = Path(__file__).parent / "golden"
RUNS = {"storage": "s3://default/raytrain", "secrets": ["bucket"], "env": {"AWS_ENDPOINT_URL": "http://s3:8333"}}
SETTINGS = Settings.model_validate({"runs": RUNS})
CLUSTER = {
    "image": "registry.example/raytrain@sha256:" + "0" * 64,
    "imagePullSecrets": ["pull"],
    "nodeSelector": {"gpu": "a100"},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "secrets": ["team-bucket"],
    "serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/raytrain"},
    "podTemplate": {
        "metadata": {"annotations": {"team": "nlp"}},
        "spec": {
            "priorityClassName": "batch",
            "containers": [{"name": "ray", "env": [{"name": "HF_HUB_OFFLINE", "value": "1"}]}],
        },
    },
}


def made(settings=SETTINGS, **job):
    return reconcile(Observed(finetunejob(**job), pods=()), settings, NOW).apply


def rayjob_of(**job):
    return next(item for item in made(**job) if item["kind"] == "RayJob")


def pods(ray_job):
    cluster = ray_job["spec"]["rayClusterSpec"]
    found = {"head": cluster["headGroupSpec"]["template"]}
    return found | {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}


def groups_of(ray_job):
    return {group["groupName"]: group for group in ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"]}


@pytest.mark.parametrize(
    ("name", "job"),
    [
        ("gpus", {"cluster": CLUSTER}),
        ("queue", {"cluster": {"queue": "team-queue"}, "storage": None}),
        ("cpus", {"resources": {"training": {"workers": 2, "cpus": 2}, "preparation": {"cpus": 1}}}),
    ],
)
def test_golden(name, job, request):
    text = to_yaml(*made(**job))
    path = GOLDEN / f"{name}.yaml"
    if not path.exists():  # to update a golden file, delete it, run the test and review the diff
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def resolved_schema():
    try:
        folder = kuberay_crds()
    except ToolsUnavailableError as error:
        pytest.skip(str(error))
    crd = YAML(typ="safe").load((folder / "ray.io_rayjobs.yaml").read_text(encoding="utf-8"))
    return next(v for v in crd["spec"]["versions"] if v["name"] == "v1")["schema"]["openAPIV3Schema"]


def test_rayjobs_fit_the_schema_of_kuberay():
    schema = resolved_schema()
    for job in ({"cluster": CLUSTER}, {"cluster": {"queue": "q"}}, {"resources": {}}):
        assert problems(rayjob_of(**job), schema) == []
    wrong = copy.deepcopy(rayjob_of())
    wrong["spec"]["rayClusterSpec"]["headGroupSpec"]["templat"] = {}
    wrong["spec"]["backoffLimit"] = "0"
    assert len(problems(wrong, schema)) == 2  # the walk does see mistakes


def test_the_head_has_no_cpus_for_ray_and_the_driver_runs_in_the_cpu_group():
    spec = rayjob_of()["spec"]
    assert spec["rayClusterSpec"]["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert (spec["submissionMode"], spec["backoffLimit"], spec["entrypointNumCpus"]) == ("HTTPMode", 0, 0.1)
    cpu, gpu = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert (cpu["groupName"], cpu["minReplicas"]) == ("cpu", 1)
    assert int(cpu["rayStartParams"]["num-cpus"]) >= spec["entrypointNumCpus"]
    assert (gpu["groupName"], gpu["replicas"], gpu["minReplicas"], gpu["maxReplicas"]) == ("gpu", 0, 0, 2)


def test_what_needs_no_gpu_has_its_place_in_the_cpu_group_alone():
    job = rayjob_of(resources={"training": {"workers": 2, "gpus": 1}})["spec"]
    cpu, gpu = job["rayClusterSpec"]["workerGroupSpecs"]
    assert cpu["rayStartParams"]["resources"] == """'{"raytrain-cpu-pod":1000}'"""  # as KubeRay and Ray read it
    assert "resources" not in gpu["rayStartParams"]
    assert "resources" not in job["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]
    assert json.loads(job["entrypointResources"]) == {"raytrain-cpu-pod": 0.001}


def test_the_entrypoint_does_not_depend_on_the_job():
    hostile = rayjob_of(tasks=[task(fields={"from": "'; rm -rf / #"}, templates=["$(curl evil) `id` {from} {input}"])])
    assert hostile["spec"]["entrypoint"] == "python -m raytrain run /etc/raytrain/job.yaml"
    assert "runtimeEnvYAML" not in hostile["spec"]


def test_token_authentication_and_autoscaler_v2_are_enabled():
    cluster = rayjob_of()["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["autoscalerOptions"]["version"] == "v2"
    lock = (REPOSITORY / "requirements" / "run.txt").read_text(encoding="utf-8")
    assert f"\nray=={cluster['rayVersion']} " in lock


def test_a_queued_job_has_a_fixed_size_and_starts_suspended():
    ray_job = rayjob_of(cluster={"queue": "team-queue"})
    assert ray_job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-queue"
    assert ray_job["spec"]["suspend"] is True  # Kueue lets it go
    cluster = ray_job["spec"]["rayClusterSpec"]
    assert "enableInTreeAutoscaling" not in cluster
    for group in cluster["workerGroupSpecs"]:
        assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] > 0


def containers(ray_job):
    yield from (c for pod in pods(ray_job).values() for c in pod["spec"]["containers"])
    yield ray_job["spec"]["rayClusterSpec"]["autoscalerOptions"]


def test_every_pod_passes_restricted_pod_security():
    ray_job = rayjob_of(cluster=CLUSTER)
    for pod in pods(ray_job).values():
        spec = pod["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostPath"} & set(spec)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {kind for v in spec["volumes"] for kind in v if kind != "name"} <= {"emptyDir", "configMap", "projected"}
    for container in containers(ray_job):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] is True
        assert container["resources"]["limits"]["memory"]


def test_only_the_driver_may_access_the_api_server_and_only_its_own_object():
    items = made()
    by_pod = {name: pod["spec"] for name, pod in pods(items[-1]).items()}
    assert by_pod["cpu"]["automountServiceAccountToken"] is True
    assert by_pod["gpu"]["automountServiceAccountToken"] is False
    assert by_pod["head"]["automountServiceAccountToken"] is False
    assert by_pod["head"]["serviceAccountName"] != by_pod["cpu"]["serviceAccountName"]
    (role,) = [item for item in items if item["kind"] == "Role"]
    assert [(r["resources"], r["verbs"], r["resourceNames"]) for r in role["rules"]] == [
        (["finetunejobs"], ["get"], ["assistant"]),
        (["finetunejobs/status"], ["get", "patch"], ["assistant"]),
    ]
    (binding,) = [item for item in items if item["kind"] == "RoleBinding"]
    assert [s["name"] for s in binding["subjects"]] == [by_pod["cpu"]["serviceAccountName"]]
    for account in (item for item in items if item["kind"] == "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_the_autoscaler_alone_has_its_token_and_runs_no_image_of_the_job():
    cluster = {"image": "mine:1", "podTemplate": {"spec": {"containers": [{"name": "side", "image": "x"}]}}}
    found = rayjob_of(cluster=cluster)
    autoscaler = found["spec"]["rayClusterSpec"]["autoscalerOptions"]
    head = pods(found)["head"]["spec"]
    projected = [volume["name"] for volume in head["volumes"] if "projected" in volume]
    folders = {mount["mountPath"]: mount["name"] for mount in autoscaler["volumeMounts"]}
    assert folders["/var/run/secrets/kubernetes.io/serviceaccount"] == projected[0]
    assert len(projected) == 1
    assert autoscaler["image"] == Settings().runs.image
    theirs = {mount["name"] for container in head["containers"] for mount in container.get("volumeMounts", [])}
    assert not theirs & set(folders.values())
    queued = pods(rayjob_of(cluster={"queue": "team-queue"}))["head"]["spec"]
    assert not [volume for volume in queued["volumes"] if "projected" in volume]  # no autoscaler


def test_the_job_reaches_the_pod_unchanged_but_for_its_place():
    items = made(cluster={"retries": 1})
    (config,) = [item for item in items if item["kind"] == "ConfigMap"]
    job = YAML(typ="safe").load(config["data"]["job.yaml"])
    written = finetunejob(cluster={"retries": 1})["spec"]
    assert job["spec"] == {**written, "storage": {"uri": "s3://bucket/raytrain/team"}}
    assert FineTuneJob.model_validate(job).metadata.name == "assistant"
    mounts = [m for m in pods(items[-1])["cpu"]["spec"]["containers"][0]["volumeMounts"] if m["name"] == "job"]
    assert mounts == [{"name": "job", "mountPath": "/etc/raytrain", "readOnly": True}]


def test_secrets_are_only_referenced():
    container = pods(rayjob_of(cluster={"secrets": ["team-bucket"]}))["gpu"]["spec"]["containers"][0]
    assert container["envFrom"] == [{"secretRef": {"name": "bucket"}}, {"secretRef": {"name": "team-bucket"}}]
    assert {e["name"] for e in container["env"]} == {
        "HOME", "RAYTRAIN_CACHE", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "AWS_ENDPOINT_URL",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S",
    }  # fmt: skip


def test_a_token_of_the_hub_reaches_every_pod_from_a_secret_or_as_a_file():
    folder = {"name": "hub", "mountPath": "/run/hub", "readOnly": True}
    variable = {"name": "HF_TOKEN_PATH", "value": "/run/hub/token"}
    container = {"name": "ray", "env": [variable], "volumeMounts": [folder]}
    volume = {"name": "hub", "secret": {"secretName": "hub"}}
    template = {"spec": {"containers": [container], "volumes": [volume]}}
    for pod in pods(rayjob_of(cluster={"secrets": ["hub"], "podTemplate": template})).values():
        found = pod["spec"]["containers"][0]
        assert {"secretRef": {"name": "hub"}} in found["envFrom"]
        assert variable in found["env"]
        assert folder in found["volumeMounts"]
        assert volume in pod["spec"]["volumes"]


def test_a_pod_that_must_stop_has_time_for_a_checkpoint():
    made_of = pods(rayjob_of())
    containers = {name: template["spec"]["containers"][0] for name, template in made_of.items()}
    drains = {
        name: next(float(e["value"]) for e in container["env"] if e["name"] == "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S")
        for name, container in containers.items()
    }
    assert drains == {"head": 0, "cpu": 45, "gpu": 45}
    assert [name for name, container in containers.items() if "lifecycle" in container] == ["cpu"], "the driver's"
    for name in ("cpu", "gpu"):
        assert made_of[name]["spec"]["terminationGracePeriodSeconds"] > drains[name]


def test_the_default_storage_is_for_jobs_without_one():
    def storage_of(**job):
        env = pods(rayjob_of(**job))["cpu"]["spec"]["containers"][0]["env"]
        return [e["value"] for e in env if e["name"] == "RAYTRAIN_STORAGE"]

    assert storage_of(storage=None) == ["s3://default/raytrain/team"]
    assert storage_of() == []


def test_node_selectors_apply_to_training_and_tolerations_to_all_pods():
    by_pod = {name: pod["spec"] for name, pod in pods(rayjob_of(cluster=CLUSTER)).items()}
    assert [name for name, spec in by_pod.items() if "nodeSelector" in spec] == ["gpu"]
    assert {"key": "spot", "operator": "Exists"} in by_pod["head"]["tolerations"]
    assert len(by_pod["gpu"]["tolerations"]) == 2
    assert by_pod["head"]["priorityClassName"] == "batch"


@pytest.mark.parametrize("name", ["amd.com/gpu", "nvidia.com/mig-1g.10gb", "nvidia.com/gpu.shared"])
def test_gpus_of_any_name_are_requested_tolerated_and_announced_to_ray(name):
    resources = {"training": {"workers": 2, "gpus": 1, "resourceName": name}}
    gpu = groups_of(rayjob_of(resources=resources))["gpu"]
    spec = gpu["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"][name] == "1"
    assert spec["tolerations"][-1]["key"] == name
    assert gpu["rayStartParams"]["num-gpus"] == "1"


GANGED = {"volcano": "volcano.sh/queue-name", "yunikorn": "yunikorn.apache.org/queue"}


@pytest.mark.parametrize("system", GANGED)
def test_a_batch_schedulers_queue_starts_the_pods_that_are_needed_at_least_together(system):
    settings = Settings.model_validate({"runs": {"batchScheduler": system}})
    body = finetunejob(resources={"training": {"workers": 3, "minWorkers": 2, "gpus": 1}})
    body["metadata"]["labels"] = {GANGED[system]: "team", "ray.io/priority-class-name": "high"}
    rayjob = reconcile(Observed(body, pods=(), queue_systems=(system,)), settings, NOW).apply[-1]
    labels = rayjob["metadata"]["labels"]
    assert labels["ray.io/gang-scheduling-enabled"] == "true"
    assert labels[GANGED[system]] == "team"
    assert labels["ray.io/priority-class-name"] == "high"
    gpu = groups_of(rayjob)["gpu"]
    assert (gpu["minReplicas"], gpu["replicas"], gpu["maxReplicas"]) == (2, 2, 3)
    assert rayjob["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is True


def test_without_that_scheduler_its_labels_bring_no_gang():
    body = finetunejob()
    body["metadata"]["labels"] = {GANGED["volcano"]: "team"}
    rayjob = reconcile(Observed(body, pods=()), SETTINGS, NOW).apply[-1]
    assert "ray.io/gang-scheduling-enabled" not in rayjob["metadata"]["labels"]
    assert groups_of(rayjob)["gpu"]["minReplicas"] == 0


def test_kueues_topology_reaches_the_pods_that_train_and_multikueue_the_ray_job():
    near = {"kueue.x-k8s.io/podset-required-topology": "cloud.example/rack"}
    cluster = {"queue": "team", "managedBy": "kueue.x-k8s.io/multikueue"}
    rayjob = rayjob_of(annotations=near, cluster=cluster)
    assert rayjob["spec"]["managedBy"] == "kueue.x-k8s.io/multikueue"
    by_pod = {name: pod["metadata"].get("annotations", {}) for name, pod in pods(rayjob).items()}
    assert by_pod == {"head": {}, "cpu": {}, "gpu": near}
    assert "annotations" not in rayjob["metadata"]


def test_annotations_of_the_job_reach_ray_job_and_pods_as_far_as_the_policy_allows_them():
    settings = Settings.model_validate({"policy": {"allowedAnnotations": ["cost.example/*"]}})
    given = {
        "note": "thesis",
        "cost.example/centre": "42",
        "iam.example/role": "admin",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "raytrain.dev/cancel": "false",
        "kueue.x-k8s.io/workload-name": "another",
    }
    rayjob = next(item for item in made(settings, annotations=given) if item["kind"] == "RayJob")
    passed = {"note": "thesis", "cost.example/centre": "42"}
    assert rayjob["metadata"]["annotations"] == passed
    assert all(pod["metadata"]["annotations"] == passed for pod in pods(rayjob).values())
    status = reconcile(Observed(finetunejob(annotations=given), pods=()), settings, NOW).status
    (accepted,) = [c for c in status["conditions"] if c["type"] == "Accepted"]
    assert accepted["message"].endswith("(policy.allowedAnnotations): annotation iam.example/role")


def test_the_network_policy_admits_nobody_else():
    (policy,) = [item for item in made() if item["kind"] == "NetworkPolicy"]
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    labels = pods(made()[-1])["gpu"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    open_ports = [port["port"] for rule in policy["spec"]["ingress"] for port in rule.get("ports", [])]
    assert open_ports == [8265, 8080]
    without = Settings.model_validate({"runs": {"networkPolicy": False}})
    assert not [item for item in made(without) if item["kind"] == "NetworkPolicy"]


def sizes(**resources):
    return [(g.name, g.cpus, g.gpus, g.memory, g.least, g.most) for g in groups(Resources.model_validate(resources))]


def test_groups_hold_the_requested_resources():
    assert sizes() == [("cpu", 2, 0, "8Gi", 1, 2)]  # the driver's 2, then an actor and a worker together
    training = {"workers": 3, "gpus": 1, "cpus": 8, "memory": "64Gi"}
    assert sizes(training=training)[1] == ("gpu", 8, 1, "64Gi", 0, 3)
    actors = {"actors": 2, "gpus": 1, "cpus": 2, "memory": "16Gi"}
    assert sizes(training=training, evaluation=actors)[1] == ("gpu", 8, 1, "64Gi", 0, 5)
    shared = {"actors": 4, "gpus": 0.5, "cpus": 1, "memory": "10Gi"}
    assert sizes(evaluation=shared)[1] == ("gpu", 1, 1, "10Gi", 0, 4)  # one CPU: one actor
    assert sizes(evaluation=shared | {"cpus": 0.5})[1] == ("gpu", 1, 1, str(20 << 30), 0, 2)


def test_merging_patches_by_name_and_removes_by_null():
    base = {"a": {"x": 1, "y": 2}, "l": [{"name": "ray", "v": 1}], "t": [{"key": "k"}]}
    patch = {"a": {"y": None}, "l": [{"name": "side"}, {"name": "ray", "w": 2}], "t": [{"key": "m"}]}
    assert merge(base, patch) == {
        "a": {"x": 1},
        "l": [{"name": "ray", "v": 1, "w": 2}, {"name": "side"}],
        "t": [{"key": "k"}, {"key": "m"}],
    }
    assert base["a"] == {"x": 1, "y": 2}


def test_defaults_filled_in_by_the_api_server_are_left_out_of_the_job():
    written = finetunejob(training={"steps": 10, "device": "cpu"})
    filled = written | {
        "spec": FineTuneJob.model_validate(written | {"metadata": {"name": "sums"}}).model_dump(by_alias=True)["spec"]
    }
    config_maps = [
        next(
            made["data"]
            for made in reconcile(Observed(body, pods=()), SETTINGS, NOW).apply
            if made["kind"] == "ConfigMap"
        )
        for body in (written, filled)
    ]
    assert config_maps[0] == config_maps[1]
    (text,) = config_maps[0].values()
    assert YAML(typ="safe").load(text)["spec"]["training"] == {"steps": 10, "device": "cpu"}


def test_labels_of_the_job_are_passed_on_and_ours_stay():
    body = finetunejob(cluster={"podTemplate": {"metadata": {"labels": {"team": "vision"}}}})
    body["metadata"]["labels"] = {
        "team": "nlp", "example.org/cost-centre": "7", "raytrain.dev/job": "another",
        "app.kubernetes.io/instance": "argo", "argocd.argoproj.io/instance": "argo", "helm.sh/chart": "x",
        "kueue.x-k8s.io/queue-name": "team-queue", "kueue.x-k8s.io/priority-class": "high",
    }  # fmt: skip
    ray_job = reconcile(Observed(body, pods=()), SETTINGS, NOW).apply[-1]
    labels = ray_job["metadata"]["labels"]
    assert (labels["team"], labels["example.org/cost-centre"]) == ("nlp", "7")
    assert (labels["raytrain.dev/job"], labels["app.kubernetes.io/instance"]) == ("assistant", "assistant")
    assert labels["kueue.x-k8s.io/queue-name"] == "team-queue"
    assert labels["kueue.x-k8s.io/priority-class"] == "high"
    assert not {"argocd.argoproj.io/instance", "helm.sh/chart"} & labels.keys()
    assert "enableInTreeAutoscaling" not in ray_job["spec"]["rayClusterSpec"]  # a queued job has a fixed size
    for template in pods(ray_job).values():
        labels = template["metadata"]["labels"]
        assert (labels["team"], labels["example.org/cost-centre"]) == ("vision", "7")
        assert labels["raytrain.dev/job"] == "assistant"
        assert not [key for key in labels if "kueue" in key or "argo" in key]


def test_containers_that_a_job_adds_are_restricted():
    side = {"name": "side", "image": "registry.example/side:1"}
    template = {"spec": {"containers": [side], "initContainers": [{**side, "name": "init"}]}}
    for pod in pods(rayjob_of(cluster={"podTemplate": template})).values():
        for container in (pod["spec"]["containers"][1], pod["spec"]["initContainers"][0]):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            }


def test_a_volume_may_be_mounted_twice():
    mounts = [{"name": "rows", "mountPath": "/a", "subPath": "a"}, {"name": "rows", "mountPath": "/b", "subPath": "b"}]
    template = {"spec": {"containers": [{"name": "ray", "volumeMounts": mounts}]}}
    for pod in pods(rayjob_of(cluster={"podTemplate": template})).values():
        found = pod["spec"]["containers"][0]["volumeMounts"]
        assert [mount for mount in found if mount["name"] == "rows"] == mounts
        assert {"name": "scratch", "mountPath": "/tmp"} in found


def stored(namespace, settings):
    """Where the pods of a job of one name store, in a namespace: from its ConfigMap."""
    body = finetunejob()
    body["metadata"]["namespace"] = namespace
    config = next(o for o in reconcile(Observed(body, pods=()), settings, NOW).apply if o["kind"] == "ConfigMap")
    return YAML(typ="safe").load(config["data"]["job.yaml"])["spec"]["storage"]["uri"]


def test_jobs_of_one_name_in_two_namespaces_or_clusters_are_stored_apart():
    named = Settings.model_validate({"runs": {"clusterName": "west"}})
    assert stored("team-a", Settings()) == "s3://bucket/raytrain/team-a"
    assert stored("team-b", Settings()) == "s3://bucket/raytrain/team-b"
    assert stored("team-a", named) == "s3://bucket/raytrain/west/team-a"
