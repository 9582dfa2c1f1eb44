"""Credentials from a program that the kubeconfig names, as GKE, EKS and AKS log in.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from raytrain_core.errors import ClusterError

VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_MODES = (None, "Never", "IfAvailable", "Always")
_EXTENSION = "client.authentication.k8s.io/exec"
_EARLY = timedelta(seconds=30)  # a token that ends while a request is on its way is asked for again


class ExecPlugin:
    """Runs the program, and keeps what it answered until that expires; any thread may ask."""

    def __init__(
        self, command: list[str], environment: Mapping[str, str], request: Mapping[str, Any], install: str | None = None
    ) -> None:
        self._command, self._request, self._install = command, request, install
        self._environment = environment
        self._status: dict[str, Any] = {}
        self._expires: datetime | None = None
        self._lock = threading.Lock()

    @classmethod
    def of(cls, plugin: Mapping[str, Any], cluster: Mapping[str, Any], authorities: str | None = None) -> ExecPlugin:
        """The plugin of a kubeconfig's user, for a cluster and its authorities (PEM).

        ValueError if it is not described as it must be, or asks questions that nobody can answer.
        """
        if not isinstance(plugin, Mapping):
            raise ValueError("exec is not a mapping")  # noqa: TRY004 - wrong content, not a wrong call
        version, arguments = plugin.get("apiVersion"), plugin.get("args") or []
        if version not in VERSIONS or not plugin.get("command"):
            raise ValueError(f"exec plugin: apiVersion is {version}, known are {' and '.join(VERSIONS)}")
        try:
            environment = {str(item["name"]): str(item["value"]) for item in plugin.get("env") or []}
        except (KeyError, TypeError):
            raise ValueError("exec plugin: env is not a list of entries with name and value") from None
        if not isinstance(arguments, list):
            raise ValueError("exec plugin: args is not a list")  # noqa: TRY004 - as above
        mode, terminal = plugin.get("interactiveMode"), sys.stdin is not None and sys.stdin.isatty()
        if mode not in _MODES:
            raise ValueError(f"exec plugin: interactiveMode is {mode}, known are Never, IfAvailable and Always")
        if mode == "Always" and not terminal:
            raise ValueError(f"{plugin['command']} asks questions to log in, and standard input is not a terminal")
        spec: dict[str, Any] = {"interactive": mode != "Never" and terminal}
        if plugin.get("provideClusterInfo"):
            spec["cluster"] = _cluster_info(cluster, authorities)
        request = {"apiVersion": version, "kind": "ExecCredential", "spec": spec}
        return cls(
            [str(plugin["command"]), *map(str, arguments)], environment, request, plugin.get("installHint") or None
        )

    def authorization(self) -> str | None:
        """The header for a request; None if the plugin gives certificates only."""
        token = self._current().get("token")
        return bearer(str(token)) if token else None

    def certificate(self) -> tuple[str, str] | None:
        """The client's certificate and key as PEM, if the plugin gives them."""
        status = self._current()
        pair = status.get("clientCertificateData"), status.get("clientKeyData")
        return (str(pair[0]), str(pair[1])) if all(pair) else None

    def forget(self) -> None:
        """Has the program run again before the next request."""
        with self._lock:
            self._status = {}

    def _current(self) -> dict[str, Any]:
        with self._lock:
            if not self._status or (self._expires is not None and datetime.now(UTC) >= self._expires - _EARLY):
                self._status, self._expires = self._run()
            return self._status

    def _run(self) -> tuple[dict[str, Any], datetime | None]:
        """The answer's status, and when it expires."""
        name = self._command[0]
        environment = {**os.environ, **self._environment, "KUBERNETES_EXEC_INFO": json.dumps(self._request)}
        stdin = None if self._request["spec"]["interactive"] else subprocess.DEVNULL  # it may be a job's file
        try:
            done = subprocess.run(
                self._command, env=environment, stdin=stdin, stdout=subprocess.PIPE, text=True, check=False
            )
        except OSError as error:
            raise ClusterError(
                f"the kubeconfig logs in with {name}, which cannot be run: {error.strerror}",
                hint=str(self._install or f"install {name}, or put it on the PATH").strip(),
            ) from None
        if done.returncode:
            raise ClusterError(f"{name}, with which the kubeconfig logs in, ended with exit code {done.returncode}")
        try:
            status = dict(json.loads(done.stdout)["status"])
            ends = datetime.fromisoformat(status["expirationTimestamp"]) if status.get("expirationTimestamp") else None
        except (ValueError, KeyError, TypeError):
            raise ClusterError(f"{name}, with which the kubeconfig logs in, printed no ExecCredential") from None
        if bool(status.get("clientCertificateData")) != bool(status.get("clientKeyData")):
            raise ClusterError(f"{name}, with which the kubeconfig logs in, gave half of a certificate and its key")
        if not status.get("token") and not status.get("clientCertificateData"):
            raise ClusterError(f"{name}, with which the kubeconfig logs in, gave neither a token nor a certificate")
        return status, ends.replace(tzinfo=ends.tzinfo or UTC) if ends else None


def bearer(token: str) -> str:
    """The header of a token; ClusterError for one that no header can hold."""
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable():
        raise ClusterError("the token for the Kubernetes API is not one line of ASCII: log in again, or write it anew")
    return f"Bearer {token}"


def _cluster_info(cluster: Mapping[str, Any], authorities: str | None) -> dict[str, Any]:
    """What a plugin is told of the cluster; `config` is what its extension in the file holds."""
    names = ("server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url", "disable-compression")
    info = {name: cluster[name] for name in names if cluster.get(name)}
    if authorities is not None:
        info["certificate-authority-data"] = base64.b64encode(authorities.encode()).decode()
    for entry in cluster.get("extensions") or []:
        if isinstance(entry, Mapping) and entry.get("name") == _EXTENSION:
            info["config"] = entry.get("extension")
    return info
