"""How to reach a cluster: this pod's service account, or a kubeconfig.

The official client weighs 76 MB, nearly all of it classes for objects that are plain dictionaries
here, so the command line does without it. Of the lighter ones, kr8s brings 51 MB, lightkube reads
neither version 1 of exec plugins nor a list of files in KUBECONFIG, and pykube-ng had its last
release in 2023. Read are the fields of kubectl's own configuration
(https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/): several files in KUBECONFIG,
certificates as files or data, tokens, proxies over HTTP, and exec plugins (GKE, EKS, AKS). Refused
are a user that impersonates another or logs in with an auth-provider, a SOCKS proxy, and what
kubectl refuses too, such as an authority beside insecure-skip-tls-verify.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from raytrain.kubernetes.exec_plugin import ExecPlugin, bearer
from raytrain_core.errors import ClusterError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_KINDS = {"contexts": "context", "clusters": "cluster", "users": "user"}
_IMPERSONATION = ("as", "as-uid", "as-groups", "as-user-extra")
_HINT = "set KUBECONFIG, or try `kubectl get nodes`"


@dataclass(frozen=True, slots=True)
class Access:
    """Where the API server is and how to log in."""

    server: str
    tls: Callable[[], ssl.SSLContext]
    """How to verify the server, and the client's certificate; another object once that changed."""
    authorization: Callable[[], str | None]
    """Value of the header of that name, asked before each request: tokens expire."""
    server_name: str | None = None
    proxy: str | None = None
    in_cluster: bool = False
    renew: Callable[[], None] | None = None
    """Has `authorization` log in again, if a token was refused; None if it cannot."""


def find_access(context: str | None = None, kubeconfig: Path | None = None) -> Access:
    """Returns the access of a kubeconfig's context (by default, the current), or of this pod.

    Looked at in this order, as by other controllers: the file or context that is named,
    KUBECONFIG, this pod's service account, ~/.kube/config. Raises ClusterError without any, or if
    the first of them cannot be used.
    """
    named = kubeconfig is not None or context is not None or bool(os.environ.get("KUBECONFIG"))
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    try:
        if host and not named and (ACCOUNT / "token").exists():
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
    tls = _tls((ACCOUNT / "ca.crt").read_text())
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    token = partial(_token_of_file, ACCOUNT / "token")  # the kubelet replaces it before it expires
    return Access(server, lambda: tls, token, in_cluster=True)


def _of_files(paths: Sequence[Path], context: str | None) -> Access:
    files = [(path.absolute().parent, _read(path)) for path in paths if path.exists()]
    if not files:
        raise ValueError(f"there is no {', '.join(map(str, paths))}")
    current = context or next((str(found) for _, data in files if (found := data.get("current-context"))), None)
    if current is None:
        raise ValueError(f"{', '.join(str(path) for path in paths if path.exists())} names no current-context")
    chosen = _named(files, "contexts", current)
    cluster = _named(files, "clusters", chosen.get("cluster"))
    user = _named(files, "users", chosen["user"]) if chosen.get("user") else {}
    parts = urlsplit(str(cluster.get("server") or ""))
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(
            f"the server of context {current} is {cluster.get('server')!r}, not an http:// or https:// address"
        )
    return _access(cluster, user)


def _read(path: Path) -> Mapping[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        data = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {str(error).splitlines()[0]}") from None
    if data is None:
        return {}  # a file that is still empty is none
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
    if impersonates := [key for key in _IMPERSONATION if user.get(key)]:
        raise ValueError(f"the user acts as another one ({', '.join(impersonates)}), which is not supported")
    authorities = _pem(cluster, "certificate-authority")
    insecure = bool(cluster.get("insecure-skip-tls-verify"))
    if insecure and authorities is not None:
        raise ValueError("the cluster has a certificate-authority and insecure-skip-tls-verify: only one can be meant")
    token = user.get("tokenFile") or user.get("token")
    plugin = ExecPlugin.of(user["exec"], cluster, authorities) if user.get("exec") and not token else None
    tls = _ClientTls(
        partial(_tls, authorities, insecure=insecure), _own_certificate(user), plugin.certificate if plugin else None
    )
    tls()  # a mistake shows now
    return Access(
        str(cluster["server"]).rstrip("/"),
        tls,
        plugin.authorization if plugin is not None else _authorization(user),
        server_name=cluster.get("tls-server-name") or None,
        proxy=cluster.get("proxy-url") or None,
        renew=plugin.forget if plugin is not None else None,
    )


class _ClientTls:
    """TLS with the certificate of now: an exec plugin gives another when the last one expires."""

    def __init__(
        self,
        make: Callable[[], ssl.SSLContext],
        own: tuple[str, str] | None,
        given: Callable[[], tuple[str, str] | None] | None,
    ) -> None:
        self._make, self._own, self._given = make, own, given
        self._tls: ssl.SSLContext | None = None
        self._pair: tuple[str, str] | None = None
        self._lock = threading.Lock()

    def __call__(self) -> ssl.SSLContext:
        pair = (self._given() if self._given is not None else None) or self._own
        with self._lock:
            if self._tls is None or pair != self._pair:
                self._tls, self._pair = self._make(), pair
                if pair is not None:
                    _load_pem(self._tls, *pair)
            return self._tls


def _tls(authorities: str | None, *, insecure: bool = False) -> ssl.SSLContext:
    """Verifies the server by these authorities, without any by the system's, as kubectl does."""
    if authorities is not None and not authorities.strip():
        raise ValueError("certificate-authority is empty")
    try:
        tls = ssl.create_default_context(cadata=authorities)
    except ssl.SSLError:
        raise ValueError("certificate-authority is not a certificate in PEM") from None
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT  # set by Python 3.13; the authorities of many clusters fail it
    if insecure:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return tls


def _authorization(user: Mapping[str, Any]) -> Callable[[], str | None]:
    """How each request is authorized, without an exec plugin."""
    if file := user.get("tokenFile"):
        return partial(_token_of_file, Path(file))
    if token := user.get("token"):
        return partial(bearer, str(token))
    if user.get("username") or user.get("password"):
        pair = f"{user.get('username') or ''}:{user.get('password') or ''}"
        basic = base64.b64encode(pair.encode()).decode()
        return lambda: f"Basic {basic}"
    if "auth-provider" in user:
        raise ValueError("auth-provider is no longer supported by Kubernetes; log in with an exec plugin or a token")
    return lambda: None


def _token_of_file(path: Path) -> str:
    try:
        return bearer(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise ClusterError(f"the token for the Kubernetes API cannot be read: {error}") from None


def _own_certificate(user: Mapping[str, Any]) -> tuple[str, str] | None:
    """The certificate and key that the kubeconfig has itself; ValueError for half of a pair."""
    certificate, key = (_pem(user, name) for name in ("client-certificate", "client-key"))
    if certificate and key:
        return certificate, key
    if certificate or key:
        raise ValueError("the user has one of client-certificate and client-key without the other")
    return None


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
        try:
            tls.load_cert_chain(files[0].name, files[1].name, password="")  # else ssl asks for one at the terminal
        except (ssl.SSLError, ValueError) as error:
            raise ClusterError(
                f"the client certificate for the Kubernetes API cannot be used: {error}",
                hint="it and its key must be PEM, belong together, and have no password",
            ) from None
