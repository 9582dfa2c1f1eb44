"""A real Kubernetes API server with etcd, without controllers, kubelets or root; starts in 5 s.

`make cluster` builds and caches its programs; ToolsUnavailableError is raised without them.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.support.kubernetes_tools import ToolsUnavailableError, cache_folder, kubernetes_tools

_START_SECONDS = 90

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class ApiServer:
    """A running API server; its folder contains the kubeconfigs of its users."""

    folder: Path

    def kubeconfig(self, user: str = "admin") -> Path:
        return self.folder / f"{user}.kubeconfig"

    def kubectl(self, *arguments: str, text: str | None = None, user: str | None = None, check: bool = True) -> Done:
        """Runs the real kubectl, impersonating `user` if given; returns the finished process."""
        command = [str(kubernetes_tools().kubectl), f"--kubeconfig={self.kubeconfig()}", *arguments]
        if user:
            command += [f"--as={user}"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done

    def apply(self, *objects: dict[str, Any], check: bool = True) -> Done:
        """Applies objects server-side, with strict validation."""
        text = "\n---\n".join(json.dumps(each) for each in objects)
        return self.kubectl("apply", "--server-side", "--validate=strict", "-f", "-", text=text, check=check)

    def get(self, *arguments: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)
        return content

    def until_served(self, path: str) -> None:
        """Waits until an API path is served, which a new definition is after a moment."""
        deadline = time.monotonic() + _START_SECONDS
        while self.kubectl("get", "--raw", path, check=False).returncode:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{path} is not served")
            time.sleep(0.2)


def _program(name: str) -> Path:
    folders = sorted(
        (cache_folder().parent / "cluster" / "programs").glob(f"*/{name}"), key=lambda p: p.stat().st_mtime
    )
    if not folders:
        raise ToolsUnavailableError(f"{name} was never built here (`make cluster` does)")
    return folders[-1]


@contextmanager
def api_server(folder: Path, users: Sequence[str] = ()) -> Iterator[ApiServer]:
    """Runs a server with its files in `folder`; `users` can log in but have no rights yet."""
    etcd, kube = _program("etcd"), _program("kube-apiserver")
    key, public = folder / "accounts.key", folder / "accounts.pub"
    _openssl("genrsa", "-out", str(key), "2048")
    _openssl("rsa", "-in", str(key), "-pubout", "-out", str(public))
    token = secrets.token_urlsafe(24)
    lines = [f'{token},admin,1,"system:masters"', *(f"{token}-{name},{name},{name}" for name in users)]
    (folder / "tokens.csv").write_text("\n".join(lines) + "\n")
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        for each in (one, two, three):
            each.bind(("127.0.0.1", 0))
        clients, peers, port = (each.getsockname()[1] for each in (one, two, three))
    url = f"https://127.0.0.1:{port}"
    for name, secret in [("admin", token), *((name, f"{token}-{name}") for name in users)]:
        (folder / f"{name}.kubeconfig").write_text(json.dumps(_kubeconfig(url, secret, folder / "apiserver.crt")))
    with ExitStack() as stack:
        stack.enter_context(
            _process(
                folder / "etcd.log",
                [
                    str(etcd), f"--data-dir={folder / 'etcd'}", "--unsafe-no-fsync", "--log-level=error",
                    f"--listen-client-urls=http://127.0.0.1:{clients}",
                    f"--advertise-client-urls=http://127.0.0.1:{clients}",
                    f"--listen-peer-urls=http://127.0.0.1:{peers}",
                ],
            )
        )  # fmt: skip
        server = stack.enter_context(
            _process(
                folder / "api-server.log",
                [
                    str(kube), f"--etcd-servers=http://127.0.0.1:{clients}", f"--secure-port={port}",
                    "--bind-address=127.0.0.1", f"--cert-dir={folder}", "--service-cluster-ip-range=10.96.0.0/16",
                    f"--token-auth-file={folder / 'tokens.csv'}", "--authorization-mode=RBAC",
                    f"--service-account-key-file={public}", f"--service-account-signing-key-file={key}",
                    "--service-account-issuer=https://kubernetes.default.svc",
                    "--disable-admission-plugins=ServiceAccount",
                ],
            )
        )  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        while not _ready(url, token):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "api-server.log").read_text()[-3000:])
            time.sleep(0.2)
        yield ApiServer(folder)


@contextmanager
def _process(log: Path, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    setpriv = shutil.which("setpriv")
    prefix = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
    with log.open("wb") as output:
        process = subprocess.Popen([*prefix, *command], stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _kubeconfig(url: str, token: str, authority: Path) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": str(authority)}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin", "namespace": "team"}}],
        "current-context": "test",
    }


def _ready(url: str, token: str) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    request = Request(f"{url}/readyz", headers={"Authorization": f"Bearer {token}"})
    try:
        with urlopen(request, timeout=5, context=context) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
