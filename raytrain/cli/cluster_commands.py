"""Commands that submit jobs to a Kubernetes cluster and manage them there."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from raytrain.cli import render
from raytrain.cli.options import JobFile, Namespace, Output, StorageFlag
from raytrain.cli.output import Format, print_note, print_output, print_text

cluster_commands = typer.Typer()

InNamespace = Annotated[str, typer.Option("-n", "--namespace", metavar="NAME", help="Kubernetes namespace.")]
Job = Annotated[str, typer.Argument(metavar="NAME", help="Name of the FineTuneJob.", show_default=False)]


class Until(StrEnum):
    """Conditions that `wait` can wait for."""

    COMPLETE = "Complete"
    DATA_READY = "DataReady"
    RUNNING = "Running"
    EVALUATED = "Evaluated"


@cluster_commands.command()
def install(
    *,
    crd: Annotated[bool, typer.Option("--crd", help="Print the CustomResourceDefinition alone.")] = False,
    everything: Annotated[bool, typer.Option("--print", help="Print all objects, with default settings.")] = False,
    charts: Annotated[
        Path | None,
        typer.Option("--charts", metavar="FOLDER", help="Write both Helm charts into this folder.", show_default=False),
    ] = None,
) -> None:
    """Print what installs the operator, or write its Helm charts.

    Nothing is sent to a cluster; pipe --print into `kubectl apply --server-side -f -`.
    """
    from raytrain.operator.install import packaged
    from raytrain_core.errors import UsageError

    if [crd, everything, charts is not None].count(True) != 1:
        raise UsageError("give one of --print, --crd and --charts FOLDER")
    if charts is not None:
        for chart in packaged.write_charts(charts):
            print_note(f"wrote {chart}")
        return
    print_text((packaged.definition() if crd else packaged.objects()).rstrip())


@cluster_commands.command()
def submit(
    job_file: JobFile,
    namespace: InNamespace = "default",
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Submit a job to the cluster.

    Sources and models on this machine are uploaded to its storage first, unless the same content is
    already there.
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
        say=print_note,
    )
    print_output(sent, f"submitted {sent.name} to namespace {sent.namespace}", output)
    print_note(f"next: raytrain wait {sent.name} -n {sent.namespace}")


@cluster_commands.command()
def wait(
    name: Job,
    namespace: InNamespace = "default",
    until: Annotated[Until, typer.Option("--for", help="Condition to wait for.")] = Until.COMPLETE,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0, metavar="SECONDS", help="Give up after this time.", show_default=False),
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Wait for a job in the cluster and print its progress.

    Ends with exit code 0 once the condition holds, and with an error if the job ends without it.
    """
    from raytrain.cluster import jobs
    from raytrain.kubernetes.client import KubernetesApi
    from raytrain_core.errors import ClusterError

    found = None
    for found in jobs.watch(KubernetesApi.connect(), namespace, name, timeout=timeout):
        print_note(render.job_line(found))
        if found.conditions.get(until) == "True":
            break
    assert found is not None
    print_output(found, render.job(found), output)
    if found.conditions.get(until) != "True":
        raise ClusterError(f"{name} ended as {found.phase}: {found.message}")


@cluster_commands.command()
def cancel(name: Job, namespace: InNamespace = "default", output: Output = Format.TEXT) -> None:
    """Cancel a job in the cluster.

    The FineTuneJob object and everything in storage stay.
    """
    from raytrain.cluster import jobs
    from raytrain.kubernetes.client import KubernetesApi

    jobs.cancel(KubernetesApi.connect(), namespace, name)
    print_output({"name": name, "namespace": namespace, "cancelled": True}, f"cancelling {name}", output)


@cluster_commands.command()
def delete(name: Job, namespace: InNamespace = "default", output: Output = Format.TEXT) -> None:
    """Delete a job from the cluster with all its objects.

    Everything in storage stays.
    """
    from raytrain.cluster import jobs
    from raytrain.kubernetes.client import KubernetesApi

    jobs.delete(KubernetesApi.connect(), namespace, name)
    print_output(
        {"name": name, "namespace": namespace, "deleted": True}, f"deleted {name} from namespace {namespace}", output
    )


@cluster_commands.command()
def doctor(
    namespace: Namespace = None,
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Check this machine and the storage; with -n also the cluster.

    Every problem is printed with its remedy. Ends with exit code 5 if there is one.
    """
    from raytrain.cluster import doctor as looking
    from raytrain.config.locations import storage_location
    from raytrain.kubernetes.client import KubernetesApi
    from raytrain_core.errors import ExitCode

    found = [*looking.of_this_machine(), looking.of_storage(storage_location(storage))]
    if namespace is not None:
        found += looking.of_cluster(KubernetesApi.connect(), namespace)
    print_output(found, render.checkup(found), output)
    if not all(finding.ok for finding in found):
        raise typer.Exit(ExitCode.CLUSTER)


@cluster_commands.command()
def dashboard(
    name: Job,
    namespace: InNamespace = "default",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Local port.")] = 8265,
    output: Output = Format.TEXT,
) -> None:
    """Forward the Ray dashboard of a job in the cluster to this machine.

    Prints its token and forwards until Ctrl-C. Needs kubectl.
    """
    from raytrain.cluster import dashboard as ray_dashboard
    from raytrain.kubernetes.client import KubernetesApi
    from raytrain_core.errors import ClusterError

    found = ray_dashboard.find(KubernetesApi.connect(), namespace, name)
    url = f"http://127.0.0.1:{port}"
    with ray_dashboard.forwarded(found, port) as forwarding:
        print_output({"url": url, "token": found.token}, f"{url}\ntoken: {found.token}", output)
        code = forwarding.wait()
    raise ClusterError(
        f"kubectl port-forward ended with exit code {code}",
        hint="the run may have ended, or the port is in use: try --port",
    )


@cluster_commands.command("bug-report")
def bug_report(
    name: Job,
    namespace: InNamespace = "default",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The file to write.", show_default="NAME-report.zip")
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Collect the objects and events of a job in the cluster for a bug report.

    Writes a zip file. Secrets are removed, but read it before you send it.
    """
    from raytrain.cluster import bug_report as report
    from raytrain.kubernetes.client import KubernetesApi

    file = out or Path(f"{name}-report.zip")
    parts = report.write(KubernetesApi.connect(), namespace, name, file)
    print_output(
        {"file": str(file), "parts": parts},
        f"{file} contains {', '.join(parts)}\nsecrets are redacted; still, read it before you send it",
        output,
    )
