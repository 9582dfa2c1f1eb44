"""`raytrain check` for a cluster: what the job would take there, and whether it fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from raytrain.check.report import CheckReport
from raytrain.cluster.estimate import estimate, stores_of
from raytrain.cluster.fit import check_fit
from raytrain.config.job import FineTuneJob
from raytrain.config.locations import storage_location
from raytrain.kubernetes.client import KubernetesApi


def in_cluster(
    report: CheckReport,
    job: FineTuneJob,
    namespace: str,
    *,
    storage: str | None,
    base_folder: Path,
    api: KubernetesApi | None = None,
) -> CheckReport:
    """The report with what the job would take in the cluster in place of what it would here.

    Raises ClusterError for pods that could never start there.
    """
    api = api or KubernetesApi.connect()
    warnings = list(report.warnings)
    check_fit(job, api, namespace, warnings.append)
    location = storage_location(storage, job, base_folder=base_folder)
    found = estimate(
        job,
        api=api,
        namespace=namespace,
        tokens=report.tokens or None,
        parameters=report.parameters,
        stores=stores_of(location, namespace),
    )
    return replace(
        report,
        seconds=found.seconds,
        seconds_basis=found.basis.removeprefix("unknown: "),
        ignored=[],
        warnings=warnings,
        in_cluster=list(found.lines()),
    )
