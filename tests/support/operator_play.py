"""Plays KubeRay and the run against one job on a real API server."""

import json
import time
from typing import Any

from tests.support.api_server import ApiServer


class Play:
    """Plays KubeRay and the run against one job, and waits for the operator's reaction."""

    def __init__(self, server: ApiServer, namespace: str, name: str = "assistant") -> None:
        self._server, self._namespace, self._name = server, namespace, name

    def status(self) -> dict[str, Any]:
        content: dict[str, Any] = self._server.get("ftj", self._name, "-n", self._namespace).get("status", {})
        return content

    def until(self, phase: str, attempts: int | None = None, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while True:
            status = self.status()
            if status.get("phase") == phase and attempts in (None, len(status.get("attempts", []))):
                return
            assert time.monotonic() < deadline, f"waiting for {phase}: {json.dumps(status, indent=1)}"
            time.sleep(0.2)

    def kuberay(
        self, ray_job: str, deployment: str, job: str, *, desired: int = 0, ready: int = 0, **status: Any
    ) -> None:
        replicas = {"desiredWorkerReplicas": desired, "readyWorkerReplicas": ready}
        content = {"jobDeploymentStatus": deployment, "jobStatus": job, "rayClusterStatus": replicas, **status}
        self._patch("rayjob", ray_job, content)

    def run(self, **status: Any) -> None:
        self._patch("ftj", self._name, status)

    def _patch(self, kind: str, name: str, status: dict[str, Any]) -> None:
        body = json.dumps({"status": status})
        arguments = ("--subresource=status", "--type=merge", "-p", body)
        self._server.kubectl("patch", kind, name, "-n", self._namespace, *arguments)
