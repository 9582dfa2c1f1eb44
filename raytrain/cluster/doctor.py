"""Checks that everything a run needs is there; a check that fails comes with a remedy."""

import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from raytrain.kubernetes.client import JOBS, KubernetesApi
from raytrain.operator.fit import extended_resources
from raytrain.operator.install.verify import Check, check_crd, check_kuberay
from raytrain.operator.queue_systems import LOCAL_QUEUES
from raytrain_core.errors import UserError
from raytrain_core.extras import how_to_install
from raytrain_core.storage import StorageLocation, open_store
from raytrain_core.storage.probe import probe

_TRAINING = ("ray", "torch", "transformers")
_SHARED_MEMORY = Path("/dev/shm")
_SHARED_MEMORY_GIB = 1
_DEPLOYMENTS = ("apps/v1", "Deployment")
_OPERATOR = "app.kubernetes.io/name=raytrain-operator"
_NODES = ("v1", "Node")
_MANY = 2
"""Jobs that wait in a namespace, from which on a queue system is worth its while."""
_INSTALL = "helm install raytrain helm/raytrain-operator -n raytrain-system --create-namespace"


def of_this_machine() -> Iterator[Check]:
    """Checks packages, and the shared memory for Ray's object store.

    The client alone is a whole installation: what it lacks is said, and is no problem.
    """
    yield Check(f"raytrain {version('raytrain')}", True)
    installed = {package: found for package in _TRAINING if (found := _version(package)) is not None}
    if not installed:
        yield Check(f"the client alone; {how_to_install('train')} trains on this machine", True)
        return
    for package in _TRAINING:
        is_there = package in installed
        what = f"{package} {installed[package]}" if is_there else f"{package} is not installed"
        yield Check(what, is_there, how_to_install("train"))
    if "torch" in installed:
        yield Check(_precision(), True)
    if _SHARED_MEMORY.exists():
        free = shutil.disk_usage(_SHARED_MEMORY).free / (1 << 30)
        what = f"{_SHARED_MEMORY} has {free:.1f} GiB free"
        hint = "give the container more: --shm-size, or an emptyDir with medium Memory"
        yield Check(what, free >= _SHARED_MEMORY_GIB, hint)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _precision() -> str:
    """Says what `precision: auto` becomes on this machine."""
    import torch

    from raytrain.training.precision import native_bf16

    native = native_bf16(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return f"precision: auto is {'bf16' if native.here else 'fp32'} here: {native.reason}"


def of_storage(storage: StorageLocation) -> Check:
    """Checks that the storage can be used, and says what it does not support."""
    what = f"storage {storage.uri} can be written, read and deleted"
    try:
        limits = probe(open_store(storage))
    except UserError as error:
        return Check(f"{what}: {error.message}", False, error.hint or "")
    return Check("; ".join([what, *limits]), True)


def of_cluster(api: KubernetesApi, namespace: str) -> Iterator[Check]:
    """Checks the API server, the CRD, KubeRay, the operator, your permissions, and counts GPUs.

    Raises ClusterError if the API server does not answer.
    """
    yield Check(f"Kubernetes {api.call('GET', '/version').get('gitVersion', '?')} answers", True)
    yield check_crd(api, _INSTALL)
    yield check_kuberay(api)
    yield from _operator(api)
    yield from _line(api, namespace)
    group, plural = JOBS[0].split("/")[0], "finetunejobs"
    for verb in ("create", "get", "patch", "delete"):
        allowed = api.is_allowed(verb, group, plural, namespace)
        yield Check(f"you may {verb} FineTuneJobs in {namespace}", allowed, f"ask for the role edit in {namespace}")
    yield from _gpus(api)


def _operator(api: KubernetesApi) -> Iterator[Check]:
    try:
        deployments = api.list(_DEPLOYMENTS, None, _OPERATOR)
    except UserError:  # not everyone may look into every namespace
        return
    ready = [d for d in deployments if (d.get("status") or {}).get("availableReplicas")]
    where = ", ".join(d["metadata"]["namespace"] for d in ready or deployments)
    hint = f"kubectl -n {where} describe deployment raytrain-operator" if deployments else _INSTALL
    yield Check(f"the operator runs in {where}" if ready else "the operator is not running", bool(ready), hint)


def _line(api: KubernetesApi, namespace: str) -> Iterator[Check]:
    """Jobs that wait for each other: a queue system orders them better than the operator's line."""
    try:
        jobs = api.list(JOBS, namespace)
        kueue = any(api.serves(kind) for kind in LOCAL_QUEUES)
    except UserError:
        return
    waiting = [job for job in jobs if (job.get("status") or {}).get("phase") == "Queued"]
    if len(waiting) < _MANY:
        return
    if kueue:
        advice = "set cluster.queue to a LocalQueue for quotas, priorities and fair shares (Kueue is installed)"
    else:
        advice = "for quotas, priorities and fair shares install Kueue (kueue.sigs.k8s.io) and set cluster.queue"
    in_line = [job for job in waiting if (job.get("status") or {}).get("place")]
    what = f"{len(waiting)} jobs wait in {namespace}"
    yield Check(f"{what}, {len(in_line)} of them in the operator's line: {advice}" if in_line else what, True)


def _gpus(api: KubernetesApi) -> Iterator[Check]:
    try:
        nodes = api.list(_NODES, None)
    except UserError:
        return
    offered = ", ".join(f"{name} {amount}" for name, amount in extended_resources(nodes).items())
    yield Check(f"{len(nodes)} nodes; devices in total: {offered or 'none'}", True)
