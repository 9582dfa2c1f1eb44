"""A real API server takes the CRD and refuses invalid jobs; the operator has what it needs."""

import copy
import json
import time

import pytest

from raytrain.config.starter import STARTER
from raytrain.operator.render import names
from tests.support.finetunejob_objects import finetunejob, task
from tests.support.operator_play import Play

pytestmark = pytest.mark.cluster


def job(namespace, name="assistant", **fields):
    body = finetunejob(name=name, **fields)
    body["metadata"] = {"name": name, "namespace": namespace, "annotations": {}}
    return body


def changed(body, path, value):
    body = copy.deepcopy(body)
    *parts, last = path.split(".")
    here = body["spec"]
    for part in parts:
        here = here.setdefault(part, {}) if not part.isdigit() else here[int(part)]
    here[last] = value
    return body


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("trainning", {}, 'unknown field "spec.trainning"'),
        ("training.lerningRate", 1, 'unknown field "spec.training.lerningRate"'),
        ("training.steps", "many", "spec.training.steps"),
        ("training.steps", -1, "spec.training.steps"),
        ("training.learningRate", 0, "spec.training.learningRate"),
        ("training.optimizer", "sgd", "spec.training.optimizer"),
        ("training.packing", {"source": 8, "target": 4}, "packing is too small for an example"),
        ("training.packing", {"source": 60000, "target": 60000}, "batchTokens is smaller than one packed row"),
        ("training.betas", [0.9], "spec.training.betas"),
        ("training", {}, "one of steps, epochs and tokens"),
        ("training", {"steps": 10, "epochs": 1}, "one of steps, epochs and tokens"),
        ("mixture", {"strategy": "weights"}, "weights must be given exactly when strategy is weights"),
        ("mixture", {"strategy": "weights", "weights": {"chats": 1}}, "must name exactly the trained tasks"),
        ("mixture", {"strategy": "weights", "weights": {"chats": 1, "reviews": 0}}, "every weight must be positive"),
        ("tasks", [], "spec.tasks"),
        ("tasks", [task(), task()], "Duplicate value"),
        ("tasks", [task(probe=True)], "every task is a probe"),
        ("tasks", [task(name="Chats")], "spec.tasks[0].name"),
        ("tasks", [task(type="poetry")], "spec.tasks[0].type"),
        ("tasks", [task(source={})], "give either uri or splits"),
        ("tasks", [task(source={"uri": "a", "splits": {"test": "b"}})], "give either uri or splits"),
        ("tasks", [task(columns={"tokens": "t"})], "tokens and tags belong together"),
        ("tasks", [task(split={"test": 0.6, "validation": 0.4})], "validation + test must be less than 1"),
        ("resources.training.minWorkers", 9, "minWorkers must not exceed workers"),
        ("resources.training.memory", "24 gigabytes", "memory must be a quantity"),
        ("cluster", {"ttl": "an hour"}, "spec.cluster.ttl"),
        ("cluster", {"secrets": ["Not_A_Name"]}, "spec.cluster.secrets"),
        ("cluster", {"head": {"memory": "much"}}, "memory must be a quantity"),
    ],
)
def test_invalid_fields_are_refused_by_name(kubernetes, namespace, path, value, message):
    body = json.dumps(changed(job(namespace), path, value))
    done = kubernetes.kubectl("create", "--validate=strict", "-f", "-", text=body, check=False)
    assert done.returncode
    assert message in done.stderr


@pytest.mark.parametrize("name", ["a" * 41, "1st", "a.b"])
def test_a_name_too_long_for_kuberay_is_refused(kubernetes, namespace, name):
    done = kubernetes.apply(job(namespace, name), check=False)
    assert "metadata.name: a lower-case letter" in done.stderr


def test_unknown_fields_of_a_client_without_strict_validation_are_removed(kubernetes, namespace):
    body = changed(job(namespace), "training.lerningRate", 1)
    kubernetes.kubectl("create", "--validate=ignore", "-f", "-", text=json.dumps(body))
    assert "lerningRate" not in kubernetes.get("ftj", "assistant", "-n", namespace)["spec"]["training"]


def test_the_starter_and_nulls_are_accepted(kubernetes, namespace):
    kubernetes.kubectl("apply", "-n", namespace, "--validate=strict", "-f", "-", text=STARTER)
    body = job(namespace, "nulls", training={"steps": 1, "gradientClip": None, "dropout": None})
    body["spec"]["tasks"][0]["source"] |= {"format": None, "splits": None}
    kubernetes.apply(body)
    assert kubernetes.get("ftj", "nulls", "-n", namespace)["spec"]["training"]["gradientClip"] is None


