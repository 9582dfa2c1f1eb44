"""The verbs for a cluster: send a job there, wait for it, end it; and the logs of any run."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from raytrain.cli import options, render
from raytrain.cli.options import JobFile, Output, Run, StorageFlag
from raytrain.cli.output import Format, emit, say, tell

verbs = typer.Typer()

Namespace = Annotated[
    str | None,
    typer.Option("-n", "--namespace", help="The cluster's namespace that the run is in.", show_default=False),
]
InNamespace = Annotated[str, typer.Option("-n", "--namespace", help="The cluster's namespace.")]
Job = Annotated[str, typer.Argument(metavar="NAME", help="Name of the FineTuneJob.", show_default=False)]


class Until(StrEnum):
    """Conditions that `wait` knows."""

    COMPLETE = "Complete"
    DATA_READY = "DataReady"
    RUNNING = "Running"
    EVALUATED = "Evaluated"


@verbs.command()
def submit(
    job_file: JobFile,
    namespace: InNamespace = "default",
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Send a job to the cluster.

    Sources and a model that lie on this machine are uploaded to its storage first, by content: the
    second time nothing.
    """
    from raytrain.cluster import jobs
    from raytrain.config.load import load_job
    from raytrain.kubernetes.client import KubernetesApi

    loaded = load_job(job_file)
    sent = jobs.submit(
        loaded.job,
        api=KubernetesApi.connect(),
        namespace=namespace,
        storage=storage,
        base_folder=loaded.base_folder,
        say=tell,
    )
    emit(sent, f"{sent.name} is in namespace {sent.namespace}", output)
    tell(f"next: raytrain wait {sent.name} -n {sent.namespace}")


@verbs.command()
def wait(
    name: Job,
    namespace: InNamespace = "default",
    until: Annotated[Until, typer.Option("--for", help="Condition to wait for.")] = Until.COMPLETE,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0, metavar="SECONDS", help="Longest wait.", show_default=False)
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Wait for a job in the cluster, telling what it does; exit code 0 when the condition holds, else why not."""
    from raytrain.cluster import jobs
    from raytrain.kubernetes.client import KubernetesApi
    from raytrain_core.errors import ClusterError

    found = None
    for found in jobs.watch(KubernetesApi.connect(), namespace, name, timeout=timeout):
        tell(render.job_line(found))
        if found.conditions.get(until) == "True":
            break
    assert found is not None
    emit(found, render.job(found), output)
    if found.conditions.get(until) != "True":
        raise ClusterError(f"{name} ended as {found.phase}: {found.message}")


@verbs.command()
def cancel(name: Job, namespace: InNamespace = "default", output: Output = Format.TEXT) -> None:
    """End a job in the cluster for good; what is in storage stays, and so does the object."""
    from raytrain.cluster import jobs
    from raytrain.kubernetes.client import KubernetesApi

    jobs.cancel(KubernetesApi.connect(), namespace, name)
    emit({"name": name, "namespace": namespace, "cancelled": True}, f"{name} is being cancelled", output)


@verbs.command()
def delete(name: Job, namespace: InNamespace = "default", output: Output = Format.TEXT) -> None:
    """Remove a job from the cluster with everything it made there; what is in storage stays."""
    from raytrain.cluster import jobs
    from raytrain.kubernetes.client import KubernetesApi

    jobs.delete(KubernetesApi.connect(), namespace, name)
    emit({"name": name, "namespace": namespace, "deleted": True}, f"{name} is removed from {namespace}", output)


@verbs.command()
def logs(
    run: Run,
    *,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the run has ended.")] = False,
    source: Annotated[
        str | None, typer.Option("--source", help="Only driver, rank-000, ...", show_default=False)
    ] = None,
    attempt: Annotated[int | None, typer.Option("--attempt", min=1, help="Only this one.", show_default=False)] = None,
    namespace: Namespace = None,
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Logs of driver and ranks, merged by time.

    They are read from the run's storage: at most half a minute old, and still there when its
    machines are gone.
    """
    from raytrain.runs import logs as reading

    store, layout = open_run(run, storage, namespace)
    if follow:
        lines = reading.follow(store, layout, source=source, attempt=attempt)
    else:
        lines = iter(reading.read(store, layout, source=source, attempt=attempt))
    if output is Format.JSON:
        emit(list(lines), "", output)
        return
    for line in lines:
        say(f"{line.attempt} {line.source}: {line.text}")


@verbs.command()
def doctor(
    namespace: Namespace = None,
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Is everything there? This machine and the storage; with -n the cluster too.

    What lacks is printed with its remedy, and the exit code is 5.
    """
    from raytrain.cluster import doctor as looking
    from raytrain.config.locations import storage_location
    from raytrain.kubernetes.client import KubernetesApi
    from raytrain_core.errors import ExitCode

    found = [*looking.of_this_machine(), looking.of_storage(storage_location(storage))]
    if namespace is not None:
        found += looking.of_cluster(KubernetesApi.connect(), namespace)
    emit(found, render.checkup(found), output)
    if not all(finding.ok for finding in found):
        raise typer.Exit(ExitCode.CLUSTER)


@verbs.command()
def dashboard(
    name: Job,
    namespace: InNamespace = "default",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on this machine.")] = 8265,
    output: Output = Format.TEXT,
) -> None:
    """Ray's dashboard of a job in the cluster, on this machine until Ctrl-C; its token is printed (needs kubectl)."""
    from raytrain.cluster import dashboard as ray_dashboard
    from raytrain.kubernetes.client import KubernetesApi
    from raytrain_core.errors import ClusterError

    found = ray_dashboard.find(KubernetesApi.connect(), namespace, name)
    url = f"http://127.0.0.1:{port}"
    with ray_dashboard.forwarded(found, port) as forwarding:
        emit({"url": url, "token": found.token}, f"{url}\ntoken: {found.token}", output)
        code = forwarding.wait()
    raise ClusterError(f"kubectl port-forward ended with {code}", hint="the run may be over, or the port taken: --port")


@verbs.command("bug-report")
def bug_report(
    name: Job,
    namespace: InNamespace = "default",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to write it.", show_default="NAME-report.zip")
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """What others need to see to help with a job in the cluster, as a zip of its objects and events without secrets."""
    from raytrain.cluster import bug_report as report
    from raytrain.kubernetes.client import KubernetesApi

    file = out or Path(f"{name}-report.zip")
    parts = report.write(KubernetesApi.connect(), namespace, name, file)
    emit(
        {"file": str(file), "parts": parts},
        f"{file} holds {', '.join(parts)}\nsecrets are redacted; read it before you send it",
        output,
    )


def open_run(run: str, storage: str | None, namespace: str | None) -> tuple[Any, Any]:
    """The store and layout of a run; with a namespace, of the FineTuneJob there."""
    if namespace is None:
        return options.open_run(run, storage)
    from raytrain.cluster import jobs
    from raytrain.kubernetes.client import KubernetesApi
    from raytrain.runs import status

    return status.open_run(jobs.run_location(jobs.get(KubernetesApi.connect(), namespace, run), storage))
