"""A sweep as FineTuneJobs: labels, owner, limit, and going on from the state of the cluster."""

import copy

import pytest

from raytrain.cluster import jobs
from raytrain.kubernetes.client import JOBS
from raytrain.sweeps import cluster_runs, in_cluster
from raytrain.sweeps.state import open_state
from raytrain_core.errors import UsageError
from raytrain_core.storage import open_store
from tests.support.sweep_runs import score_run, tiny_sweep

SPEC = "  maxConcurrent: 2\n  parameters:\n    training.anchor: {values: [1, 2, 3]}"
STORAGE = "s3://bucket/prefix"


class Killed(BaseException):
    """Ends the sweep as a kill would."""


class Cluster:
    """An API server with an operator: a job runs for some lists of the objects, and then ends."""

    def __init__(self, storage, *, lists=3, ends=None):
        self.storage, self.lists, self.ends = storage, lists, ends or {}
        self.objects, self.seen, self.most, self.left = {}, {}, 0, None
        self.lose, self.applied = None, []

    def create(self, body, *, manager):
        key = body["kind"], body["metadata"]["name"]
        if key in self.objects:
            return None
        self.objects[key] = copy.deepcopy(body) | {"metadata": body["metadata"] | {"uid": f"uid-{len(self.objects)}"}}
        return self.objects[key]

    def get(self, kind, namespace, name):
        return self.objects.get((kind[1], name))

    def apply(self, body, *, manager):
        if self.left is not None and self.left == 0:
            raise Killed
        self.left = None if self.left is None else self.left - 1
        self.objects[body["kind"], body["metadata"]["name"]] = copy.deepcopy(body)
        self.applied.append(body["metadata"]["name"])
        return body

    def patch(self, kind, namespace, name, body, *, manager):
        self.objects[kind[1], name]["status"] = {"phase": "Cancelled", "message": "on request"}
        return {}

    def list(self, kind, namespace, selector=""):
        if kind != JOBS:  # nodes and the like, for the estimate of what a job will take
            return []
        if ("FineTuneJob", self.lose) in self.objects and self.seen:
            del self.objects["FineTuneJob", self.lose]
            self.lose = None
        label, _, value = selector.partition("=")
        found = [
            body
            for (word, _), body in self.objects.items()
            if word == "FineTuneJob" and body["metadata"].get("labels", {}).get(label) == value
        ]
        running = [body for body in found if body.get("status", {}).get("phase") in (None, "Training")]
        self.most = max(self.most, len(running))
        for body in running:
            self._advance(body)
        return copy.deepcopy(found)

    def _advance(self, body):
        name = body["metadata"]["name"]
        self.seen[name] = self.seen.get(name, 0) + 1
        body["status"] = {"phase": "Training", "storage": self.storage}
        if self.seen[name] >= self.lists:
            body["status"] |= self.ends.get(name) or {"phase": "Complete"}
            if body["status"]["phase"] == "Complete":
                right = [1] * 10 + [0] * 10
                score_run(open_store(self.storage), name, dict.fromkeys(("echo", "stars", "first"), (right, right)))


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return tiny_sweep(tmp_path_factory.mktemp("sweep"), SPEC)


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """The bucket, as a folder; nothing is uploaded and no node is looked at."""
    monkeypatch.setattr(in_cluster, "sweep_store", lambda plan, namespace, storage: open_store(str(tmp_path)))
    monkeypatch.setattr(cluster_runs, "_FRESH_SECONDS", -1.0)
    monkeypatch.setattr(jobs, "open_store", lambda location: None)
    monkeypatch.setattr(jobs, "upload_sources", lambda job, base_folder, store, say: job)
    monkeypatch.setattr(jobs, "check_fit", lambda job, api, namespace, say: None)
    monkeypatch.setattr(jobs, "stores_of", lambda location, namespace: [])  # of earlier runs, for the estimate
    return str(tmp_path)


def run(plan, cluster):
    lines = []
    board = in_cluster.run_in_cluster(plan, cluster, "team", storage=STORAGE, say=lines.append, poll_seconds=0)
    return board, lines


def jobs_of(cluster):
    return {name: body for (kind, name), body in cluster.objects.items() if kind == "FineTuneJob"}