def test_the_identity_is_immutable_once_the_run_has_started(kubernetes, namespace):
    body = job(namespace)
    kubernetes.apply(body)
    kubernetes.apply(changed(body, "training.steps", 200))  # nothing has started
    attempts = {"status": {"attempts": [{"number": 1, "rayJob": "assistant-a01"}]}}
    kubernetes.kubectl(
        "patch", "ftj", "assistant", "-n", namespace, "--subresource=status", "--type=merge", "-p", json.dumps(attempts)
    )
    for path, value in (
        ("training.steps", 300),
        ("training.gradientClip", None),
        ("model", "google/flan-t5-base"),
        ("tasks", [task()]),
        ("mixture", {"seed": 18}),
        ("evaluation", {"every": 7}),
    ):
        done = kubernetes.apply(changed(changed(body, "training.steps", 200), path, value), check=False)
        assert f"spec.{path}" in done.stderr, (path, done.stderr)
        assert "cannot change once the run has started" in done.stderr
    for path, value in (
        ("resources.training.workers", 4),
        ("cluster", {"retries": 5, "suspend": True}),
        ("training.keepCheckpoints", 9),
        ("training.device", "cpu"),
        ("evaluation", {"batchSize": 4}),
    ):
        kubernetes.apply(changed(changed(body, "training.steps", 200), path, value))


def test_kubectl_explains_the_job(kubernetes):
    text = kubernetes.kubectl("explain", "ftj.spec.training.optimizer").stdout
    assert "as FLAN was trained" in text
    assert "adafactor" in text


def test_a_job_through_the_real_operator(kubernetes, namespace, operator):
    kubernetes.apply(job(namespace))
    play = Play(kubernetes, namespace)
    play.until("Pending")
    play.kuberay("assistant-a01", "Running", "RUNNING", desired=2, ready=2)
    play.run(progress={"attempt": 1, "phase": "Training", "step": 40, "percent": "40%", "rougeL": "0.201 → 0.287"})
    play.until("Training")
    row = kubernetes.kubectl("get", "ftj", "assistant", "-n", namespace).stdout.splitlines()
    assert row[0].split() == ["NAME", "PHASE", "PROGRESS", "ROUGE-L", "WORKERS", "ATTEMPTS", "AGE"]
    assert row[1].split()[:8] == ["assistant", "Training", "40%", "0.201", "→", "0.287", "2/2", "1"]

    play.kuberay("assistant-a01", "Failed", "FAILED", reason="AppFailed", message="the head is gone")
    play.until("Pending", attempts=2)
    play.kuberay("assistant-a02", "Running", "RUNNING", desired=2, ready=2)
    play.run(
        progress={"attempt": 2, "phase": "Reporting", "step": 100, "percent": "100%"},
        tasks=[{"name": "chats", "metric": "rougeL", "before": 0.2, "after": 0.3}],
        result={"attempt": 2, "exitCode": 0, "reason": "Complete", "report": "s3://bucket/report/index.html"},
    )
    play.kuberay("assistant-a02", "Complete", "SUCCEEDED")
    kubernetes.kubectl("wait", "--for=condition=Complete", "ftj/assistant", "-n", namespace, "--timeout=30s")
    status = play.status()
    assert [a["outcome"] for a in status["attempts"]] == ["Failed", "Succeeded"]
    assert status["tasks"][0]["after"] == 0.3
    description = kubernetes.kubectl("describe", "ftj", "assistant", "-n", namespace).stdout
    for words in ("attempt 1 ended: AppFailed: the head is gone", "AttemptStarted", "s3://bucket/report/index.html"):
        assert words in description
    assert "finalizers" not in kubernetes.get("ftj", "assistant", "-n", namespace)["metadata"]

    version = kubernetes.get("ftj", "assistant", "-n", namespace)["metadata"]["resourceVersion"]
    time.sleep(1.5)
    assert kubernetes.get("ftj", "assistant", "-n", namespace)["metadata"]["resourceVersion"] == version


