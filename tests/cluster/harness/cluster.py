"""Starts a cluster, finds a running one by its record, and removes it without a trace."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.cluster.harness import binaries, control_plane, image, kuberay, network, node, preflight
from tests.cluster.harness.addresses import Addresses, free_addresses
from tests.cluster.harness.console import Echo
from tests.cluster.harness.context import ClusterContext
from tests.cluster.harness.machine import Daemon, Machine
from tests.cluster.harness.paths import ClusterPaths
from tests.cluster.harness.pki import Authority
from tests.cluster.harness.processes import run, wait_for

GPU = "nvidia.com/gpu"


@dataclass(frozen=True)
class Cluster:
    """A running cluster."""

    paths: ClusterPaths
    machine: Machine
    addresses: Addresses
    nodes: int
    daemons: dict[str, Daemon]

    @property
    def kubeconfig(self) -> Path:
        return self.paths.kubeconfig

    @property
    def host_address(self) -> str:
        """Address of this machine as seen from pods; servers for tests listen there."""
        return self.addresses.host

    def api(self) -> Any:
        """Returns an API client of the kubernetes package with the administrator's rights."""
        from kubernetes import config

        return config.new_client_from_config(str(self.kubeconfig))  # type: ignore[no-untyped-call]

    def socket(self, index: int = 0) -> Path:
        """Returns the containerd socket of a node."""
        return node.NodeFiles(self.paths, index).socket

    def processes_of_pods(self, index: int) -> set[int]:
        """Returns the ids of all processes in the pods of a node."""
        return node.processes(node.NodeFiles(self.paths, index))

    def publish(self, target: str, echo: Echo) -> str:
        """Puts a target of the project's Dockerfile on every node; returns the image reference."""
        return image.publish(self._stores, target, echo)

    def publish_program(self, name: str, program: Path, echo: Echo) -> str:
        """Puts an image of one Python program on every node; returns its reference."""
        return image.publish_program(self._stores, name, program, echo)

    @property
    def _stores(self) -> list[image.Store]:
        return [image.Store(self.machine, self.socket(i)) for i in range(self.nodes)]


def up(name: str, echo: Echo, *, nodes: int = 1, gpus: int = 0, install: bool = False) -> Cluster:
    """Returns the running cluster of this name, or starts one with `gpus` fake GPUs on each node.

    A failed start is removed again; its logs are kept.
    """
    if (running := find(name)) is not None:
        echo(f"cluster {name} is running: export KUBECONFIG={running.kubeconfig}")
        return running
    preflight.check(nodes, echo, install=install)
    down(name, lambda _: None)  # leftovers of a killed cluster
    programs = binaries.build(echo)
    paths = ClusterPaths(name)
    paths.logs.mkdir(parents=True)
    try:
        return _start(paths, programs, echo, nodes=nodes, gpus=gpus)
    except BaseException:
        failed = paths.root.with_name(f"{name}-failed")
        shutil.rmtree(failed, ignore_errors=True)
        shutil.copytree(paths.logs, failed, ignore_dangling_symlinks=True)
        echo(f"the cluster did not start; its logs are in {failed}")
        down(name, lambda _: None)
        raise


