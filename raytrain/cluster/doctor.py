"""Is everything there that a run needs? Each thing is looked at by itself, and what lacks comes with its remedy."""

import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from raytrain.kubernetes.client import JOBS, RAY_JOBS, KubernetesApi
from raytrain.operator.install.verify import Finding, may, served
from raytrain_core.errors import UserError
from raytrain_core.storage import StorageLocation, open_store
from raytrain_core.storage.probe import probe

_PACKAGES = ("raytrain", "ray", "torch", "transformers")
_SHARED_MEMORY = Path("/dev/shm")
_SHARED_MEMORY_GIB = 1
_DEPLOYMENTS = ("apps/v1", "Deployment")
_OPERATOR = "app.kubernetes.io/name=raytrain-operator"
_NODES = ("v1", "Node")
_GPUS = ("nvidia.com/gpu", "amd.com/gpu")


def of_this_machine() -> Iterator[Finding]:
    """Packages, and the shared memory of Ray's object store."""
    for package in _PACKAGES:
        try:
            yield Finding(f"{package} {version(package)}", True)
        except PackageNotFoundError:
            yield Finding(f"{package} is not installed", False, "pip install raytrain")
    if _SHARED_MEMORY.exists():
        free = shutil.disk_usage(_SHARED_MEMORY).free / (1 << 30)
        what = f"{_SHARED_MEMORY} has {free:.1f} GiB free"
        yield Finding(what, free >= _SHARED_MEMORY_GIB, "a container gets more by --shm-size or an emptyDir of Memory")


def of_storage(storage: StorageLocation) -> Finding:
    """Whether it takes, gives back and deletes an object."""
    return _tried(
        f"storage {storage.uri} can be written, read and deleted",
        lambda: probe(open_store(storage)),
    )


def of_cluster(api: KubernetesApi, namespace: str) -> Iterator[Finding]:
    """The API server, KubeRay, the operator, the right to send jobs, GPUs.

    ClusterError if nobody answers.
    """
    yield Finding(f"Kubernetes {api.call('GET', '/version').get('gitVersion', '?')} answers", True)
    chart = "helm install raytrain helm/raytrain-operator -n raytrain-system --create-namespace"
    yield Finding("FineTuneJobs are served", served(api, JOBS), chart)
    kuberay = "helm install kuberay-operator kuberay/kuberay-operator"
    yield Finding("RayJobs are served (KubeRay)", served(api, RAY_JOBS), kuberay)
    yield from _operator(api, chart)
    group, plural = JOBS[0].split("/")[0], "finetunejobs"
    for verb in ("create", "get", "patch", "delete"):
        hint = f"ask for the role edit in {namespace}"
        yield Finding(f"you may {verb} FineTuneJobs in {namespace}", may(api, verb, group, plural, namespace), hint)
    yield from _gpus(api)


def _operator(api: KubernetesApi, chart: str) -> Iterator[Finding]:
    try:
        deployments = api.list(_DEPLOYMENTS, None, _OPERATOR)
    except UserError:  # not everyone may look into every namespace
        return
    ready = [d for d in deployments if (d.get("status") or {}).get("availableReplicas")]
    where = ", ".join(d["metadata"]["namespace"] for d in ready or deployments)
    hint = f"kubectl -n {where} describe deployment raytrain-operator" if deployments else chart
    yield Finding(f"the operator runs in {where}" if ready else "the operator does not run", bool(ready), hint)


def _gpus(api: KubernetesApi) -> Iterator[Finding]:
    try:
        nodes = api.list(_NODES, None)
    except UserError:
        return
    offered = [(node["status"].get("allocatable") or {}).get(kind) for node in nodes for kind in _GPUS]
    count = sum(int(amount) for amount in offered if amount)
    yield Finding(f"{len(nodes)} nodes with {count} GPUs in all", True)


def _tried(what: str, attempt: Callable[[], object]) -> Finding:
    try:
        attempt()
    except UserError as error:
        return Finding(f"{what}: {error.message}", False, error.hint or "")
    return Finding(what, True)
