"""Serving of a complete run's model: what is rendered, applied, told and deleted."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from raytrain.config.job_status import ServingStatus
from raytrain.operator.admission import Refusal, check_admission
from raytrain.operator.reconcile import reconcile
from raytrain.operator.render.yaml_output import to_yaml
from raytrain.operator.settings import Settings
from raytrain.operator.snapshot import Observed, read_job
from raytrain.operator.status import status_patch
from tests.support.finetunejob_objects import NOW, finetunejob
from tests.support.kubernetes_tools import ToolsUnavailableError, kuberay_crds
from tests.support.structural_walk import problems

GOLDEN = Path(__file__).parent / "render" / "golden" / "serving.yaml"
RUNS = {"storage": "s3://default/raytrain", "secrets": ["bucket"], "env": {"AWS_ENDPOINT_URL": "http://s3:8333"}}
SETTINGS = Settings.model_validate({"runs": RUNS})
SERVING = {"replicas": {"min": 1, "max": 3}, "tokenSecret": "model-token", "resources": {"cpus": 2, "memory": "4Gi"}}
COMPLETE = {"phase": "Complete", "completionTime": "2026-11-23T11:00:00Z", "observedGeneration": 1}


class Served:
    """A complete job and its RayService over time; applies decisions as the controller does."""

    def __init__(self, serving=SERVING, settings=SETTINGS):
        self.body = finetunejob(status=dict(COMPLETE), serving=serving)
        self.settings, self.service, self.generation, self.error = settings, None, 0, None
        self.events = []

    def step(self):
        decision = reconcile(Observed(self.body, ray_service=self.service, apply_error=self.error), self.settings, NOW)
        for made in decision.apply:
            if made["kind"] == "RayService":
                self.generation += 1
                known = (self.service or {}).get("status")
                metadata = made["metadata"] | {"generation": self.generation}
                self.service = made | {"metadata": metadata, "status": known}
        if decision.delete_service:
            self.service = None
        self.body["status"].update(status_patch(self.body, decision.status))
        self.events += [(event.reason, event.message) for event in decision.events]
        return decision

    def kuberay_says(self, *, ready, upgrading=False, **status):
        conditions = [
            {"type": "Ready", "status": str(ready), "message": "Number of serve endpoints is 0"},
            {"type": "UpgradeInProgress", "status": str(upgrading)},
        ]
        self.service["status"] = {"conditions": conditions, "observedGeneration": self.generation, **status}

    @property
    def told(self):
        return ServingStatus.model_validate(self.body["status"]["serving"])


def test_golden(request):
    text = to_yaml(*Served().step().apply)
    if not GOLDEN.exists():  # to update it, delete it, run the test and review the diff
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_kuberay_knows_every_field():
    try:
        folder = kuberay_crds()
    except ToolsUnavailableError as error:
        pytest.skip(str(error))
    crd = YAML(typ="safe").load((folder / "ray.io_rayservices.yaml").read_text(encoding="utf-8"))
    schema = next(v for v in crd["spec"]["versions"] if v["name"] == "v1")["schema"]["openAPIV3Schema"]
    assert list(problems(Served().step().apply[-1], schema)) == []


def test_a_model_is_served_once_the_run_is_complete():
    world = Served()
    first = world.step()
    assert [made["kind"] for made in first.apply] == ["NetworkPolicy", "RayService"]
    assert not first.starts
    assert (world.told.ready, world.told.run) == (False, "assistant")
    assert world.step().apply == ()
    world.kuberay_says(ready=False)
    world.step()
    assert world.told.message == "run assistant: Number of serve endpoints is 0"
    world.kuberay_says(ready=True)
    world.step()
    assert world.told == ServingStatus(
        ready=True, run="assistant", url="http://assistant-serve-svc.team:8000",
        message="the model of run assistant answers",
    )  # fmt: skip
    again = world.step()
    assert (again.apply, again.events, status_patch(world.body, again.status)) == ((), (), {})
    assert [reason for reason, _ in world.events] == ["Serving"]


def test_a_newer_run_replaces_the_model_and_the_old_one_answers_until_then():
    world = Served()
    world.step()
    world.kuberay_says(ready=True)
    world.step()
    before = world.service["spec"]["rayClusterConfig"]
    world.body["spec"]["serving"] = SERVING | {"run": "assistant-2"}
    assert len(world.step().apply) == 2
    assert world.service["spec"]["rayClusterConfig"] != before, "else KubeRay would change the model in place"
    assert "run: assistant-2" in world.service["spec"]["serveConfigV2"]
    waiting = "the model of run assistant answers until that of run assistant-2 does"
    assert (world.told.ready, world.told.run, world.told.message) == (True, "assistant", waiting)
    world.step()  # KubeRay has not seen it yet
    assert world.told.run == "assistant"
    world.kuberay_says(ready=True, upgrading=True)
    world.step()
    assert (world.told.ready, world.told.run) == (True, "assistant")
    world.kuberay_says(ready=True)
    world.step()
    assert (world.told.ready, world.told.run) == (True, "assistant-2")
    assert [reason for reason, _ in world.events] == ["Serving", "Serving"]


def test_replicas_and_queue_change_in_place():
    world = Served()
    world.step()
    before = world.service["spec"]["rayClusterConfig"]
    world.body["spec"]["serving"] = SERVING | {"maxQueued": 9}
    world.step()
    assert world.service["spec"]["rayClusterConfig"] == before
    assert "max_queued: 9" in world.service["spec"]["serveConfigV2"]


def test_the_precision_reaches_the_replicas():
    world = Served()
    world.step()
    assert "precision" not in world.service["spec"]["serveConfigV2"], "older images do not know it"
    world.body["spec"]["serving"] = SERVING | {"precision": "bf16"}
    world.step()
    assert "precision: bf16" in world.service["spec"]["serveConfigV2"]


def test_an_application_that_cannot_start_says_why():
    world = Served()
    world.step()
    failed = {"raytrain": {"status": "DEPLOY_FAILED", "message": "there is no run assistant"}}
    world.kuberay_says(ready=False, pendingServiceStatus={"applicationStatuses": failed})
    world.step()
    assert (world.told.ready, world.told.message) == (False, "run assistant: there is no run assistant")


def test_a_model_that_stops_answering_is_told():
    world = Served()
    world.step()
    world.kuberay_says(ready=True)
    world.step()
    world.kuberay_says(ready=False)
    world.step()
    assert not world.told.ready
    assert [reason for reason, _ in world.events] == ["Serving", "ServingUnready"]


def test_without_the_field_it_is_deleted_and_no_longer_told():
    world = Served()
    world.step()
    del world.body["spec"]["serving"]
    decision = world.step()
    assert decision.delete_service
    assert decision.status["serving"] is None
    assert not world.step().delete_service


@pytest.mark.parametrize("phase", ["Failed", "Cancelled", "Training"])
def test_only_a_complete_run_is_served(phase):
    body = finetunejob(status=COMPLETE | {"phase": phase}, serving=SERVING)
    assert "RayService" not in [made["kind"] for made in reconcile(Observed(body, pods=()), SETTINGS, NOW).apply]


def test_what_the_api_server_refuses_is_told_and_tried_again():
    world = Served()
    world.error = Refusal("Forbidden", "rayservices is forbidden")
    decision = world.step()
    assert decision.apply == ()
    assert decision.wake_after
    assert world.told.message == "Forbidden: rayservices is forbidden"
    world.error = None
    assert len(world.step().apply) == 2


def test_the_policy_applies_to_its_pods_before_the_run_begins_and_after():
    policy = {"allowedImages": ["registry.example/raytrain"], "allowedSecrets": ["raytrain-*"]}
    settings = Settings.model_validate({"runs": RUNS, "policy": policy})
    for change, reason in (
        ({"image": "evil.example/x:1"}, "ImageNotAllowed"),
        ({"tokenSecret": "somebodys"}, "SecretNotAllowed"),
    ):
        refused = check_admission(read_job(finetunejob(serving=change)), settings)
        assert refused.reason == reason
        assert "serving" in refused.message
        world = Served(change, settings)
        assert world.step().apply == ()
        assert world.told.message.startswith(reason)
    assert check_admission(read_job(finetunejob(serving={"tokenSecret": "raytrain-token"})), settings) is None
    assert read_job(finetunejob(serving={"resources": {"memory": "lots"}})) is None


def test_without_a_token_only_the_namespace_gets_in():
    def clients(serving):
        policy = Served(serving).step().apply[0]
        return policy["spec"]["ingress"][0].get("from")

    assert clients(SERVING) is None
    assert clients({}) == [{"podSelector": {}}]


def test_serving_is_not_part_of_the_run():
    from raytrain.config.identity import identity

    plain, served = (identity(read_job(finetunejob(**s))) for s in ({}, {"serving": SERVING}))
    assert plain == served
    made = reconcile(Observed(finetunejob(serving=SERVING), pods=()), SETTINGS, NOW).apply
    job = next(one for one in made if one["kind"] == "ConfigMap")["data"]["job.yaml"]
    assert "serving" not in job


@pytest.mark.parametrize("replicas", [{"min": 3, "max": 2}, {"min": 0}, {"max": 0}, {"min": "x"}])
def test_replicas_that_make_no_sense_are_refused(replicas):
    assert read_job(finetunejob(serving={"replicas": replicas})) is None