def test_every_run_is_a_job_with_label_and_owner_and_never_more_than_the_most_at_once(plan, stored):
    cluster = Cluster(stored)
    board, _ = run(plan, cluster)
    assert sorted(jobs_of(cluster)) == ["guards-0", "guards-1", "guards-2", "guards-3"]
    assert cluster.most == 2
    owner = cluster.objects["ConfigMap", "sweep-guards"]
    assert "training.anchor" in owner["data"]["sweep.yaml"]
    for body in jobs_of(cluster).values():
        assert body["metadata"]["namespace"] == "team"
        assert body["metadata"]["labels"] == {"raytrain.dev/sweep": "guards"}
        assert body["metadata"]["ownerReferences"] == [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "sweep-guards", "uid": owner["metadata"]["uid"]}
        ]
        assert body["spec"]["storage"]["uri"] == STORAGE
    assert jobs_of(cluster)["guards-2"]["spec"]["training"]["anchor"] == 2
    assert len(board.ranked) == 4


def test_a_killed_sweep_goes_on_from_the_state_of_the_cluster(plan, stored):
    cluster = Cluster(stored)
    cluster.left = 2
    with pytest.raises(Killed):
        run(plan, cluster)
    assert len(jobs_of(cluster)) == 2
    cluster.left = 2
    board, _ = run(plan, cluster)
    assert len(jobs_of(cluster)) == 4, "nothing was submitted twice"
    assert len(board.ranked) == 4


def test_a_failed_job_is_a_line_of_the_leaderboard(plan, stored):
    ends = {"guards-1": {"phase": "Failed", "message": "the loss is not a number"}, "guards-3": {"phase": "Rejected"}}
    board, lines = run(plan, Cluster(stored, ends=ends))
    assert {line.number: line.problem for line in board.lines if line.problem} == {
        1: "Failed: the loss is not a number",
        3: "Rejected",
    }
    assert any("guards-1: failed" in line for line in lines)


def test_a_job_of_somebody_else_is_never_touched(plan, stored):
    cluster = Cluster(stored)
    theirs = {"kind": "FineTuneJob", "metadata": {"name": "guards-1", "namespace": "team"}, "spec": {"theirs": True}}
    cluster.objects["FineTuneJob", "guards-1"] = copy.deepcopy(theirs)
    run(plan, cluster)
    assert cluster.objects["FineTuneJob", "guards-1"] == theirs
    reason = open_state(open_store(stored), plan).run("guards-1").reason
    assert reason == "there is a FineTuneJob guards-1 in namespace team that is not of this sweep"


def test_a_job_that_was_deleted_by_hand_is_submitted_again(plan, stored):
    cluster = Cluster(stored)
    cluster.lose = "guards-0"
    run(plan, cluster)
    assert cluster.applied.count("guards-0") == 2
    assert set(jobs_of(cluster)) == {"guards-0", "guards-1", "guards-2", "guards-3"}


def test_the_leaderboard_finds_runs_whose_jobs_were_deleted_where_the_operator_had_put_them(plan, stored):
    cluster = Cluster(f"{stored}/a-named-cluster")
    board, _ = run(plan, cluster)
    for name in jobs_of(cluster):
        del cluster.objects["FineTuneJob", name]
    again = in_cluster.leaderboard_in_cluster(plan, cluster, "team", storage=STORAGE, say=print)
    assert again.lines == board.lines
    assert not any(line.problem for line in again.lines)


def test_storage_on_this_machine_is_refused(plan):
    with pytest.raises(UsageError, match="where pods cannot reach it"):
        in_cluster.sweep_store(plan, "team", "./here")


@pytest.mark.parametrize("bucket", ["gs://bucket/prefix", "az://container/prefix"])
def test_other_clouds_hold_it_too(plan, monkeypatch, bucket):
    monkeypatch.setattr(in_cluster, "open_store", lambda location: location)
    assert in_cluster.sweep_store(plan, "team", bucket).uri == f"{bucket}/team"


def test_the_sweep_is_kept_with_the_runs_of_its_namespace(plan, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    assert in_cluster.sweep_store(plan, "team", "s3://bucket/prefix/").uri == "s3://bucket/prefix/team"
