"""Why pods do not start, and what follows: a mistake ends the job, lacking room is waited for."""

import pytest

from raytrain.operator.obstacles import find_obstacle, quota_too_small
from raytrain.operator.pods_seen import PodsSeen
from tests.support.finetunejob_objects import pod

CONFIG, REFUSED = "CreateContainerConfigError", "FailedCreateWorkerPod"
NO_GPUS = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu. preemption: 0/2 nodes are available"
FULL = 'pods "a" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=2, used: {}, limited: {}'


def unscheduled(message, reason="Unschedulable"):
    return pod(
        phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "reason": reason, "message": message}]
    )


def waiting(reason, message, kind="containerStatuses"):
    return pod(
        phase="Pending", **{kind: [{"name": "ray", "state": {"waiting": {"reason": reason, "message": message}}}]}
    )


def failing(message):
    return {"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": REFUSED, "message": message}]}


@pytest.mark.parametrize(
    ("found", "kind", "reason"),
    [
        (unscheduled(NO_GPUS), "capacity", "Unschedulable"),
        (unscheduled("0/2 nodes are available: 2 node(s) were unschedulable"), "capacity", "Unschedulable"),
        (unscheduled('0/2 nodes are available: persistentvolumeclaim "rows" not found'), "mistake", "Unschedulable"),
        (waiting("ErrImagePull", "manifest for registry.example.org/x:1 not found"), "mistake", "ErrImagePull"),
        (waiting("ErrImagePull", "dial tcp 10.0.0.1:443: i/o timeout"), "failure", "ErrImagePull"),
        (waiting("ErrImagePull", "dial tcp: lookup registry.example.org: no such host"), "failure", "ErrImagePull"),
        (waiting("ErrImagePull", "toomanyrequests: rate limit exceeded"), "failure", "ErrImagePull"),
        (waiting("ErrImagePull", "unexpected status: 503 Service Unavailable"), "failure", "ErrImagePull"),
        (waiting("ErrImagePull", "write /var/lib/x: no space left on device"), "failure", "ErrImagePull"),
        (waiting("RegistryUnavailable", "image pull failed"), "failure", "RegistryUnavailable"),
        (waiting("ErrImagePull", 'image "registry.example.org/x:1.500": not found'), "mistake", "ErrImagePull"),
        (waiting("ErrImagePull", "registry.example.org/geofence-timeout:500: not found"), "mistake", "ErrImagePull"),
        (waiting("ImagePullBackOff", "Back-off: ErrImagePull: access denied"), "mistake", "ImagePullBackOff"),
        (waiting("InvalidImageName", "couldn't parse image name"), "mistake", "InvalidImageName"),
        (waiting(CONFIG, 'secret "bucket" not found'), "mistake", CONFIG),
        (waiting(CONFIG, 'configmap "x" not found', "initContainerStatuses"), "mistake", CONFIG),
        (waiting("CrashLoopBackOff", "back-off 10s restarting"), "failure", "CrashLoopBackOff"),
    ],
)  # fmt: skip
def test_what_a_pod_says(found, kind, reason):
    obstacle = find_obstacle([], [found])
    assert (obstacle.kind, obstacle.reason) == (kind, reason)
    assert "pod assistant-a01-head" in obstacle.message


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ('MountVolume.SetUp failed for volume "keys" : secret "bucket" not found', "mistake"),
        ('MountVolume.SetUp failed for volume "cfg" : configmap "settings" not found', "mistake"),
        ('MountVolume.SetUp failed for volume "keys" : references non-existent secret key: token', "mistake"),
        ('MountVolume.SetUp failed for volume "pv" : mount failed: exit status 32', "failure"),
    ],
)
def test_volumes_that_cannot_be_mounted_are_told_from_the_newest_event(message, kind):
    event = {"reason": "FailedMount", "message": message, "involvedObject": {"name": "assistant-a01-head"}}
    creating = waiting("ContainerCreating", "")
    obstacle = find_obstacle([], [creating], [event])
    assert (obstacle.kind, obstacle.reason) == (kind, "FailedMount")
    assert message in obstacle.message
    assert find_obstacle([], [creating], [event | {"reason": "Pulling"}]) is None


