"""The one client of the Kubernetes API, for the operator, the run and the command line.

Its objects are plain dictionaries.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from raytrain.kubernetes.kubeconfig import Access, find_access
from raytrain_core.errors import ClusterError

if TYPE_CHECKING:
    import ssl

    from urllib3 import PoolManager

JOBS = ("raytrain.dev/v1alpha1", "FineTuneJob")
RAY_JOBS = ("ray.io/v1", "RayJob")
RAY_SERVICES = ("ray.io/v1", "RayService")

_PLURALS = {"NetworkPolicy": "networkpolicies"}
_SECONDS = 30.0
_CONNECTIONS = 16  # kept open; more threads than this open their own


class ApiError(ClusterError):
    """The API server's answer was not 2xx.

    `status` is the HTTP code, `reason` Kubernetes' word for it (NotFound, Forbidden).
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.status, self.reason, self.message)


class KubernetesApi:
    """Blocking calls that any thread may make.

    Every call raises ApiError if the server refuses, and ClusterError if it does not answer.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._tls = access.tls()
        self._pool = _pool(access, self._tls)
        self._lock = threading.Lock()

    @classmethod
    def connect(cls, context: str | None = None, *, kubeconfig: Path | None = None) -> KubernetesApi:
        """Connects to the cluster that `find_access` finds; ClusterError if there is none."""
        return cls(find_access(context, kubeconfig))

    def get(self, kind: tuple[str, str], namespace: str | None, name: str) -> dict[str, Any] | None:
        """Returns the object, None if it does not exist."""
        try:
            return self.call("GET", path(kind, namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(
        self, kind: tuple[str, str], namespace: str | None, selector: str = "", *, fields: str = ""
    ) -> list[dict[str, Any]]:
        """The objects of a namespace (None: of all) that match a label and a field selector."""
        given = {"labelSelector": selector, "fieldSelector": fields}
        query = {name: value for name, value in given.items() if value}
        answer = self.call("GET", path(kind, namespace), query=query)
        return [{"apiVersion": kind[0], "kind": kind[1], **item} for item in answer.get("items", [])]

    def create(self, body: Mapping[str, Any], *, manager: str) -> dict[str, Any] | None:
        """Creates the object; returns None if one of that name exists."""
        where = path((body["apiVersion"], body["kind"]), body["metadata"].get("namespace"))
        try:
            return self.call("POST", where, body=body, query={"fieldManager": manager})
        except ApiError as error:
            if error.reason == "AlreadyExists":
                return None
            raise

    def apply(self, body: Mapping[str, Any], *, manager: str, force: bool = True) -> dict[str, Any]:
        """Server-side apply: creates the object, or updates the fields that `body` names."""
        where = path((body["apiVersion"], body["kind"]), body["metadata"].get("namespace"), body["metadata"]["name"])
        query = {"fieldManager": manager, "force": str(force).lower()}
        return self.call("PATCH", where, body=body, query=query, content="application/apply-patch+yaml")

    def patch(
        self,
        kind: tuple[str, str],
        namespace: str,
        name: str,
        body: Mapping[str, Any],
        *,
        manager: str,
        status: bool = False,
    ) -> dict[str, Any]:
        """Sends a merge patch of the object, or of its status."""
        where = path(kind, namespace, name) + ("/status" if status else "")
        return self.call(
            "PATCH", where, body=body, query={"fieldManager": manager}, content="application/merge-patch+json"
        )

    def delete(self, kind: tuple[str, str], namespace: str, name: str) -> bool:
        """Deletes the object and what it owns; returns False if there was none."""
        try:
            self.call("DELETE", path(kind, namespace, name), query={"propagationPolicy": "Background"})
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def serves(self, kind: tuple[str, str]) -> bool:
        """Whether the API server knows objects of this kind."""
        version, word = kind
        try:
            answer = self.call("GET", f"/apis/{version}")
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return any(resource.get("kind") == word for resource in answer.get("resources", []))

    def is_allowed(self, verb: str, group: str, resource: str, namespace: str) -> bool:
        """Whether this account has a permission; `resource` may be a subresource (`a/status`)."""
        name, _, subresource = resource.partition("/")
        action = {"verb": verb, "group": group, "resource": name, "subresource": subresource, "namespace": namespace}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": action},
        }
        answer = self.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
        return bool(answer.get("status", {}).get("allowed"))

    def call(
        self,
        method: str,
        where: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
    ) -> dict[str, Any]:
        """Sends one request and returns its JSON answer."""
        url = f"{self._access.server}{where}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body)
        status, text = self._send(method, url, data, content)
        if status == 401 and self._access.renew is not None:
            self._access.renew()
            status, text = self._send(method, url, data, content)
        if not 200 <= status < 300:
            raise _api_error(status, text)
        try:
            return dict(json.loads(text or "{}"))
        except (ValueError, TypeError):
            raise ClusterError(
                f"{self._access.server} answers, but not as the Kubernetes API does",
                hint="look at the server of the kubeconfig, and whether a proxy answers in its place",
            ) from None

    def _send(self, method: str, url: str, data: str | None, content: str) -> tuple[int, str]:
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json", "Content-Type": content}
        if (authorization := self._access.authorization()) is not None:
            headers["Authorization"] = authorization
        pool = self._connections()
        try:
            response = pool.request(method, url, body=data, headers=headers, timeout=_SECONDS)
        except (HTTPError, OSError) as error:
            raise ClusterError(f"the Kubernetes API does not answer: {error}") from error
        return response.status, response.data.decode(errors="replace")

    def _connections(self) -> PoolManager:
        """Connections with the certificate of now; older ones end with their requests."""
        tls = self._access.tls()
        with self._lock:
            if tls is not self._tls:
                self._tls, self._pool = tls, _pool(self._access, tls)
            return self._pool


def path(kind: tuple[str, str], namespace: str | None, name: str | None = None) -> str:
    """The URL path of an object or a list: `/apis/ray.io/v1/namespaces/team/rayjobs/a`.

    A name stays a name: one with a slash or a question mark leads nowhere else.
    """
    version, word = kind
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    plural = _PLURALS.get(word, word.lower() + "s")
    where = ["namespaces", quote(namespace, safe="")] if namespace else []
    return "/".join([root, *where, plural, *([quote(name, safe="")] if name else [])])


def _pool(access: Access, tls: ssl.SSLContext) -> PoolManager:
    """Connections to the API server, with urllib3's own retries."""
    from urllib3 import PoolManager, ProxyManager, make_headers
    from urllib3.exceptions import HTTPError
    from urllib3.util import parse_url

    options: dict[str, Any] = {"ssl_context": tls, "maxsize": _CONNECTIONS}
    if access.server_name is not None:
        options["server_hostname"] = access.server_name
    proxy = access.proxy or _proxy_of_environment(access)
    if proxy is None:
        return PoolManager(**options)
    try:
        login = parse_url(proxy).auth
        headers = make_headers(proxy_basic_auth=unquote(login)) if login else None
        return ProxyManager(proxy, proxy_headers=headers, **options)
    except HTTPError as error:
        raise ClusterError(
            f"the proxy of the Kubernetes API cannot be used: {error}",
            hint="set proxy-url in the kubeconfig, or HTTPS_PROXY, to http://HOST:PORT",
        ) from None


