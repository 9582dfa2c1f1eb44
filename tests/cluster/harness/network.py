"""Sets up the link between host and cluster, the pods' bridge, kube-proxy and DNS."""

import json
from pathlib import Path

from tests.cluster.harness.addresses import Addresses
from tests.cluster.harness.context import ClusterContext
from tests.cluster.harness.machine import Daemon, Machine
from tests.cluster.harness.paths import ClusterPaths
from tests.cluster.harness.processes import run

BRIDGE = "pods"
_CNI_PLUGINS = "/usr/lib/cni"
_UPLINK = "uplink"


def connect(machine: Machine, addresses: Addresses, nodes: int) -> None:
    """Creates a veth pair from host to cluster, routes into the cluster, and the pods' bridge."""
    run("ip", "link", "add", addresses.link, "type", "veth", "peer", "name", _UPLINK, "netns", str(machine.pid))
    run("ip", "address", "add", f"{addresses.host}/24", "dev", addresses.link)
    run("ip", "link", "set", addresses.link, "up")
    for index in range(nodes):
        machine.run("ip", "address", "add", f"{addresses.node(index)}/24", "dev", _UPLINK)
    machine.run("ip", "link", "set", _UPLINK, "up")
    machine.run("ip", "route", "add", "default", "via", addresses.host)
    machine.run("ip", "link", "add", BRIDGE, "type", "bridge")
    machine.run("ip", "address", "add", f"{addresses.bridge}/17", "dev", BRIDGE)
    machine.run("ip", "link", "set", BRIDGE, "up")
    for network in (addresses.pods, addresses.services):
        run("ip", "route", "add", network, "via", addresses.node(0), "dev", addresses.link)


def write_cni(paths: ClusterPaths, addresses: Addresses) -> tuple[Path, str]:
    """Writes the CNI configuration of all nodes; returns its folder and that of the plugins."""
    folder = paths.root / "cni"
    folder.mkdir(exist_ok=True)
    ranges = [[{"subnet": addresses.pods, "gateway": addresses.bridge}]]
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]},
    }
    (folder / "10-bridge.conflist").write_text(
        json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, {"type": "loopback"}]})
    )
    return folder, _CNI_PLUGINS


def start_proxy(context: ClusterContext) -> Daemon:
    """Starts kube-proxy; one serves all nodes, as they share a network namespace."""
    config = context.paths.root / "kube-proxy.json"
    config.write_text(
        json.dumps(
            {
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
                "mode": "nftables",
                # pods on one bridge would reply to each other directly, bypassing the translation,
                # if the sender were not masqueraded
                "nftables": {"masqueradeAll": True},
                "clusterCIDR": context.addresses.pods,
                "clientConnection": {"kubeconfig": str(context.paths.kubeconfig)},
                "hostnameOverride": "node0",
                "conntrack": {"maxPerCore": 0},
            }
        )
    )
    return context.start("kube-proxy", f"--config={config}")


def start_dns(context: ClusterContext) -> Daemon:
    """Starts CoreDNS on the bridge; it resolves only services and pods."""
    corefile = context.paths.root / "Corefile"
    corefile.write_text(
        f".:53 {{\n  bind {context.addresses.bridge}\n  errors\n"
        f"  kubernetes cluster.local in-addr.arpa {{\n"
        f"    kubeconfig {context.paths.kubeconfig}\n    pods insecure\n  }}\n}}\n"
    )
    return context.start("dns", "-conf", corefile)