class _Events:
    """An API server with one pod, and the events of it."""

    def __init__(self, found, events):
        self.found, self.events, self.asked = found, events, []

    def list(self, kind, namespace, selector="", *, fields=""):
        self.asked.append((kind[1], fields))
        return {"Pod": [self.found], "Event": self.events}.get(kind[1], [])


def test_events_are_asked_for_only_while_containers_are_created():
    mount = {"reason": "FailedMount", "message": "x", "lastTimestamp": "2026-11-23T12:00:00Z"}
    pulling = {"reason": "Pulling", "eventTime": "2026-11-23T12:01:00.123456Z", "lastTimestamp": None}
    server = _Events(waiting("ContainerCreating", ""), [pulling, mount])
    assert PodsSeen(server).look(("team", "assistant")).events == [pulling]
    (fields,) = [fields for kind, fields in server.asked if kind == "Event"]
    assert fields == f"involvedObject.uid={server.found['metadata'].get('uid')}"
    server = _Events(waiting("ErrImagePull", ""), [mount])
    assert PodsSeen(server).look(("team", "assistant")).events == []
    assert "Event" not in [kind for kind, _ in server.asked]


def test_a_node_selector_that_no_node_has_is_told():
    message = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector. preemption: 0/3"
    assert "no node has the labels of cluster.nodeSelector" in find_obstacle([], [unscheduled(message)]).message
    some = "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't match Pod's node affinity/selector."
    assert "no node has" not in find_obstacle([], [unscheduled(some)]).message


@pytest.mark.parametrize(
    ("message", "kind", "reason"),
    [
        (FULL.format("requests.nvidia.com/gpu=4", "requests.nvidia.com/gpu=4"), "capacity", "QuotaExceeded"),
        (FULL.format("requests.nvidia.com/gpu=0", "requests.nvidia.com/gpu=1"), "mistake", "QuotaTooSmall"),
        ('pods "a" is forbidden: failed quota: cpu: must specify limits.cpu for: autoscaler', "mistake", REFUSED),
        ('admission webhook "policy.example.org" denied the request: no', "mistake", REFUSED),
        ('pods "a" is forbidden: violates PodSecurity "restricted:latest": x', "mistake", REFUSED),
        ('Internal error occurred: failed calling webhook "x": timeout', "failure", REFUSED),
        ('pods "a" is forbidden: error looking up service account: serviceaccount "x" not found', "failure", REFUSED),
    ],
)  # fmt: skip
def test_pods_that_the_api_server_refuses(message, kind, reason):
    obstacle = find_obstacle([failing(message)], [])
    assert (obstacle.kind, obstacle.reason) == (kind, reason)
    assert message in obstacle.message


def test_a_quota_is_too_small_only_if_one_pod_exceeds_all_of_it():
    message = "exceeded quota: q, requested: cpu=500m,memory=8Gi, used: cpu=1,memory=1Gi, limited: cpu=1,memory=4Gi"
    assert quota_too_small(message) == "one pod requests 8Gi of memory, and the quota is 4Gi"
    assert quota_too_small(message.replace("memory=8Gi", "memory=2Gi")) == ""


def test_a_mistake_is_told_before_lacking_room_and_leaving_pods_are_passed_over():
    pods = [unscheduled(NO_GPUS), waiting("InvalidImageName", "no image")]
    assert find_obstacle([], pods).reason == "InvalidImageName"
    assert find_obstacle([], [pods[0] | {"metadata": pod(leaving=True)["metadata"]}]) is None
    assert find_obstacle([], [unscheduled("waiting for a gate", "SchedulingGated")]) is None
    assert find_obstacle([{"conditions": None}, {}], [{"metadata": {}, "status": None}]) is None
