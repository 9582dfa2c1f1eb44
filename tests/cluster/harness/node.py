"""Starts a node: its containerd and its kubelet."""

import json
from pathlib import Path

from tests.cluster.harness.context import ClusterContext
from tests.cluster.harness.image import PAUSE
from tests.cluster.harness.machine import Daemon, Machine
from tests.cluster.harness.paths import ClusterPaths, cache_folder
from tests.cluster.harness.pki import Authority
from tests.cluster.harness.processes import tail, wait_for

_CONTROLLERS = Path("/sys/fs/cgroup")


def ctr(socket: Path, *arguments: str | Path) -> list[str | Path]:
    """Returns a `ctr` command for Kubernetes' namespace in one containerd."""
    return ["ctr", "--address", socket, "--namespace", "k8s.io", *arguments]


class NodeFiles:
    """Files and folders of a node; only its image layers outlive the cluster."""

    def __init__(self, paths: ClusterPaths, index: int) -> None:
        self.name = f"node{index}"
        self.folder = paths.root / self.name
        self.socket = self.folder / "containerd.sock"
        self.layers = cache_folder() / "containerd" / f"{paths.name}-{self.name}"
        self.containerd_log = paths.logs / f"{self.name}-containerd.log"
        self.kubelet_log = paths.logs / f"{self.name}-kubelet.log"
        self.cgroup = f"/raytrain-{paths.name}/{self.name}"


def start_containerd(context: ClusterContext, files: NodeFiles, cni: tuple[Path, str]) -> Daemon:
    """Starts containerd with its CRI plugin."""
    files.folder.mkdir()
    files.layers.mkdir(parents=True, exist_ok=True)
    _sweep(context.machine, files)
    config = files.folder / "containerd.toml"
    config.write_text(_containerd_config(files, cni))
    daemon = context.machine.start(["containerd", "--config", config], files.containerd_log)
    _wait_until_ready(context.machine, files, daemon)
    return daemon


def _sweep(machine: Machine, files: NodeFiles) -> None:
    """Removes containers left by a killed cluster; their layers stay."""
    config = files.folder / "sweep.toml"
    config.write_text(_containerd_config(files, None))
    daemon = machine.start(["containerd", "--config", config], files.containerd_log)
    _wait_until_ready(machine, files, daemon)
    left = machine.run(*ctr(files.socket, "containers", "list", "--quiet")).split()
    if left:
        machine.run(*ctr(files.socket, "containers", "delete", *left))
    daemon.end()


def _wait_until_ready(machine: Machine, files: NodeFiles, daemon: Daemon) -> None:
    def answers() -> bool:
        daemon.check_alive()
        return bool(machine.run(*ctr(files.socket, "version"), check=False).count("Version") >= 2)

    wait_for(answers, 60, f"containerd of {files.name}", why=lambda: tail(daemon.log))


def _containerd_config(files: NodeFiles, cni: tuple[Path, str] | None) -> str:
    """Returns containerd's configuration; without the CRI plugin if `cni` is None."""
    head = f"""\
version = 2
root = "{files.layers}"
state = "{files.folder / "containerd"}"
[grpc]
  address = "{files.socket}"
"""
    if cni is None:
        return f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n{head}'
    # restrict_oom_score_adj: needed to start sandboxes without CAP_SYS_RESOURCE
    return (
        head
        + f"""\
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{PAUSE}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{cni[0]}"
    bin_dir = "{cni[1]}"
"""
    )


def start_kubelet(context: ClusterContext, files: NodeFiles, authority: Authority, server: str, index: int) -> Daemon:
    """Starts the kubelet, which registers its node."""
    address = context.addresses.node(index)
    pair = authority.issue(files.name, f"system:node:{files.name}", group="system:nodes", hosts=(files.name, address))
    kubeconfig = authority.kubeconfig(files.folder / "kubeconfig", server, pair, files.name)
    _make_cgroup(files.cgroup)
    root = files.folder / "kubelet"
    config = files.folder / "kubelet.json"
    config.write_text(
        json.dumps(
            {
                "apiVersion": "kubelet.config.k8s.io/v1beta1",
                "kind": "KubeletConfiguration",
                "address": address,
                "healthzBindAddress": address,
                "authentication": {
                    "anonymous": {"enabled": False},
                    "webhook": {"enabled": True},
                    "x509": {"clientCAFile": str(authority.pair.certificate)},
                },
                "authorization": {"mode": "Webhook"},
                "tlsCertFile": str(pair.certificate),
                "tlsPrivateKeyFile": str(pair.key),
                "cgroupDriver": "cgroupfs",
                "cgroupRoot": files.cgroup,
                "failSwapOn": False,
                "failCgroupV1": False,
                "containerRuntimeEndpoint": f"unix://{files.socket}",
                "clusterDNS": [context.addresses.bridge],
                "clusterDomain": "cluster.local",
                "resolvConf": "/etc/resolv.conf",
                "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
                "imageGCHighThresholdPercent": 100,  # keeps the layers for the next cluster
                "podLogsDir": str(files.folder / "pod-logs"),
                "serializeImagePulls": True,
                "shutdownGracePeriod": "0s",
            }
        )
    )
    return context.machine.start(
        [
            context.programs["kubelet"],
            f"--config={config}",
            f"--kubeconfig={kubeconfig}",
            f"--root-dir={root}",
            f"--cert-dir={root / 'pki'}",
            f"--hostname-override={files.name}",
            f"--node-ip={address}",
        ],
        files.kubelet_log,
    )


def _make_cgroup(path: str) -> None:
    """Creates the parent control group of a kubelet's pods, which the kubelet itself does not."""
    for controller in _controllers():
        folder = controller
        for part in path.strip("/").split("/"):
            folder = folder / part
            folder.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group, in which nothing can run
                if (folder / name).exists():
                    (folder / name).write_text((folder.parent / name).read_text())


def processes(files: NodeFiles) -> set[int]:
    """Returns the ids of all processes in the pods of a node."""
    top = _controllers()[0] / files.cgroup.strip("/")
    return {int(pid) for path in top.rglob("cgroup.procs") for pid in path.read_text().split()}


def remove_cgroups(paths: ClusterPaths) -> None:
    """Removes all control groups of a cluster whose processes have ended."""
    for controller in {*_controllers(), _CONTROLLERS / "unified"}:  # runc also creates groups in the unified one
        top = controller / f"raytrain-{paths.name}"
        for folder in sorted(top.rglob("*"), key=lambda p: len(p.parts), reverse=True):
            if folder.is_dir():
                folder.rmdir()
        if top.exists():
            top.rmdir()


def _controllers() -> list[Path]:
    """Returns the mounted hierarchies: one for cgroup v2, one per controller for v1."""
    if (_CONTROLLERS / "cgroup.controllers").exists():
        return [_CONTROLLERS]
    return sorted({path.resolve() for path in _CONTROLLERS.iterdir() if path.is_dir() and path.name != "unified"})
