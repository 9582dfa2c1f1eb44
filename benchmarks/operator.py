"""The operator with a thousand FineTuneJobs on a real API server, without KubeRay.

    python -m benchmarks.operator --out benchmarks/results/operator.json [--jobs 1000]

Requires the programs of `make cluster` (etcd, kube-apiserver) and KubeRay's CRDs. The operator runs
as a process of its own with the permissions of the chart. Figures:

- `seconds_to_all_accepted`: from the creation of the first object until all have a RayJob and
  `Accepted=True`
- `cpu_seconds_per_job`: CPU time of the operator until then
- `api_calls_per_job_steady`: its requests while nothing changes, watches included
- `reaction_p99_seconds`: from a RayJob's failure until the object's status shows it, one at a time

The ratio `peak_memory_mib` is the operator's peak resident memory divided by 256 MiB.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks.output import processor
from raytrain.kubernetes.client import JOBS, RAY_JOBS, KubernetesApi
from raytrain.operator.install import deployment
from raytrain.operator.install.crd import crd
from tests.support.api_server import ApiServer, api_server
from tests.support.finetunejob_objects import finetunejob
from tests.support.kubernetes_tools import kuberay_crds

ROOT = Path(__file__).parents[1]
NAMESPACE = "scale"
STEADY_SECONDS = 20.0
REACTIONS = 50
MEMORY_LIMIT_MIB = 256
_GROUPS = re.compile(r'group="(raytrain\.dev|ray\.io)"')


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operator", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-operator-") as folder:
        outcome = measure(Path(folder), options.jobs)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(outcome, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(outcome, indent=1))


def measure(folder: Path, jobs: int) -> dict[str, Any]:
    """Starts everything in `folder` and measures `jobs` objects."""
    with api_server(folder, users=["operator"]) as server:
        _install(server)
        api = _client(server, "admin")
        process = _operator(server, folder)
        try:
            return _figures(server, api, psutil.Process(process.pid), jobs)
        finally:
            process.terminate()
            process.wait(30)


def _figures(server: ApiServer, api: KubernetesApi, operator: psutil.Process, jobs: int) -> dict[str, Any]:
    log = server.folder / "operator.log"
    _until(lambda: "Initial authentication has finished" in log.read_text(), 60)
    idle_cpu, started = sum(operator.cpu_times()[:2]), time.monotonic()
    for number in range(jobs):
        body = finetunejob(name=f"job-{number:04d}")
        body["metadata"] = {"name": f"job-{number:04d}", "namespace": NAMESPACE}
        api.create(body, manager="bench")
    _until(lambda: _accepted(api) == jobs, 1200)
    seconds, cpu = time.monotonic() - started, sum(operator.cpu_times()[:2]) - idle_cpu

    _settle(api)
    before = _requests(server)
    time.sleep(STEADY_SECONDS)
    steady = _requests(server) - before

    reactions = [_reaction(api, f"job-{number:04d}") for number in range(min(REACTIONS, jobs))]
    peak = _peak_mib(operator.pid)
    ratio = round(peak / MEMORY_LIMIT_MIB, 3)
    return {
        "machine": {"cores": os.cpu_count(), "processor": processor()},
        "ratios": {"peak_memory_mib": {"median": ratio, "min": ratio, "max": ratio}},
        "figures": {
            "jobs": jobs,
            "seconds_to_all_accepted": round(seconds, 1),
            "cpu_seconds_per_job": round(cpu / jobs, 4),
            "api_calls_per_job_steady": round(steady / jobs, 4),
            "reaction_p50_seconds": round(statistics.median(reactions), 3),
            "reaction_p99_seconds": round(sorted(reactions)[max(0, round(0.99 * len(reactions)) - 1)], 3),
            "peak_memory_mib": round(peak, 1),
        },
    }


def _install(server: ApiServer) -> None:
    server.kubectl("apply", "--server-side", "-f", str(kuberay_crds() / "ray.io_rayjobs.yaml"))
    role, binding = deployment.rbac_objects()[1:3]
    user = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "operator"}
    server.apply(crd(), role, binding | {"subjects": [user]})
    server.kubectl("create", "namespace", NAMESPACE)
    server.until_served("/apis/raytrain.dev/v1alpha1/finetunejobs")
    server.until_served("/apis/ray.io/v1/rayjobs")


def _operator(server: ApiServer, folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig("operator")), "PYTHONPATH": str(ROOT)}
    with (folder / "operator.log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-m", "raytrain.operator"], env=environment, stdout=log, stderr=log)


def _client(server: ApiServer, user: str) -> KubernetesApi:
    return KubernetesApi.connect(kubeconfig=server.kubeconfig(user))


def _accepted(api: KubernetesApi) -> int:
    """Counts objects that are accepted and have started an attempt."""
    found = 0
    for body in api.list(JOBS, NAMESPACE):
        status = body.get("status", {})
        conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
        found += conditions.get("Accepted") == "True" and bool(status.get("attempts"))
    return found


def _reaction(api: KubernetesApi, name: str) -> float:
    """Seconds from a RayJob's failure until the object's status shows it."""
    failed = {"status": {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed"}}
    started = time.monotonic()
    api.patch(RAY_JOBS, NAMESPACE, f"{name}-a01", failed, manager="bench", status=True)
    _until(lambda: (api.get(JOBS, NAMESPACE, name) or {})["status"]["phase"] == "Retrying", 60, pause=0.005)
    return time.monotonic() - started


def _requests(server: ApiServer) -> int:
    """Number of requests for FineTuneJobs and RayJobs so far, according to the API server."""
    lines = server.kubectl("get", "--raw", "/metrics").stdout.splitlines()
    ours = [line for line in lines if line.startswith("apiserver_request_total{") and _GROUPS.search(line)]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in ours)


def _peak_mib(pid: int) -> float:
    """Peak resident memory of a process, according to Linux."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1024


def _settle(api: KubernetesApi) -> None:
    """Waits until no object has changed for three seconds."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 3:
        now = sum(int(body["metadata"]["resourceVersion"]) for body in api.list(JOBS, NAMESPACE))
        if now != last:
            last, since = now, time.monotonic()
        time.sleep(0.5)


def _until(done: Callable[[], bool], seconds: float, pause: float = 0.5) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s")
        time.sleep(pause)


if __name__ == "__main__":
    main()
