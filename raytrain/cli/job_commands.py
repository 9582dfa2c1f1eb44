"""Commands that write, check and run a job file."""

from pathlib import Path
from typing import Annotated

import typer

from raytrain.cli import completion, render
from raytrain.cli.options import JobFile, Output, StorageFlag
from raytrain.cli.output import Format, print_note, print_output, print_text

job_commands = typer.Typer()


@job_commands.command()
def init(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PATH",
            help="The file to write; with --sample, the folder.",
            show_default="job.yaml, or this folder",
        ),
    ] = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="Write a job with rows and a tiny model instead, which runs at once.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> None:
    """Write a job file with comments to start from."""
    if sample:
        from raytrain.config.sample_project import write_sample

        print_note(f"wrote a sample project; next: raytrain run {write_sample(path or Path(), force=force)}")
        return
    from raytrain.config.starter import write_starter

    path = path or Path("job.yaml")
    write_starter(path, force=force)
    print_note(f"wrote {path}; next: fill in your tasks, then run `raytrain check {path}`")


@job_commands.command()
def check(
    job_file: JobFile,
    storage: StorageFlag = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "-n",
            "--namespace",
            metavar="NAME",
            help="Show what it would take in this namespace of the cluster: pods, GPU-hours, storage, cost.",
            show_default=False,
        ),
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Validate a job file and show what it would do.

    Nothing is written or started. Whatever cannot be known without the network is reported as
    unknown.
    """
    from raytrain import check as checking
    from raytrain.config.load import load_job

    loaded = load_job(job_file)
    report = checking.check(loaded.job, storage=storage, base_folder=loaded.base_folder)
    if namespace is not None:
        from raytrain.cluster.check import in_cluster

        report = in_cluster(report, loaded.job, namespace, storage=storage, base_folder=loaded.base_folder)
    print_output(report, render.check(report), output)


@job_commands.command()
def explain(
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="FIELD",
            help="Path of a field, for example training.optimizer. Default: list all fields.",
            autocompletion=completion.fields,
            show_default=False,
        ),
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of job files.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """Explain a field of the job file: meaning, values and default."""
    from raytrain.config import explain as explaining

    if schema:
        from raytrain.config.schema import schema_text

        print_text(schema_text().rstrip())
    elif path is None:
        print_output([explaining.describe(f) for f in explaining.all_fields()], explaining.tree(), output)
    else:
        field = explaining.find_field(path)
        print_output(explaining.describe(field), explaining.in_words(field), output)


@job_commands.command()
def run(
    job_file: JobFile,
    storage: StorageFlag = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Discard earlier attempts and start over.")] = False,
    relative_to: Annotated[
        Path | None,
        typer.Option(
            "--relative-to",
            metavar="FOLDER",
            help="Where relative paths in the job start. Default: the job file's folder.",
            show_default=False,
        ),
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Run a job on this machine, or resume it.

    The same command resumes an interrupted run; a finished run is left as it is. Ctrl-C stops the
    run so that it can be resumed, a second Ctrl-C stops it at once.
    """
    from raytrain.config.load import load_job
    from raytrain.pipeline import run as pipeline
    from raytrain.telemetry.console import Console
    from raytrain.telemetry.kubernetes_status import report_result

    with report_result() as ending:
        loaded = load_job(job_file)
        with Console() as console:
            outcome = pipeline.run(
                loaded.job,
                storage=storage,
                base_folder=relative_to or loaded.base_folder,
                fresh=fresh,
                console=console,
            )
        ending.report = outcome.report_uri
    print_output(outcome, render.outcome(outcome), output)


@job_commands.command("render")
def render_ray_job(
    job_file: JobFile,
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="NAME", help="Container image. Default: the job's image.", show_default=False),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", metavar="NAME", help="Namespace.", show_default=False)
    ] = None,
) -> None:
    """Print the RayJob of a job, for clusters without the operator.

    Start it with `raytrain render job.yaml | kubectl apply -f -`. Retries and status need the
    operator.
    """
    from raytrain.config.load import load_job
    from raytrain.operator.standalone import render_standalone

    print_text(render_standalone(load_job(job_file).job, image=image, namespace=namespace).rstrip())
