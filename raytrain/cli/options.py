"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer

from raytrain.cli import completion
from raytrain.cli.output import Format

JobFile = Annotated[
    Path, typer.Argument(metavar="JOB_FILE", help="The job file, for example job.yaml.", show_default=False)
]
Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run, given by name, by URI (.../runs/NAME) or by its job file.",
        autocompletion=completion.runs,
        show_default=False,
    ),
]
StorageFlag = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URI",
        help=(
            "Folder, or s3://, gs:// or az://bucket/prefix. Default: the job's storage, RAYTRAIN_STORAGE, or "
            "./raytrain-storage."
        ),
        show_default=False,
    ),
]
Output = Annotated[Format, typer.Option("-o", "--output", help="Output format.")]
Namespace = Annotated[
    str | None,
    typer.Option(
        "-n",
        "--namespace",
        metavar="NAME",
        help="Look for the run in this Kubernetes namespace.",
        show_default=False,
    ),
]


def open_run(run: str, storage: str | None, namespace: str | None = None) -> tuple[Any, Any]:
    """Returns the store and the layout of a run; with a namespace, of the FineTuneJob there.

    Raises UsageError if there is no such run.
    """
    from raytrain.runs import status

    if namespace is None:
        from raytrain.config.locations import locate_run

        return status.open_run(locate_run(run, storage))
    from raytrain.cluster import jobs
    from raytrain.kubernetes.client import KubernetesApi

    return status.open_run(jobs.run_location(jobs.get(KubernetesApi.connect(), namespace, run), storage))
