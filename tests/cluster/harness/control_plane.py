"""Starts etcd, the API server, the controller manager and the scheduler."""

import ssl
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.harness.addresses import Addresses
from tests.cluster.harness.context import ClusterContext
from tests.cluster.harness.machine import Daemon
from tests.cluster.harness.pki import Authority, Pair
from tests.cluster.harness.processes import tail, wait_for

_ETCD = "http://127.0.0.1:2379"
_PORT = 6443


@dataclass(frozen=True)
class ControlPlane:
    """The running control plane: the URL of the API server, and the daemons."""

    server: str
    daemons: tuple[Daemon, ...]


def start(context: ClusterContext, authority: Authority) -> ControlPlane:
    """Starts all four, waits for the API server (4 s) and writes the admin kubeconfig."""
    paths, addresses = context.paths, context.addresses
    api_address = addresses.node(0)
    server = f"https://{api_address}:{_PORT}"
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
    serving = authority.issue(
        "apiserver", "kube-apiserver", hosts=(*names, "127.0.0.1", addresses.api_service, api_address)
    )
    admin = authority.issue("admin", "admin", group="system:masters")
    tokens = authority.service_account_keys()
    authority.kubeconfig(paths.kubeconfig, server, admin, "admin")

    etcd = context.start(
        "etcd",
        f"--data-dir={paths.root / 'etcd'}",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",  # nothing in it has to survive a crash
    )
    api = context.start("kube-apiserver", *_api_server_flags(addresses, authority, serving, admin, tokens))
    wait_for(lambda: _ready(server, authority.pair.certificate, admin) or not api.alive, 60, "the API server",
             why=lambda: tail(api.log) + tail(etcd.log))  # fmt: skip
    api.check_alive()
    managers = context.start(
        "kube-controller-manager",
        f"--kubeconfig={paths.kubeconfig}",
        f"--service-account-private-key-file={tokens.key}",
        f"--root-ca-file={authority.pair.certificate}",
        f"--cluster-signing-cert-file={authority.pair.certificate}",
        f"--cluster-signing-key-file={authority.pair.key}",
        "--use-service-account-credentials",
        "--leader-elect=false",
        # a lost node is reported after 20 s instead of 50 s, to keep the fault tests short
        "--node-monitor-grace-period=20s",
    )
    scheduler = context.start("kube-scheduler", f"--kubeconfig={paths.kubeconfig}", "--leader-elect=false")
    return ControlPlane(server, (etcd, api, managers, scheduler))


def _api_server_flags(
    addresses: Addresses, authority: Authority, serving: Pair, admin: Pair, tokens: Pair
) -> list[str]:
    return [
        f"--etcd-servers={_ETCD}",
        "--bind-address=0.0.0.0",
        f"--secure-port={_PORT}",
        f"--advertise-address={addresses.node(0)}",
        f"--service-cluster-ip-range={addresses.services}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--client-ca-file={authority.pair.certificate}",
        f"--kubelet-client-certificate={admin.certificate}",
        f"--kubelet-client-key={admin.key}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-key-file={tokens.certificate}",
        f"--service-account-signing-key-file={tokens.key}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged",
    ]


def _ready(server: str, authority: Path, admin: Pair) -> bool:
    context = ssl.create_default_context(cafile=str(authority))
    context.load_cert_chain(admin.certificate, admin.key)
    try:
        with urllib.request.urlopen(f"{server}/readyz", timeout=5, context=context) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
