"""Tools that know no FineTuneJobs judge them right: kstatus by conditions, Argo CD by our Lua."""

import lupa
import pytest
from ruamel.yaml import YAML

from raytrain.operator.install.crd import crd
from raytrain.operator.reconcile import reconcile
from raytrain.operator.settings import Settings
from raytrain.operator.snapshot import Observed
from tests.support import REPOSITORY
from tests.support.finetunejob_objects import NOW, finetunejob, rayjob

LUA = YAML(typ="safe").load((REPOSITORY / "k8s/argocd/argocd-cm.yaml").read_text(encoding="utf-8"))["data"]
CUSTOMIZATION = LUA["resource.customizations.health.raytrain.dev_FineTuneJob"]
ENDED = {"number": 1, "rayJob": "assistant-a01", "outcome": "Running", "started": "2026-11-23T12:00:00Z"}
RESULT = {"attempt": 1, "exitCode": 3, "reason": "DataError", "message": "no rows"}


def decided(body, *ray_jobs):
    """The object with the status that the operator gives it."""
    observed = Observed(body, {r["metadata"]["name"]: r for r in ray_jobs}, pods=())
    status = reconcile(observed, Settings(), NOW).status
    return {**body, "status": {**body.get("status", {}), **status}}


def kstatus(body):
    """The rules of sigs.k8s.io/cli-utils/pkg/kstatus for a resource that it does not know."""
    status = body.get("status") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    if status.get("observedGeneration") != body["metadata"]["generation"]:
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    return {"True": "Current", "False": "InProgress"}.get(conditions.get("Ready"), "Current")


def argo(body):
    """The health that Argo CD shows."""
    lua = lupa.LuaRuntime(unpack_returned_tuples=True)
    judge = lua.eval(f"function(obj) {CUSTOMIZATION} end")
    found = judge(lua.table_from(body, recursive=True))
    return found["status"], found["message"]


JOBS = {
    "starting": (finetunejob(), (), "InProgress", "Progressing"),
    "rejected": (finetunejob(model="./my-model"), (), "Failed", "Degraded"),
    "suspended": (finetunejob(cluster={"suspend": True}), (), "InProgress", "Suspended"),
    "complete": (
        finetunejob(status={"attempts": [ENDED], "result": {**RESULT, "exitCode": 0, "reason": "Complete"}}),
        (rayjob(deployment="Complete", job="SUCCEEDED"),),
        "Current",
        "Healthy",
    ),
    "failed": (
        finetunejob(status={"attempts": [ENDED], "result": RESULT}),
        (rayjob(deployment="Failed", job="FAILED", reason="AppFailed"),),
        "Failed",
        "Degraded",
    ),
}


@pytest.mark.parametrize(("body", "ray_jobs", "by_kstatus", "by_argo"), JOBS.values(), ids=JOBS)
def test_health_is_judged_right(body, ray_jobs, by_kstatus, by_argo):
    found = decided(body, *ray_jobs)
    assert (kstatus(found), argo(found)[0]) == (by_kstatus, by_argo), found["status"]["message"]
    assert found["status"]["phase"] in argo(found)[1]


def test_a_job_that_the_operator_has_not_seen_is_in_progress():
    assert (kstatus(finetunejob()), argo(finetunejob())[0]) == ("InProgress", "Progressing")
    edited = decided(finetunejob())
    edited["metadata"] = {**edited["metadata"], "generation": 2}
    assert (kstatus(edited), argo(edited)[0]) == ("InProgress", "Progressing")


def test_an_edit_of_an_ended_job_is_seen():
    body, ray_jobs, *_ = JOBS["complete"]
    ended = decided(body, *ray_jobs)
    ended["metadata"] = {**ended["metadata"], "generation": 2}
    seen = decided(ended, *ray_jobs)
    assert seen["status"]["observedGeneration"] == 2
    assert {c["observedGeneration"] for c in seen["status"]["conditions"]} == {2}
    assert (kstatus(seen), argo(seen)[0]) == ("Current", "Healthy")
    assert decided(seen, *ray_jobs) == seen


def test_the_columns_fit_a_terminal_of_120():
    widest = {
        "Phase": "ScoringBefore", "Progress": "100%", "ROUGE-L": "0.242 → 0.318", "Workers": "128/128",
        "Attempts": "99", "Age": "2d23h",
    }  # fmt: skip
    shown = [c["name"] for c in crd()["spec"]["versions"][0]["additionalPrinterColumns"] if not c.get("priority")]
    assert shown == list(widest)
    width = 40 + sum(3 + max(len(name), len(text)) for name, text in widest.items())
    assert width <= 120
