"""How to reach a cluster: this pod's service account, or a kubeconfig.

The official client weighs 76 MB, nearly all of it classes for objects that are plain dictionaries
here, so the command line does without it. Of the lighter ones, kr8s brings 51 MB, lightkube reads
neither version 1 of exec plugins nor a list of files in KUBECONFIG, and pykube-ng had its last
release in 2023. Read are the fields of kubectl's own configuration
(https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/): several files in KUBECONFIG,
certificates as files or data, tokens, and exec plugins (GKE, EKS, AKS). A user that impersonates
another, or logs in with an auth-provider, is refused.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytrain.kubernetes.exec_plugin import ExecPlugin
from raytrain_core.errors import ClusterError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_KINDS = {"contexts": "context", "clusters": "cluster", "users": "user"}
_IMPERSONATION = ("as", "as-uid", "as-groups", "as-user-extra")
_HINT = "set KUBECONFIG, or try `kubectl get nodes`"


@dataclass(frozen=True, slots=True)
class Access:
    """Where the API server is and how to log in."""

    server: str
    tls: ssl.SSLContext
    authorization: Callable[[], str | None]
    """Value of the header of that name, asked before each request: tokens expire."""
    server_name: str | None = None
    proxy: str | None = None
    in_cluster: bool = False
    renew: Callable[[], None] | None = None
    """Has `authorization` log in again, if a token was refused; None if it cannot."""


def find_access(context: str | None = None, kubeconfig: Path | None = None) -> Access:
    """Returns the access of this pod, else of a kubeconfig's context (by default, the current).

    Raises ClusterError without either, or if the file cannot be used.
    """
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    in_pod = host and context is None and kubeconfig is None and (ACCOUNT / "token").exists()
    try:
        if host and in_pod:
            return _of_service_account(host, os.environ.get("KUBERNETES_SERVICE_PORT", "443"))
        return _of_files([kubeconfig] if kubeconfig is not None else _default_paths(), context)
    except (OSError, ValueError) as error:
        raise _no_cluster(str(error)) from None


def _no_cluster(reason: str) -> ClusterError:
    return ClusterError(f"no Kubernetes cluster: {reason}", hint=_HINT)


def _default_paths() -> list[Path]:
    named = os.environ.get("KUBECONFIG", "")
    return [Path(part).expanduser() for part in named.split(os.pathsep) if part] or [Path.home() / ".kube" / "config"]


def _of_service_account(host: str, port: str) -> Access:
    token = ACCOUNT / "token"  # the kubelet replaces it before it expires
    tls = _tls((ACCOUNT / "ca.crt").read_text())
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Access(server, tls, lambda: f"Bearer {token.read_text().strip()}", in_cluster=True)


def _of_files(paths: Sequence[Path], context: str | None) -> Access:
    files = [(path.absolute().parent, _read(path)) for path in paths if path.is_file()]
    if not files:
        raise ValueError(f"there is no {', '.join(map(str, paths))}")
    current = context or next((str(found) for _, data in files if (found := data.get("current-context"))), None)
    if current is None:
        raise ValueError(f"{paths[0]} names no current-context")
    chosen = _named(files, "contexts", current)
    cluster = _named(files, "clusters", chosen.get("cluster"))
    user = _named(files, "users", chosen["user"]) if chosen.get("user") else {}
    if "server" not in cluster:
        raise ValueError(f"the cluster of context {current} has no server")
    return _access(cluster, user)


def _read(path: Path) -> Mapping[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        data = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        raise ValueError(f"{path} is not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} is not a kubeconfig")  # noqa: TRY004 - wrong content, not a wrong call
    for group, kind in _KINDS.items():
        entries = data.get(group) or []
        whole = isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
        if not whole or not all(isinstance(entry.get(kind) or {}, dict) for entry in entries):
            raise ValueError(f"{path}: {group} is not a list of entries with name and {kind}")
    return data


def _named(files: Sequence[tuple[Path, Mapping[str, Any]]], group: str, name: Any) -> dict[str, Any]:
    """The entry of a name, from the first file that has it; paths become those of that file."""
    kind = _KINDS[group]
    for folder, data in files:
        for entry in data.get(group) or []:
            if entry.get("name") == name:
                return _absolute(entry.get(kind) or {}, folder)
    raise ValueError(f"the kubeconfig has no {kind} {name!r}")


def _absolute(entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    paths = {"certificate-authority", "client-certificate", "client-key", "tokenFile"}
    found = {key: str(folder / str(value)) if key in paths and value else value for key, value in entry.items()}
    plugin = found.get("exec")
    if isinstance(plugin, dict) and os.sep in str(plugin.get("command", "")):
        found["exec"] = {**plugin, "command": str(folder / str(plugin["command"]))}
    return found


def _access(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> Access:
    tls = _tls(_pem(cluster, "certificate-authority"))
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    plugin = ExecPlugin.of(user["exec"], cluster) if user.get("exec") and not _has_token(user) else None
    authorization = _authorization(user, plugin, tls)
    _load_certificate(tls, user)
    return Access(
        str(cluster["server"]).rstrip("/"),
        tls,
        authorization,
        server_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
        renew=plugin.forget if plugin is not None else None,
    )


def _tls(authorities: str | None) -> ssl.SSLContext:
    """Verifies the server by these authorities, without any by the system's, as kubectl does."""
    tls = ssl.create_default_context(cadata=authorities)
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT  # set by Python 3.13; the authorities of many clusters fail it
    return tls


def _has_token(user: Mapping[str, Any]) -> bool:
    return bool(user.get("tokenFile") or user.get("token"))


def _authorization(user: Mapping[str, Any], plugin: ExecPlugin | None, tls: ssl.SSLContext) -> Callable[[], str | None]:
    """How each request is authorized; the certificate of an exec plugin goes into `tls`."""
    if impersonates := [key for key in _IMPERSONATION if user.get(key)]:
        raise ValueError(f"the user acts as another one ({', '.join(impersonates)}), which is not supported")
    if file := user.get("tokenFile"):
        return lambda: f"Bearer {Path(file).read_text().strip()}"
    if token := user.get("token"):
        return lambda: f"Bearer {token}"
    if plugin is not None:
        if (pair := plugin.certificate()) is not None:
            _load_pem(tls, *pair)
        return plugin.authorization
    if user.get("username") and user.get("password"):
        basic = base64.b64encode(f"{user['username']}:{user['password']}".encode()).decode()
        return lambda: f"Basic {basic}"
    if "auth-provider" in user:
        raise ValueError("auth-provider is no longer supported by Kubernetes; log in with an exec plugin or a token")
    return lambda: None


def _load_certificate(tls: ssl.SSLContext, user: Mapping[str, Any]) -> None:
    certificate, key = (_pem(user, name) for name in ("client-certificate", "client-key"))
    if certificate and key:
        _load_pem(tls, certificate, key)


def _pem(entry: Mapping[str, Any], name: str) -> str | None:
    """The text of a certificate or key: the data, else the file."""
    if not (data := entry.get(f"{name}-data")):
        return Path(entry[name]).read_text(encoding="ascii", errors="ignore") if entry.get(name) else None
    try:
        return base64.b64decode(str(data)).decode("ascii", errors="ignore")
    except ValueError:
        raise ValueError(f"{name}-data is not base64") from None


def _load_pem(tls: ssl.SSLContext, certificate: str, key: str) -> None:
    """Loads a client certificate from files that exist for a moment: ssl reads nothing else."""
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".pem")) for _ in range(2)]
        for file, text in zip(files, (certificate, key), strict=True):
            file.write(text)
            file.flush()
        tls.load_cert_chain(files[0].name, files[1].name)
