"""Plays KubeRay and the run for one job on a real API server, to test the operator."""

import json
import time


class Play:
    """Plays KubeRay and the run for one job, and waits for the operator's reaction."""

    def __init__(self, server, namespace, name="assistant"):
        self._server, self._namespace, self._name = server, namespace, name

    def status(self):
        return self._server.get("ftj", self._name, "-n", self._namespace).get("status", {})

    def until(self, phase, attempts=None, seconds=30):
        deadline = time.monotonic() + seconds
        while True:
            status = self.status()
            if status.get("phase") == phase and attempts in (None, len(status.get("attempts", []))):
                return
            assert time.monotonic() < deadline, f"waiting for {phase}: {json.dumps(status, indent=1)}"
            time.sleep(0.2)

    def kuberay(self, ray_job, deployment, job, *, desired=0, ready=0, **status):
        replicas = {"desiredWorkerReplicas": desired, "readyWorkerReplicas": ready}
        ray_job_status = {"jobDeploymentStatus": deployment, "jobStatus": job, "rayClusterStatus": replicas, **status}
        self._patch("rayjob", ray_job, ray_job_status)

    def run(self, **status):
        self._patch("ftj", self._name, status)

    def _patch(self, kind, name, status):
        body = json.dumps({"status": status})
        arguments = ("--subresource=status", "--type=merge", "-p", body)
        self._server.kubectl("patch", kind, name, "-n", self._namespace, *arguments)
