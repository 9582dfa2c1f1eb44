"""A job whose pods could never start is refused before anything is uploaded."""

import pytest

from raytrain.cluster import jobs
from raytrain.cluster.fit import check_fit
from raytrain.config.job import FineTuneJob
from raytrain.kubernetes.client import ApiError
from raytrain.operator.capacity import NODES, QUOTAS
from raytrain_core.errors import ClusterError, ExitCode
from tests.support.finetunejob_objects import finetunejob


def node(cpu="16", memory="64Gi", gpus="4", **labels):
    allocatable = {"cpu": cpu, "memory": memory, "nvidia.com/gpu": gpus}
    return {"metadata": {"labels": labels}, "status": {"allocatable": allocatable}}


def quota(**hard):
    return {
        "metadata": {"name": "team"},
        "spec": {"hard": {name.replace("_", "."): value for name, value in hard.items()}},
    }


class Cluster:
    """The API server, as far as the check asks it."""

    def __init__(self, nodes, quotas=(), *, karpenter=False, status=None):
        self.found = {NODES: nodes, QUOTAS: list(quotas)}
        self.karpenter, self.status = karpenter, status

    def list(self, kind, namespace):
        if self.found[kind] is None:
            raise ApiError(403, "Forbidden", "no")
        return self.found[kind]

    def serves(self, kind):
        return self.karpenter

    def get(self, kind, namespace, name):
        if self.status == "forbidden":
            raise ApiError(403, "Forbidden", "no")
        return self.status


def check(api, gpus=1, **spec):
    resources = {"training": {"workers": 2, "gpus": gpus, "cpus": 4, "memory": "24Gi"}, "evaluation": {"cpus": 2}}
    body = finetunejob(resources=resources, **spec)
    job = FineTuneJob.model_validate(
        {key: body[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": "a"}}
    )
    said = []
    check_fit(job, api, "team", said.append)
    return said


def test_eight_gpus_where_no_node_has_them_are_refused():
    assert check(Cluster([node()])) == []
    with pytest.raises(
        ClusterError, match=r"requests nvidia.com/gpu 8, and the largest node offers nvidia.com/gpu 4"
    ) as error:
        check(Cluster([node(), node(gpus="2")]), gpus=8)
    assert error.value.exit_code == ExitCode.CLUSTER
    assert "spec.resources" in error.value.hint


@pytest.mark.parametrize("options", [{"karpenter": True}, {"status": {"data": {}}}, {"status": "forbidden"}])
def test_where_nodes_are_or_may_be_added_on_demand_it_is_only_mentioned(options):
    (said,) = check(Cluster([node(gpus="0")], **options), gpus=8)
    assert "only if an autoscaler adds one" in said


def test_one_node_has_to_offer_everything_a_pod_requests():
    with pytest.raises(ClusterError, match="a pod requests"):
        check(Cluster([node(gpus="0"), node(memory="8Gi")]))


def test_a_node_selector_that_no_node_has_is_refused():
    with pytest.raises(ClusterError, match="no node has the labels pool a100"):
        check(Cluster([node()]), cluster={"nodeSelector": {"pool": "a100"}})
    assert check(Cluster([node(pool="a100")]), cluster={"nodeSelector": {"pool": "a100"}}) == []


def test_a_quota_smaller_than_the_run_is_refused_even_where_nodes_are_added():
    with pytest.raises(ClusterError, match=r"at least 2 of nvidia.com/gpu, and the quota team is 1"):
        check(Cluster([node()], [quota(**{"requests_nvidia.com/gpu": "1"})], karpenter=True))
    assert check(Cluster([node()], [quota(**{"requests_nvidia.com/gpu": "2"}, pods="20")])) == []


def test_what_a_pod_template_requests_counts():
    container = {"name": "ray", "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}}}
    small = {"podTemplate": {"spec": {"containers": [container]}}}
    tight = [quota(requests_memory="4Gi")]
    assert check(Cluster([node(cpu="2", memory="3Gi")], tight), cluster=small) == []
    with pytest.raises(ClusterError, match=r"at least 68.5Gi of memory, and the quota team is 4Gi"):
        check(Cluster([node()], tight))


def test_what_may_not_be_read_is_not_checked_and_that_is_said():
    assert check(Cluster(None, karpenter=False), gpus=8) == [
        "not checked whether the pods could start: you may not list nodes"
    ]


def test_submit_refuses_before_it_uploads(monkeypatch, tmp_path):
    monkeypatch.setattr(jobs, "open_store", lambda location: pytest.fail("uploads"))
    body = finetunejob()
    job = FineTuneJob.model_validate(body | {"metadata": {"name": "a"}})
    with pytest.raises(ClusterError, match=r"nvidia\.com/gpu"):
        jobs.submit(job, api=Cluster([node(gpus="0")]), namespace="team", storage=None, base_folder=tmp_path, say=print)


def test_a_gpu_that_no_node_offers_is_named_beside_those_that_are():
    resources = {"training": {"gpus": 1, "cpus": 2, "resourceName": "nvidia.com/mig-1g.10gb"}}
    job = FineTuneJob.model_validate(
        {key: finetunejob(resources=resources)[key] for key in ("apiVersion", "kind", "spec")}
        | {"metadata": {"name": "a"}}
    )
    expected = r"no node offers nvidia.com/mig-1g.10gb .*resourceName\); nodes offer nvidia.com/gpu 4"
    with pytest.raises(ClusterError, match=expected):
        check_fit(job, Cluster([node()]), "team", print)