def _proxy_of_environment(access: Access) -> str | None:
    """The proxy that HTTPS_PROXY and NO_PROXY name for the server; none inside the cluster."""
    from urllib.request import getproxies

    parts = urlsplit(access.server)
    proxies = getproxies()
    if access.in_cluster or _goes_direct(parts, proxies.get("no", "")):
        return None
    return proxies.get(parts.scheme)


def _goes_direct(server: SplitResult, no_proxy: str) -> bool:
    """Whether no proxy is for this server, as kubectl decides.

    This machine needs none, and NO_PROXY may hold networks (10.0.0.0/8), which Python's own rule
    does not read.
    """
    from urllib.request import proxy_bypass

    try:
        address = ip_address(server.hostname or "")
    except ValueError:
        return server.hostname == "localhost" or bool(proxy_bypass(server.netloc))
    return (
        address.is_loopback
        or any(map(partial(_holds, address), no_proxy.split(",")))
        or bool(proxy_bypass(server.netloc))
    )


def _holds(address: IPv4Address | IPv6Address, network: str) -> bool:
    try:
        return address in ip_network(network.strip(), strict=False)
    except ValueError:
        return False  # the name of a host


def _api_error(status: int, text: str) -> ApiError:
    try:
        answer = json.loads(text)
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    return ApiError(status, answer.get("reason") or f"HTTP{status}", answer.get("message") or text[:500] or str(status))
