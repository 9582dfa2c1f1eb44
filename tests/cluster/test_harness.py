"""The test cluster itself starts completely, and leaves no trace however it ends."""

import os
import shutil
from pathlib import Path

import pytest
from kubernetes import client

from tests.cluster.harness import cluster as harness
from tests.cluster.harness.paths import ClusterPaths, cache_folder
from tests.cluster.harness.processes import end, run

pytestmark = pytest.mark.slow

NAME = "probe"


def _state_of_this_machine() -> dict[str, object]:
    """Returns everything that a cluster could leave behind."""
    root = str(ClusterPaths(NAME).root)
    commands = {
        path.parent.name: path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.parent.exists()
    }
    return {
        "processes": sorted(pid for pid, line in commands.items() if root.encode() in line),
        "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if root in line],
        "interfaces": sorted(line.split()[0] for line in run("ip", "-brief", "link").splitlines()),
        "routes": sorted(run("ip", "route").splitlines()),
        "filters": run("nft", "list", "ruleset"),
        "groups": sorted(str(path) for path in Path("/sys/fs/cgroup").glob(f"**/raytrain-{NAME}")),
        "folder": ClusterPaths(NAME).root.exists(),
        "sockets": sorted(str(path) for path in Path("/run").glob("containerd*")),
    }


@pytest.fixture
def before():
    if os.geteuid():
        pytest.skip("a cluster needs root")
    yield _state_of_this_machine()
    harness.down(NAME, print)
    for folder in (cache_folder() / "containerd").glob(f"{NAME}-*"):
        shutil.rmtree(folder)


def test_two_nodes_with_fake_gpus_start_and_leave_no_trace(before):
    cluster = harness.up(NAME, print, nodes=2, gpus=1)
    with cluster.api() as api:
        nodes = client.CoreV1Api(api).list_node().items
        assert sorted(node.metadata.name for node in nodes) == ["node0", "node1"]
        assert [node.status.allocatable["nvidia.com/gpu"] for node in nodes] == ["1", "1"]
    found = harness.find(NAME)
    assert found is not None
    assert found.machine == cluster.machine
    assert _state_of_this_machine() != before
    harness.down(NAME, print)
    assert _state_of_this_machine() == before


def test_a_killed_cluster_is_replaced(before):
    killed = harness.up(NAME, print)
    end(killed.machine.pid, seconds=120)  # a moment long it still answers, and would be taken for a running one
    cluster = harness.up(NAME, print)
    assert cluster.machine != killed.machine
    assert cluster.machine.alive
    harness.down(NAME, print)
    assert _state_of_this_machine() == before