def _start(paths: ClusterPaths, programs: binaries.Programs, echo: Echo, *, nodes: int, gpus: int) -> Cluster:
    machine = Machine.begin(paths, programs["pause"])
    addresses = free_addresses()
    _write_record(paths, machine, addresses, nodes, {})
    context = ClusterContext(machine, programs, paths, addresses)
    network.connect(machine, addresses, nodes)
    echo("control plane: etcd, API server, controller manager, scheduler")
    authority = Authority(paths.pki)
    plane = control_plane.start(context, authority)
    daemons = {daemon.name: daemon for daemon in plane.daemons}
    cni = network.write_cni(paths, addresses)
    for index in range(nodes):
        files = node.NodeFiles(paths, index)
        echo(f"{files.name}: containerd, kubelet")
        daemons[f"{files.name}-containerd"] = node.start_containerd(context, files, cni)
        image.put_pause([image.Store(machine, files.socket)], programs["pause"])
        daemons[f"{files.name}-kubelet"] = node.start_kubelet(context, files, authority, plane.server, index)
    daemons["kube-proxy"] = network.start_proxy(context)
    daemons["dns"] = network.start_dns(context)
    cluster = Cluster(paths, machine, addresses, nodes, daemons)
    with cluster.api() as api:
        kuberay.install_crds(api, programs.crds)
        daemons["kuberay-operator"] = kuberay.start_operator(context)
        _wait_for_nodes(api, nodes, daemons)
        for index in range(nodes if gpus else 0):
            fake_gpus(api, f"node{index}", gpus)
    for daemon in daemons.values():
        daemon.check_alive()
    _write_record(paths, machine, addresses, nodes, daemons)
    echo(f"ready: {nodes} node{'s' if nodes > 1 else ''}, Kubernetes {binaries.KUBERNETES}, KubeRay {binaries.KUBERAY}")
    return cluster


def find(name: str) -> Cluster | None:
    """Returns the running cluster of this name, or None."""
    paths = ClusterPaths(name)
    try:
        record = json.loads(paths.record.read_text())
    except OSError:
        return None
    machine = Machine(**record["machine"])
    daemons = {key: Daemon(**{**value, "log": Path(value["log"])}) for key, value in record["daemons"].items()}
    if not machine.alive or "kuberay-operator" not in daemons:
        return None
    addresses = Addresses(record["number"])
    return Cluster(paths, machine, addresses, record["nodes"], daemons)


def down(name: str, echo: Echo) -> None:
    """Stops a cluster and removes its folder; caches stay."""
    paths = ClusterPaths(name)
    if not paths.root.exists():
        echo(f"there is no cluster {name}")
        return
    try:
        record = json.loads(paths.record.read_text())
        Machine(**record["machine"]).end()
        link = Addresses(record["number"]).link
        # the kernel removes it shortly after the namespace
        wait_for(lambda: link not in run("ip", "-brief", "link"), 60, f"the interface {link} to vanish")
    except FileNotFoundError:
        pass
    wait_for(lambda: _cgroups_removed(paths), 30, "the control groups to be empty")
    shutil.rmtree(paths.root)
    if not any(paths.root.parent.iterdir()):
        paths.root.parent.rmdir()
    echo(f"cluster {name} is removed; built programs and image layers stay cached")


def fake_gpus(api: Any, name: str, count: int) -> None:
    """Makes a node offer GPUs that it does not have, for the scheduler and Ray's autoscaler."""
    from kubernetes import client

    amounts = {part: {GPU: str(count)} for part in ("capacity", "allocatable")}
    client.CoreV1Api(api).patch_node_status(name, {"status": amounts})


def _cgroups_removed(paths: ClusterPaths) -> bool:
    try:
        node.remove_cgroups(paths)
    except OSError:  # a process in the group is still ending
        return False
    return True


def _wait_for_nodes(api: Any, count: int, daemons: dict[str, Daemon]) -> None:
    from kubernetes import client

    core = client.CoreV1Api(api)

    def ready() -> bool:
        for daemon in daemons.values():
            daemon.check_alive()
        statuses = [node.status for node in core.list_node().items]
        conditions = [c for status in statuses if status for c in status.conditions or []]
        return sum(c.type == "Ready" and c.status == "True" for c in conditions) == count

    wait_for(ready, 300, f"{count} nodes to be ready")  # seconds on an idle machine, minutes on a busy one


def _write_record(
    paths: ClusterPaths, machine: Machine, addresses: Addresses, nodes: int, daemons: dict[str, Daemon]
) -> None:
    record = {
        "machine": asdict(machine),
        "number": addresses.number,
        "nodes": nodes,
        "daemons": {key: {**asdict(daemon), "log": str(daemon.log)} for key, daemon in daemons.items()},
    }
    scratch = paths.record.with_suffix(".new")
    scratch.write_text(json.dumps(record, indent=1))
    scratch.replace(paths.record)
