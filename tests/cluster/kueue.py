"""Runs a real Kueue for the time of a test: its CRDs, its webhooks, its manager as a process."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.harness import binaries
from tests.cluster.harness.console import timed_echo
from tests.cluster.harness.pki import Authority
from tests.cluster.harness.processes import wait_for

_GROUPS = {"ray.io", "kueue.x-k8s.io"}
"""API groups whose objects the webhooks see; the other groups are not installed."""


@contextmanager
def kueue(target: Any, folder: Path) -> Iterator[None]:
    """Installs Kueue, waits until it is ready, and removes it completely at the end."""
    program = binaries.ensure_built(binaries.KUEUE, timed_echo())["kueue"]
    manifests = binaries.KUEUE.folder / binaries.MANIFESTS
    authority = Authority(folder / "pki")
    port, health = _free_port(target.host), _free_port("127.0.0.1")
    client = {"caBundle": base64.b64encode(authority.pair.certificate.read_bytes()).decode()}
    etc = _etc(folder, authority, target.host)
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kueue-system"}},
        # Only stored versions are used, so no conversion webhook is needed.
        *(yaml.safe_load(path.read_text()) for path in sorted((manifests / "crd/bases").glob("*.yaml"))),
        *_webhooks(manifests / "webhook/manifests.yaml", f"https://{target.host}:{port}", client),
    ]
    config = folder / "kueue.yaml"
    config.write_text(yaml.safe_dump(_configuration(port, health)))
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    # The paths of its certificates are fixed, so it gets its own /etc.
    command = f"mount --bind {etc} /etc && exec {program} --config={config} --feature-gates=VisibilityOnDemand=false"
    with ExitStack() as stack, (folder / "kueue.log").open("wb") as log:
        target.kubectl("apply", "--server-side", "-f", "-", input_text=text)
        stack.callback(target.kubectl, "delete", "--ignore-not-found", "--timeout=60s", "-f", "-", input_text=text)
        names = [f"crd/{o['metadata']['name']}" for o in objects if o["kind"] == "CustomResourceDefinition"]
        target.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", command],
            stdout=log,
            stderr=log,
            env=os.environ | {"KUBECONFIG": str(target.kubeconfig)},
        )
        stack.callback(process.wait, 30)
        stack.callback(process.send_signal, signal.SIGTERM)

        def ready() -> bool:
            assert process.poll() is None, (folder / "kueue.log").read_text()[-3000:]
            with socket.socket() as probe:
                return probe.connect_ex((target.host, port)) == 0

        wait_for(ready, 60, "Kueue", why=(folder / "kueue.log").read_text)
        yield


def _configuration(port: int, health: int) -> dict[str, Any]:
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "health": {"healthProbeBindAddress": f"127.0.0.1:{health}"},
        "metrics": {"bindAddress": "0"},
        "webhook": {"port": port, "certDir": "/etc/kueue/metrics/certs"},
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
        "integrations": {"frameworks": ["ray.io/rayjob"]},
    }


def _etc(folder: Path, authority: Authority, host: str) -> Path:
    """Returns a copy of /etc that contains the manager's certificates."""
    etc = folder / "etc"
    shutil.copytree("/etc", etc, symlinks=True)
    certificates = etc / "kueue/metrics/certs"
    certificates.mkdir(parents=True)
    pair = authority.issue("kueue", "kueue", hosts=(host,))
    shutil.copyfile(pair.certificate, certificates / "tls.crt")
    shutil.copyfile(pair.key, certificates / "tls.key")
    return etc


def _webhooks(path: Path, url: str, client: dict[str, str]) -> Iterator[dict[str, Any]]:
    for configuration in yaml.safe_load_all(path.read_text()):
        kept = [hook for hook in configuration["webhooks"] if _groups(hook) <= _GROUPS]
        for hook in kept:
            hook["clientConfig"] = {"url": url + hook["clientConfig"]["service"]["path"], **client}
        name = f"kueue-{configuration['metadata']['name']}"
        yield configuration | {"metadata": {"name": name}, "webhooks": kept}


def _groups(hook: dict[str, Any]) -> set[str]:
    return {group for rule in hook["rules"] for group in rule["apiGroups"]}


def _free_port(host: str) -> int:
    with socket.socket() as free:
        free.bind((host, 0))
        port: int = free.getsockname()[1]
        return port
