"""No object that the API server lets through, and nothing observed, makes `reconcile` raise."""

import os
from datetime import timedelta

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from raytrain.operator.actions import Decision
from raytrain.operator.admission import Refusal
from raytrain.operator.install.crd import crd
from raytrain.operator.reconcile import reconcile
from raytrain.operator.settings import Settings
from raytrain.operator.snapshot import Observed
from raytrain.operator.status import ENDED_PHASES, status_patch
from tests.support.finetunejob_objects import NOW, finetunejob, pod, rayjob
from tests.support.structural_strategies import ANYTHING, MAPPING, admitted

EXAMPLES = int(os.environ.get("RAYTRAIN_FUZZ_EXAMPLES", "300"))
"""10,000 take some minutes."""
SCHEMA = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
SPEC, STATUS = SCHEMA["spec"]["properties"], SCHEMA["status"]
TIMES = st.sampled_from(["", "soon", "2026-11-23T11:00:00Z", "2026-11-23T11:00:00", "9999-12-31T23:59:59Z"])

attempts = st.integers(0, 4).flatmap(
    lambda count: st.tuples(
        *(
            st.fixed_dictionaries(
                {
                    "number": st.just(number),
                    "rayJob": st.just(f"assistant-a{number:02d}") | st.text(max_size=5),
                    "outcome": st.sampled_from(["Running", "Failed", "Interrupted", "Suspended", "Succeeded"]),
                },
                optional={
                    "started": TIMES,
                    "ended": TIMES | st.none(),
                    "exitCode": st.sampled_from([None, 0, 1, 2, 130, -9]),
                    "reason": st.text(max_size=5),
                },
            )
            for number in range(1, count + 1)
        )
    ).map(list)
)
likely_status = st.fixed_dictionaries(
    {
        "phase": st.sampled_from(
            ["Pending", "Training", "Retrying", "Complete", "Failed", "Cancelled", "Suspended", "?"]
        )
    },
    optional={
        "attempts": attempts,
        "completionTime": TIMES | st.none(),
        "progress": admitted(STATUS["properties"]["progress"]),
        "result": admitted(STATUS["properties"]["result"]),
        "conditions": admitted(STATUS["properties"]["conditions"]),
    },
)
cluster = admitted(SPEC["cluster"]) | st.fixed_dictionaries(
    {},
    optional={
        "podTemplate": MAPPING,
        "tolerations": st.lists(MAPPING, max_size=2),
        "suspend": st.booleans(),
        "ttl": st.sampled_from(["1h", "99999d", "999999999d"]),
        "retries": st.integers(0, 3),
    },
)
ray_job_status = st.none() | st.fixed_dictionaries(
    {
        "jobDeploymentStatus": st.sampled_from(
            ["", "Initializing", "Running", "Complete", "Failed", "Suspended", "Retrying", "Waiting", "New"]
        ),
        "jobStatus": st.sampled_from(["", "PENDING", "RUNNING", "SUCCEEDED", "STOPPED", "FAILED"]),
    },
    optional={
        "reason": st.text(max_size=5) | st.sampled_from(["AppFailed", "DeadlineExceeded", "ValidationFailed"]),
        "message": st.text(max_size=5),
        "endTime": TIMES | st.none(),
        "startTime": TIMES | st.none(),
        "rayClusterStatus": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "conditions": st.none()
                | st.lists(
                    st.fixed_dictionaries(
                        {"type": st.sampled_from(["ReplicaFailure", "HeadPodReady"]), "status": st.just("True")},
                        optional={"reason": st.text(max_size=5), "message": st.none() | st.text(max_size=5)},
                    ),
                    max_size=2,
                ),
                "desiredWorkerReplicas": st.integers(0, 9),
            },
        ),
    },
)


waiting = st.fixed_dictionaries(
    {}, optional={"reason": st.sampled_from(["ErrImagePull", "Error"]), "message": st.text()}
)
pods = st.none() | st.lists(
    st.builds(
        pod,
        leaving=st.booleans(),
        phase=st.sampled_from(["Pending", "Running", "Failed"]),
        conditions=st.none()
        | st.just([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}]),
        containerStatuses=st.none()
        | st.lists(st.fixed_dictionaries({"state": st.fixed_dictionaries({"waiting": waiting})})),
    ),
    max_size=2,
)


@st.composite
def worlds(draw):
    """A FineTuneJob with any of a cluster, a spec and a status, and RayJobs of it."""
    body = finetunejob(annotations=draw(st.sampled_from([None, None, None, {"raytrain.dev/cancel": "true"}])))
    body["spec"] |= {"cluster": draw(cluster)}
    if draw(st.booleans()):
        part = draw(st.sampled_from(sorted(SPEC)))
        body["spec"][part] = draw(admitted(SPEC[part]) | ANYTHING)
    body["status"] = draw(likely_status | admitted(STATUS) | st.none())
    body["metadata"] |= draw(st.fixed_dictionaries({}, optional={"labels": st.dictionaries(st.text(), st.text())}))
    ray_jobs = {}
    for number in draw(st.lists(st.integers(1, 4), max_size=3, unique=True)):
        found = rayjob(number, suspend=draw(st.sampled_from([True, False, None])))
        ray_jobs[found["metadata"]["name"]] = found | {"status": draw(ray_job_status)}
    return Observed(
        body, ray_jobs, kuberay=draw(st.booleans()), apply_error=draw(st.sampled_from(ERRORS)), pods=draw(pods)
    )


ERRORS = (None, Refusal("Forbidden", "exceeded quota"))


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(worlds(), st.integers(-7200, 10**9))
def test_whatever_the_api_server_lets_through_is_answered(world, seconds):
    decision = reconcile(world, Settings(), NOW + timedelta(seconds=seconds))
    assert isinstance(decision, Decision)
    event(str(decision.status.get("phase")))
    if decision.status:
        status_patch(world.body, decision.status)
        assert decision.status.get("phase") or world.body["status"]["phase"] in ENDED_PHASES