def test_a_local_source_is_reported_and_a_cancelled_job_deletes_its_rayjob(kubernetes, namespace, operator):
    kubernetes.apply(job(namespace, "local", tasks=[task(source={"uri": "rows.jsonl"})]))
    Play(kubernetes, namespace, "local").until("Rejected")
    kubernetes.apply(job(namespace))
    play = Play(kubernetes, namespace)
    play.until("Pending")
    kubernetes.kubectl("annotate", "ftj", "assistant", "-n", namespace, f"{names.CANCEL_ANNOTATION}=true")
    play.until("Cancelled")
    assert kubernetes.get("rayjob", "-n", namespace)["items"] == []


def test_objects_of_other_owners_are_not_taken_over(kubernetes, namespace, operator):
    kubernetes.kubectl("create", "serviceaccount", "assistant-raytrain", "-n", namespace)
    kubernetes.apply(job(namespace))
    play = Play(kubernetes, namespace)
    play.until("Pending")
    accepted = next(c for c in play.status()["conditions"] if c["type"] == "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "NameTaken")
    account = kubernetes.get("serviceaccount", "assistant-raytrain", "-n", namespace)
    assert "ownerReferences" not in account["metadata"]


def test_the_account_of_a_run_may_only_patch_its_own_status(kubernetes, namespace, operator):
    kubernetes.apply(job(namespace), job(namespace, "other"))
    Play(kubernetes, namespace).until("Pending")
    Play(kubernetes, namespace, "other").until("Pending")
    account = f"system:serviceaccount:{namespace}:assistant-raytrain"

    def patch(name, *more):
        body = json.dumps({"status": {"progress": {"attempt": 1, "phase": "Training"}}})
        arguments = ("patch", "ftj", name, "-n", namespace, "--type=merge", "-p", body, *more)
        return kubernetes.kubectl(*arguments, user=account, check=False)

    assert patch("assistant", "--subresource=status").returncode == 0
    assert "forbidden" in patch("other", "--subresource=status").stderr.lower()
    assert "forbidden" in patch("assistant").stderr.lower()
    listed = kubernetes.kubectl("auth", "can-i", "--list", "-n", namespace, user=account).stdout
    own = [line.split()[0] for line in listed.splitlines() if "raytrain.dev" in line]
    assert sorted(own) == ["finetunejobs.raytrain.dev", "finetunejobs.raytrain.dev/status"]
    for verb, what in (("get", "secrets"), ("list", "pods"), ("create", "rayjobs.ray.io"), ("list", "ftj")):
        answer = kubernetes.kubectl("auth", "can-i", verb, what, "-n", namespace, user=account, check=False).stdout
        assert answer.strip() == "no", (verb, what)


def test_the_operator_reads_no_secrets_and_changes_no_pods(kubernetes, namespace):
    refused = [("get", "secrets"), ("list", "secrets"), ("get", "pods/log")]
    for verb, what in (*refused, *((verb, "pods") for verb in ("create", "patch", "delete")), ("create", "pods/exec")):
        answer = kubernetes.kubectl("auth", "can-i", verb, what, "-n", namespace, user="operator", check=False).stdout
        assert answer.strip() == "no", (verb, what)


def test_a_suspended_job_whose_rayjob_may_not_be_deleted_says_so_until_it_is_gone(kubernetes, namespace, operator):
    """A real admission policy refuses the DELETE; nothing is called Suspended before it is."""
    group, name = "admissionregistration.k8s.io/v1", f"keep-{namespace}"
    rule = {"apiGroups": ["ray.io"], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["rayjobs"]}
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    policy = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"namespaceSelector": here, "resourceRules": [rule]},
            "validations": [{"expression": "false", "message": "RayJobs of this namespace are kept"}],
        },
    }
    binding = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    kubernetes.apply(job(namespace))
    play = Play(kubernetes, namespace)
    play.until("Pending", attempts=1)
    play.kuberay("assistant-a01", "Running", "RUNNING")
    kubernetes.apply(policy, binding)
    time.sleep(5)  # until the policy binds
    kubernetes.apply(job(namespace, cluster={"suspend": True}))
    play.until("Suspending")
    deadline = time.monotonic() + 30
    while "RayJobs of this namespace are kept" not in play.status()["message"]:
        assert time.monotonic() < deadline, play.status()["message"]
        time.sleep(0.2)
    assert kubernetes.get("rayjob", "-n", namespace)["items"]
    kubernetes.kubectl("delete", "validatingadmissionpolicybinding", name)
    play.until("Suspended", seconds=60)
    assert kubernetes.get("rayjob", "-n", namespace)["items"] == []
