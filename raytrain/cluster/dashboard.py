"""Forwards the Ray dashboard of a job in the cluster to this machine."""

import base64
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from raytrain.cluster import jobs
from raytrain.kubernetes.client import KubernetesApi
from raytrain_core.errors import ClusterError, UsageError

PORT = 8265
_SECRETS = ("v1", "Secret")
_RAY_CLUSTERS = ("ray.io/v1", "RayCluster")
_TOKEN_KEY = "auth_token"  # KubeRay writes it into a secret with the Ray cluster's name
_SECONDS_TO_END = 5.0


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Where the dashboard is, and its access token."""

    namespace: str
    service: str
    token: str


def find(api: KubernetesApi, namespace: str, name: str) -> Dashboard:
    """Finds the dashboard of a job's current Ray cluster; UsageError if there is none."""
    cluster = jobs.ray_cluster(api, jobs.get(api, namespace, name))
    secret = api.get(_SECRETS, namespace, cluster)
    token = ((secret or {}).get("data") or {}).get(_TOKEN_KEY)
    if not token:
        raise ClusterError(
            f"the Ray cluster {cluster} has no access token", hint="it is starting or stopping; try again"
        )
    head = ((api.get(_RAY_CLUSTERS, namespace, cluster) or {}).get("status") or {}).get("head") or {}
    service = head.get("serviceName") or f"{cluster}-head-svc"
    return Dashboard(namespace, service, base64.b64decode(token).decode())


@contextmanager
def forwarded(dashboard: Dashboard, port: int = PORT) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs `kubectl port-forward` on 127.0.0.1, which network policies do not block."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise UsageError("kubectl is not installed", hint="https://kubernetes.io/docs/tasks/tools/")
    command = [kubectl, "port-forward", "-n", dashboard.namespace, f"service/{dashboard.service}", f"{port}:{PORT}"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
